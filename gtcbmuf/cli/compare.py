"""`gtcbmuf compare`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "compare",
        "compare scored models on the same utterances, with confidence intervals",
        "gtcbmuf compare hybrid.json --baseline sgd.json",
        "gtcbmuf compare hybrid-*.json --baseline sgd-*.json",
    )
    parser.add_argument(
        "scores",
        nargs="+",
        type=Path,
        metavar="FILE.json",
        help="file of gtcbmuf score --out; several files are seeds of one method",
    )
    parser.add_argument(
        "--baseline",
        nargs="+",
        type=Path,
        required=True,
        metavar="FILE.json",
        help="the same for the method to compare with",
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Print the comparison."""
    from gtcbmuf.studies.compare_scores import compare_scores

    print(compare_scores(arguments.baseline, arguments.scores))
