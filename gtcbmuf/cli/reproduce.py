"""`gtcbmuf reproduce`"""

from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError
from gtcbmuf.cli.common import Commands, add_cluster, add_command

#: Studies that consist of runs.
_RUNS = ("tuning", "choices", "error-table")
#: Studies that model a cluster.
_MODELS = ("speedup-table", "trade-off", "comparison")
#: The studies that take an option, for options that not all of them take.
_OPTIONS = {
    "seeds": ("error-table",),
    **dict.fromkeys(("slurm", "dry-run"), _RUNS),
    **dict.fromkeys(("cluster", "network", "elsewhere"), _MODELS),
}


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "reproduce",
        "reproduce the paper's tables, or run your own study",
        "gtcbmuf reproduce error-table --results mine",
        "gtcbmuf reproduce tuning --preset mine.toml",
        "gtcbmuf reproduce trade-off --preset full --cluster cluster.toml",
        "gtcbmuf reproduce comparison --preset rivals-32 --cluster c.toml --network a.toml b.toml",
    )
    parser.add_argument(
        "study",
        metavar="STUDY",
        choices=(*_RUNS, *_MODELS),
        help=f"{', '.join(_RUNS)} (training runs); {', '.join(_MODELS)} (cost model)",
    )
    parser.add_argument(
        "--preset",
        default="quick",
        help="quick, full, large, real, rivals-32, rivals-128, or a TOML file (default: quick)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="SEED",
        help="seeds of error-table (default: those of the preset)",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder for tables and plots (default: results)",
    )
    parser.add_argument(
        "--slurm",
        action="store_true",
        help="submit the runs as arrays of jobs/train.sbatch",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="with --slurm: print the jobs, submit nothing"
    )
    add_cluster(parser.add_argument_group("speedup-table, trade-off and comparison"), several=True)
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Check the options, and reproduce the study."""
    for option, studies in _OPTIONS.items():
        if arguments.study not in studies and getattr(arguments, option.replace("-", "_")):
            raise UserError(f"--{option}: only with {', '.join(studies)}, not {arguments.study}")
    if arguments.dry_run and not arguments.slurm:
        raise UserError("--dry-run: only with --slurm")
    from gtcbmuf.studies.reproduce import reproduce_model, reproduce_runs

    study = arguments.study, arguments.preset, arguments.results
    if arguments.study in _MODELS:
        reproduce_model(
            *study,
            cluster=arguments.cluster,
            networks=arguments.network or [],
            elsewhere=arguments.elsewhere,
        )
    else:
        reproduce_runs(
            *study,
            seeds=arguments.seeds,
            launch="dry-run" if arguments.dry_run else "slurm" if arguments.slurm else "mpirun",
        )
