"""`gtcbmuf corpus verify`"""

from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError
from gtcbmuf.cli.common import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "verify",
        "check a corpus file for damage",
        "gtcbmuf corpus verify corpus/tiny.h5",
    )
    parser.add_argument("corpus", type=Path, metavar="FILE.h5", help="corpus file")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Check the corpus for damage and for features that are not finite."""
    from gtcbmuf.data.corpus import find_damage, open_corpus
    from gtcbmuf.data.inspection import find_nonfinite_features

    faults = []
    if damage := find_damage(arguments.corpus):
        faults.append(f"damaged: {'; '.join(damage)}")
    if nonfinite := find_nonfinite_features(open_corpus(arguments.corpus)):
        faults.append(f"NaN or infinite features: {'; '.join(nonfinite)}")
    if faults:
        raise UserError(f"{arguments.corpus}: {'; '.join(faults)}")
    print(f"{arguments.corpus}: every byte is as it was written")
