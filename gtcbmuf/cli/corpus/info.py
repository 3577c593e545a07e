"""`gtcbmuf corpus info`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "info",
        "describe a corpus file",
        "gtcbmuf corpus info corpus/tiny.h5",
        "gtcbmuf corpus info corpus/tiny.h5 --picture utterance.png",
    )
    parser.add_argument("corpus", type=Path, metavar="FILE.h5", help="corpus file")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE.png", help="draw an utterance with its phones"
    )
    parser.add_argument(
        "--utterance", metavar="NAME", help="utterance to draw (default: the first of train)"
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Describe a corpus."""
    from gtcbmuf.data.corpus import open_corpus
    from gtcbmuf.data.inspection import describe_corpus, draw_utterance

    corpus = open_corpus(arguments.corpus)
    print(describe_corpus(corpus))
    if arguments.picture:
        draw_utterance(corpus, arguments.utterance or corpus.train.names[0], arguments.picture)
