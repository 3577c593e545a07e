"""The commands of `gtcbmuf`, and the parser of the whole command line."""

import argparse
from types import ModuleType

from gtcbmuf import __version__
from gtcbmuf.cli import (
    bench,
    calibrate,
    compare,
    corpus,
    doctor,
    forward,
    init,
    plan,
    report,
    reproduce,
    score,
    submit,
    topology,
    train,
)
from gtcbmuf.cli.common import Parser, check_one_process, format_examples
from gtcbmuf.cli.completion import SHELLS, PrintCompletion

#: The commands by what they are for, as `--help` lists them. A command has the name of its module.
GROUPS = {
    "train": (init, train, submit, topology, doctor),
    "data": (corpus,),
    "results": (score, compare, forward, report, reproduce),
    "cluster": (plan, calibrate, bench),
}
#: The commands that run on any number of ranks. Each of the others is one process.
_ON_RANKS = (train, topology, doctor, score, calibrate, bench, corpus.align)
_EXAMPLES = (
    "mpirun -n 8 gtcbmuf train gtc-bmuf --set topology.group_size=4 --out runs/hybrid",
    "gtcbmuf corpus synth --hours 0.5 --out corpus/quickstart.h5",
    "gtcbmuf score runs/hybrid/model.h5 corpus/quickstart.h5",
    "gtcbmuf plan --workers 128 --parameters 5.6e6 --cluster cluster.toml",
)


class _GroupedHelp(argparse.RawDescriptionHelpFormatter):
    """A help that lists the commands by group."""

    def add_argument(self, action: argparse.Action) -> None:
        if action.dest != "command":
            super().add_argument(action)
            return
        lines = {line.dest: line for line in action._get_subactions()}  # type: ignore[attr-defined]
        for group, commands in GROUPS.items():
            self.start_section(group)
            self.add_arguments(lines[_name(command)] for command in commands)
            self.end_section()


def parser() -> Parser:
    """Make the parser of the whole command line."""
    main_parser = Parser(
        prog="gtcbmuf",
        description="Train acoustic models on many workers: GTC inside groups, BMUF across them.",
        epilog=f"{format_examples(*_EXAMPLES)}\n\ngtcbmuf COMMAND --help describes a command.",
        formatter_class=_GroupedHelp,
        add_help=False,  # the commands come before the options
    )
    commands = main_parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )
    for group in GROUPS.values():
        for command in group:
            command.add(commands)
    options = main_parser.add_argument_group("options")
    options.add_argument("-h", "--help", action="help", help="show this help message and exit")
    options.add_argument(
        "--version", action="version", version=__version__, help="show the version and exit"
    )
    options.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        metavar="SHELL",
        help="print the completion script of bash, zsh or tcsh",
    )
    return main_parser


def check_processes(command: str, subcommand: str | None) -> None:
    """Check that a command which is one process was started once.

    Args:
        command: name of the command.
        subcommand: name of its subcommand, if it has any.

    Raises:
        UserError: a launcher started several processes of it.
    """
    if (subcommand or command) not in map(_name, _ON_RANKS):
        check_one_process(command)


def _name(command: ModuleType) -> str:
    return command.__name__.rpartition(".")[2]
