"""`gtcbmuf doctor`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_command, job


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "doctor",
        "find what would slow down or stop a job here",
        "mpirun -n 8 gtcbmuf doctor",
        "srun --nodes=2 --ntasks-per-node=2 gtcbmuf doctor --corpus corpus/medium.h5",
    )
    parser.add_argument(
        "--corpus", type=Path, metavar="FILE.h5", help="check that every host can read this corpus"
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Print the findings."""
    with job() as world:
        from gtcbmuf.cluster.doctor import diagnose, format_findings

        findings = diagnose(world, arguments.corpus)
        if world.rank == 0:
            print(format_findings(findings))
