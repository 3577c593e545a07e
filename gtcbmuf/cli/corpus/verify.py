"""`gtcbmuf corpus verify`"""

from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError
from gtcbmuf.cli.common import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("verify", help="find out whether a byte was changed")
    parser.add_argument("corpus", type=Path, metavar="FILE.h5")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Check the corpus for damage."""
    from gtcbmuf.data.corpus import find_damage

    damage = find_damage(arguments.corpus)
    if damage:
        raise UserError(f"{arguments.corpus}: damaged: {'; '.join(damage)}")
    print(f"{arguments.corpus}: every byte is as it was written")
