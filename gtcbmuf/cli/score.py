"""`gtcbmuf score`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_command, job


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "score",
        "compute frame and phone error rates of a model",
        "gtcbmuf score runs/hybrid/model.h5 corpus/quickstart.h5",
        "mpirun -n 8 gtcbmuf score runs/hybrid/model.h5 corpus/quickstart.h5 --out score.json",
    )
    parser.add_argument("model", type=Path, metavar="MODEL.h5", help="model of a finished run")
    parser.add_argument("corpus", type=Path, metavar="CORPUS.h5", help="corpus file")
    parser.add_argument(
        "--split",
        choices=("train", "valid", "test"),
        default="test",
        help="split of the corpus (default: test)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="write all results, also by utterance"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE.png", help="draw the confusions of the phones"
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Score a model."""
    with job() as world:
        from gtcbmuf.acoustic.score import score

        score(
            world,
            arguments.model,
            arguments.corpus,
            arguments.split,
            arguments.out,
            arguments.picture,
        )
