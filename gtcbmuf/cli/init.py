"""`gtcbmuf init`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "init",
        "write a folder for a new study, with files to edit",
        "gtcbmuf init my-study",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new or empty folder")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Write the folder, and name its files."""
    from gtcbmuf.studies.study_folder import write_study_folder

    for file in write_study_folder(arguments.folder):
        print(arguments.folder / file)
    print(f"next: the commands in {arguments.folder / 'README.md'}")
