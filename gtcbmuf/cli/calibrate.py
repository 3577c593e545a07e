"""`gtcbmuf calibrate`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, check_rounds, job


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "calibrate", help="measure what plan wants to know of a cluster; under mpirun or srun"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.toml")
    parser.add_argument("--rounds", type=int, default=15, help="of each measurement (15)")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Measure a cluster."""
    check_rounds(arguments.rounds)
    with job() as world:
        from gtcbmuf.cluster.calibrate import calibrate
        from gtcbmuf.cluster.profile import write_profile

        profile = calibrate(world, arguments.rounds)
        if world.rank == 0:
            write_profile(arguments.out, profile)
