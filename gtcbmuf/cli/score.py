"""`gtcbmuf score`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, job


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("score", help="frame and phone error rates of a model")
    parser.add_argument("model", type=Path, metavar="MODEL.h5")
    parser.add_argument("corpus", type=Path, metavar="CORPUS.h5")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="test")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="all of it, by utterance too")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="of the confusions")
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
