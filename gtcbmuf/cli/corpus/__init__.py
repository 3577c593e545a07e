"""`gtcbmuf corpus`: one file per subcommand."""

from gtcbmuf.cli.common import Commands
from gtcbmuf.cli.corpus import import_audio, import_kaldi, info, synth, verify

#: In the order in which `--help` lists them.
COMMANDS = (synth, import_kaldi, import_audio, info, verify)


def add(commands: Commands) -> None:
    """Add the command with its subcommands."""
    parser = commands.add_parser("corpus", help="make a corpus, look at it, check it")
    subcommands = parser.add_subparsers(dest="corpus_command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(subcommands)
