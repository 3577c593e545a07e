"""`gtcbmuf submit`"""

from typing import Any

from gtcbmuf.cli.common import Commands, add_run
from gtcbmuf.cluster.sbatch import OPTIONS


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("submit", help="a training run as a Slurm job: jobs/train.sbatch")
    add_run(parser, "METHOD-WORKERS-seedSEED-CORPUS-FINGERPRINT")
    parser.add_argument(
        "--dry-run", action="store_true", help="show the job's text, submit nothing"
    )
    options = parser.add_argument_group("options of sbatch, in place of those in jobs/train.sbatch")
    for name in OPTIONS:
        options.add_argument(f"--{name}", metavar="VALUE")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Submit a job, or print it."""
    from gtcbmuf.cluster.slurm import check, make_job, submit

    values = ((name, getattr(arguments, name.replace("-", "_"))) for name in OPTIONS)
    options = {name: value for name, value in values if value is not None}
    job = make_job(arguments.config, arguments.set, arguments.out, options)
    if arguments.dry_run:
        print(job.text, flush=True)
        print(f"# {check(job)}")
    else:
        print(submit(job))
