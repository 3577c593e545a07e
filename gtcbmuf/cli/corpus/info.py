"""`gtcbmuf corpus info`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("info", help="say what is in a corpus")
    parser.add_argument("corpus", type=Path, metavar="FILE.h5")
    parser.add_argument("--utterance", metavar="NAME", help="to draw (default: the first)")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="of it, with its phones")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Describe a corpus."""
    from gtcbmuf.data.corpus import open_corpus
    from gtcbmuf.data.inspection import describe_corpus, draw_utterance

    corpus = open_corpus(arguments.corpus)
    print(describe_corpus(corpus))
    if arguments.picture:
        draw_utterance(corpus, arguments.utterance or corpus.train.names[0], arguments.picture)
