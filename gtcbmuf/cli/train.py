"""`gtcbmuf train`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_run, job


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("train", help="train a model, alone or under mpirun or srun")
    add_run(parser, "METHOD-WORKERS-seedSEED")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the run's last checkpoint, if there is one",
    )
    parser.add_argument(
        "--resume-weights", type=Path, metavar="MODEL.h5", help="start with these weights, no more"
    )
    parser.add_argument(
        "--scratch", type=Path, metavar="DIR", help="on a disk of each host: copy the corpus there"
    )
    parser.add_argument(
        "--no-test",
        action="store_false",
        dest="test",
        help="leave the test set alone: for runs that are there to choose between",
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Train a model."""
    with job() as world:
        from gtcbmuf.training.run import train

        train(
            arguments.config,
            arguments.set,
            arguments.out,
            world=world,
            resume=arguments.resume,
            weights=arguments.resume_weights,
            scratch=arguments.scratch,
            test=arguments.test,
        )
