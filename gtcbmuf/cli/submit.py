"""`gtcbmuf submit`"""

from typing import Any

from gtcbmuf.cli.common import Commands, add_command, add_run
from gtcbmuf.cluster.sbatch import OPTIONS


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "submit",
        "submit a training run as a Slurm job",
        "gtcbmuf submit gtc-bmuf --set topology.group_size=node --nodes 4 --time 02:00:00",
        "gtcbmuf submit run.toml --partition short --dry-run",
    )
    add_run(parser, "METHOD-WORKERS-seedSEED-CORPUS-FINGERPRINT")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the job's script, submit nothing"
    )
    options = parser.add_argument_group("options of sbatch that replace those in jobs/train.sbatch")
    for name in OPTIONS:
        options.add_argument(f"--{name}", metavar="VALUE", help="as for sbatch")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Submit a job, or print it."""
    from gtcbmuf.cluster.slurm import check, make_job, submit

    values = ((name, getattr(arguments, name.replace("-", "_"))) for name in OPTIONS)
    options = {name: value for name, value in values if value is not None}
    job = make_job(arguments.config, arguments.set, arguments.out, options)
    if arguments.dry_run:
        print(job.text, flush=True)
        print(f"# {job.origin}\n# {check(job)}")
    else:
        print(submit(job))
