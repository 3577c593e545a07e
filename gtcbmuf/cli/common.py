"""Parts that several commands share: the parser, user errors, options, the world of a job."""

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.output import warn
from gtcbmuf.mpi import launcher

#: The object that `argparse` returns from `add_subparsers`.
Commands = Any

#: Seconds that another rank leaves rank 0 to report an error.
_REPORT_TIME = 5.0


class Parser(argparse.ArgumentParser):
    """A parser that keeps the lines of its texts, and reports an error in one line, on one rank.

    For an unknown option, the line lists the valid options.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **settings})
        # A shell does not expand --out=~/run.
        self.register("type", Path, lambda text: Path(os.path.expanduser(text)))

    def parse_known_args(self, *arguments: Any) -> Any:  # type: ignore[override]
        namespace, unknown = super().parse_known_args(*arguments)
        if unknown:
            known = ", ".join(
                option for option in self._option_string_actions if option.startswith("--")
            )
            self.error(f"unrecognized arguments: {' '.join(unknown)}; the options are {known}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        refuse(f"{message}; see {self.prog} --help", UserError.status)


def refuse(message: str, status: int) -> NoReturn:
    """Exit on every rank, before MPI starts; rank 0 prints the message.

    Args:
        message: the user error.
        status: exit status.
    """
    if launcher.rank() == 0:
        warn(f"gtcbmuf: {message}")
    elif launcher.name() == "Open MPI's mpirun":
        # Open MPI's mpirun kills all ranks when the first one fails. Other launchers wait for all
        # ranks, or, like srun, may give the job the status of a killed rank.
        time.sleep(_REPORT_TIME)
    raise SystemExit(status) from None


@contextmanager
def job(*, alone: bool = False) -> Iterator[Any]:
    """Start MPI and run a job that ends on all ranks if one rank fails: a context manager.

    Args:
        alone: whether a process without a launcher does without MPI.

    Yields:
        MPI's world.
    """
    world = launcher.start(alone=alone)

    from gtcbmuf.mpi.job import job

    with job(world):
        yield world


def compile_kernels() -> None:
    """Compile the kernels of all imported modules, in a command without MPI.

    Rank 0 prints a line if Numba's cache cannot be used.
    """
    from gtcbmuf.base.jit import compile_kernels
    from gtcbmuf.base.kernel_cache import take_fault

    compile_kernels()
    fault = take_fault()
    if fault and launcher.rank() == 0:
        warn(str(fault))


def add_command(commands: Commands, name: str, summary: str, *examples: str) -> Parser:
    """Add a command to a parser.

    Args:
        commands: the commands of the parser.
        name: name of the command.
        summary: what the command does, as the list of all commands shows it: no capital, no stop.
        examples: command lines for the end of the command's help.

    Returns:
        The parser of the command.
    """
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=format_examples(*examples),
    )
    return parser


def format_examples(*examples: str) -> str:
    """Format command lines as the end of a help.

    >>> print(format_examples("gtcbmuf train sgd"))
    Examples:
      gtcbmuf train sgd
    """
    return "\n  ".join(("Examples:", *examples))


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the options of a configuration."""
    parser.add_argument("config", metavar="CONFIG", help="TOML file or recipe, such as gtc-bmuf")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a key of the configuration (repeatable)",
    )


def add_run(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options of a run: configuration and run directory.

    Args:
        parser: parser of the command.
        name: default name of the run directory under runs/.
    """
    add_config(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"run directory (default: runs/{name})"
    )


def add_cluster(parser: argparse._ActionsContainer, *, several: bool = False) -> None:
    """Add the options of a cluster's profile.

    Args:
        parser: of the command.
        several: whether there may be several networks.
    """
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE.toml", help="cluster file from gtcbmuf calibrate"
    )
    parser.add_argument(
        "--network",
        type=Path,
        nargs="+" if several else None,
        metavar="FILE.toml",
        help="cluster file with another network (default: that of --cluster)"
        + ("; comparison takes several" if several else ""),
    )
    parser.add_argument(
        "--elsewhere",
        action="store_true",
        help="accept a cluster file of another processor than this host's",
    )


def check_one_process(command: str) -> None:
    """Check that a launcher, if any, started this process alone.

    Args:
        command: name of the command, for the message.

    Raises:
        UserError: it started several processes.
    """
    if launcher.size() > 1:
        raise UserError(
            f"{command}: {launcher.name()} started {launcher.size()} processes; expected 1, "
            "because this command does not run on several ranks"
        )


def check_rounds(rounds: int) -> None:
    """Check a number of rounds.

    Raises:
        UserError: it is below 1.
    """
    if rounds < 1:
        raise UserError(f"--rounds {rounds}: expected 1 or more")
