"""`gtcbmuf reproduce`"""

from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError
from gtcbmuf.cli.common import Commands, add_cluster

#: Studies that consist of runs.
_RUNS = ("tuning", "choices", "error-table")
#: Options that not all studies have.
_OPTIONS = {
    "seeds": ("error-table",),
    **dict.fromkeys(("slurm", "dry-run"), _RUNS),
    **dict.fromkeys(("cluster", "network", "elsewhere"), ("speedup-table", "trade-off")),
}


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("reproduce", help="a study of many runs: the paper's tables")
    parser.add_argument("study", choices=(*_RUNS, "speedup-table", "trade-off"))
    parser.add_argument(
        "--preset",
        default="quick",
        help="quick (default), full, or a TOML file of your own (docs/studies.md)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help="of error-table")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR")
    parser.add_argument(
        "--slurm", action="store_true", help="submit the runs as arrays of jobs/train.sbatch"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="with --slurm: show the jobs, submit nothing"
    )
    add_cluster(parser.add_argument_group("of speedup-table and trade-off"))
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Do what is left of a study."""
    for option, studies in _OPTIONS.items():
        if arguments.study not in studies and getattr(arguments, option.replace("-", "_")):
            raise UserError(f"--{option}: only with {', '.join(studies)}, not {arguments.study}")
    if arguments.study not in _RUNS:
        from gtcbmuf.cluster.plan import read_cluster
        from gtcbmuf.studies.presets import read_preset
        from gtcbmuf.studies.speedup_table import reproduce_speedup_table
        from gtcbmuf.studies.trade_off import reproduce_trade_off

        preset = read_preset(arguments.preset)
        files = (arguments.cluster, arguments.network)
        compute, network = read_cluster(*files, elsewhere=arguments.elsewhere)
        cluster = " with the network of ".join(str(file) for file in files if file)
        folder = arguments.results / preset.name
        if arguments.study == "speedup-table":
            reproduce_speedup_table(compute, network, cluster, folder)
        else:
            reproduce_trade_off(preset, compute, network, cluster, folder)
        return
    from gtcbmuf.studies.runner import reproduce

    if arguments.dry_run and not arguments.slurm:
        raise UserError("--dry-run: only with --slurm")
    reproduce(
        arguments.study,
        arguments.preset,
        arguments.seeds,
        arguments.results,
        by="nobody" if arguments.dry_run else "slurm" if arguments.slurm else "mpirun",
    )
