"""`gtcbmuf calibrate`"""

from pathlib import Path
from typing import Any

from gtcbmuf.base.files import check_output
from gtcbmuf.cli.common import Commands, add_command, check_rounds, job


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "calibrate",
        "measure a cluster for gtcbmuf plan",
        "gtcbmuf calibrate --out host.toml",
        "srun --nodes=2 --ntasks-per-node=2 --exclusive gtcbmuf calibrate --out cluster.toml",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.toml", help="cluster file to write"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=15,
        metavar="N",
        help="rounds of each measurement (default: 15)",
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Measure a cluster."""
    check_rounds(arguments.rounds)
    with job() as world:
        from gtcbmuf.cluster.calibrate import calibrate
        from gtcbmuf.cluster.profile import write_profile
        from gtcbmuf.mpi.job import on_root

        on_root(world, lambda: check_output(arguments.out, "--out"))
        profile = calibrate(world, arguments.rounds)
        if world.rank == 0:
            write_profile(arguments.out, profile)
