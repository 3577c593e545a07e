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
    """Check the corpus for damage."""
    from gtcbmuf.data.corpus import find_damage

    damage = find_damage(arguments.corpus)
    if damage:
        raise UserError(f"{arguments.corpus}: damaged: {'; '.join(damage)}")
    print(f"{arguments.corpus}: every byte is as it was written")
