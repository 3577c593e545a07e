"""`gtcbmuf corpus`: one file per subcommand."""

from gtcbmuf.cli.common import Commands, add_command
from gtcbmuf.cli.corpus import align, import_audio, import_kaldi, info, synth, verify

#: In the order in which `--help` lists them.
COMMANDS = (synth, align, import_audio, import_kaldi, info, verify)


def add(commands: Commands) -> None:
    """Add the command with its subcommands."""
    parser = add_command(
        commands,
        "corpus",
        "make, inspect or verify a corpus file",
        "gtcbmuf corpus synth --preset tiny --out corpus/tiny.h5",
        "gtcbmuf corpus info corpus/tiny.h5",
    )
    subcommands = parser.add_subparsers(
        dest="corpus_command", required=True, metavar="COMMAND", title="commands"
    )
    for command in COMMANDS:
        command.add(subcommands)
