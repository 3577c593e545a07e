"""`gtcbmuf doctor`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, job


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor", help="what would slow a job down or stop it here; under mpirun or srun"
    )
    parser.add_argument("--corpus", type=Path, metavar="FILE.h5", help="to be read from every host")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Print the findings."""
    with job() as world:
        from gtcbmuf.cluster.doctor import diagnose, format_findings

        findings = diagnose(world, arguments.corpus)
        if world.rank == 0:
            print(format_findings(findings))
