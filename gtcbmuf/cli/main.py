"""The program `gtcbmuf`: parses the command line and runs a command. User errors print one line."""

import argparse
import gc
import os
import signal
import sys

from gtcbmuf import __version__
from gtcbmuf.base.errors import UserError
from gtcbmuf.cli import (
    bench,
    calibrate,
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
from gtcbmuf.cli.common import Parser, format_examples, refuse
from gtcbmuf.cli.completion import SHELLS, PrintCompletion

#: The commands by what they are for, as `--help` lists them. A command has the name of its module.
GROUPS = {
    "train": (init, train, submit, topology, doctor),
    "data": (corpus,),
    "results": (score, forward, report, reproduce),
    "cluster": (plan, calibrate, bench),
}
_EXAMPLES = (
    "mpirun -n 8 gtcbmuf train gtc-bmuf --set topology.group_size=4 --out runs/hybrid",
    "gtcbmuf corpus synth --hours 0.5 --out corpus/quickstart.h5",
    "gtcbmuf score runs/hybrid/model.h5 corpus/quickstart.h5",
    "gtcbmuf plan --workers 128 --parameters 5.6e6 --cluster cluster.toml",
)

_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class _GroupedHelp(argparse.RawDescriptionHelpFormatter):
    """A help that lists the commands by group."""

    def add_argument(self, action: argparse.Action) -> None:
        if action.dest != "command":
            super().add_argument(action)
            return
        lines = {line.dest: line for line in action._get_subactions()}  # type: ignore[attr-defined]
        for group, commands in GROUPS.items():
            self.start_section(group)
            self.add_arguments(lines[command.__name__.rpartition(".")[2]] for command in commands)
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


def main(arguments: list[str] | None = None) -> None:
    """Run a command. A user error prints one line and exits with status 2.

    Args:
        arguments: words of the command line; those of this process by default.
    """
    # One BLAS thread per rank by default: more threads are several times slower where ranks share
    # cores. NumPy reads the variables when it is loaded, so they must be set before that.
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")
    for variable in _THREADS:
        os.environ.setdefault(variable, threads)
    # At the default threshold, garbage collection takes a tenth of the start, during imports.
    gc.set_threshold(100_000)
    options = parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except UserError as error:
        refuse(str(error), error.status)
    except KeyboardInterrupt:  # without MPI; commands under MPI run in `common.job`
        refuse("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of this output, such as head, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
