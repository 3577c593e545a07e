"""`gtcbmuf train`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_command, add_run, job


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "train",
        "train a model, alone or under mpirun or srun",
        "gtcbmuf train sgd --set corpus.path=corpus/tiny.h5",
        "mpirun -n 8 gtcbmuf train gtc-bmuf --set topology.group_size=4 --out runs/hybrid",
        "mpirun -n 8 gtcbmuf train runs/hybrid/config.toml --set train.seed=1",
        "gtcbmuf train gtc-bmuf --workers 128 --set topology.group_size=16",
    )
    add_run(parser, "METHOD-WORKERS-seedSEED")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of workers, on a machine with fewer cores: every rank carries as many of them "
        "(default: a rank is a worker)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the last checkpoint in the run directory, if any",
    )
    parser.add_argument(
        "--resume-weights",
        type=Path,
        metavar="MODEL.h5",
        help="start a new run from the weights of a saved model",
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        metavar="DIR",
        help="copy the corpus to this folder on a local disk of each host",
    )
    parser.add_argument(
        "--no-test",
        action="store_false",
        dest="test",
        help="skip the test set, for tuning runs",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="also write the curves of metrics.jsonl to DIR/tensorboard",
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Train a model."""
    with job(alone=arguments.workers is not None) as world:
        from gtcbmuf.training.run import train

        train(
            arguments.config,
            arguments.set,
            arguments.out,
            world=world,
            workers=arguments.workers,
            resume=arguments.resume,
            weights=arguments.resume_weights,
            scratch=arguments.scratch,
            test=arguments.test,
            tensorboard=arguments.tensorboard,
        )
