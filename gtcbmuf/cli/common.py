"""What several commands share: the parser, refusals, groups of options, a job's world."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from gtcbmuf.base.errors import UserError
from gtcbmuf.mpi import launcher

#: What `add_parser` is called on.
Commands = Any

#: Seconds that rank 0 has to report an error before another rank ends.
_LATER = 5.0


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, from one rank; an unknown option gets the known ones."""

    def parse_known_args(self, *arguments: Any) -> Any:  # type: ignore[override]
        parsed, unknown = super().parse_known_args(*arguments)
        if unknown:
            known = ", ".join(
                option for option in self._option_string_actions if option.startswith("--")
            )
            self.error(f"unrecognized arguments: {' '.join(unknown)}; the options are {known}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        refuse(f"{message}; see {self.prog} --help", UserError.status)


def refuse(message: str, status: int) -> NoReturn:
    """End every rank with that status, before there is an MPI; rank 0 prints the message."""
    if launcher.rank() == 0:
        print(f"gtcbmuf: {message}", file=sys.stderr, flush=True)
    elif launcher.name() == "Open MPI's mpirun":
        # It ends all ranks with the first that fails. Others wait for all, or, as srun may, give
        # the job the status of what they kill.
        time.sleep(_LATER)
    raise SystemExit(status) from None


@contextmanager
def job() -> Iterator[Any]:
    """The world, for a body that ends on all ranks, whatever happens on one."""
    world = launcher.start()

    from gtcbmuf.mpi.job import job

    with job(world):
        yield world


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the options that configure a run."""
    parser.add_argument("config", metavar="CONFIG", help="a TOML file, or the name of a recipe")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a key of the configuration; may be repeated",
    )


def add_run(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options that say which run it is.

    Args:
        parser: of the command.
        name: of the default run directory under runs/.
    """
    add_config(parser)
    parser.add_argument("--out", type=Path, help=f"run directory (default: runs/{name})")


def add_cluster(parser: argparse._ActionsContainer) -> None:
    """Add the options that say which cluster a plan is for."""
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE.toml", help="what `gtcbmuf calibrate` measured"
    )
    parser.add_argument(
        "--network", type=Path, metavar="FILE.toml", help="another network than the cluster's"
    )
    parser.add_argument(
        "--elsewhere", action="store_true", help="the cluster has other processors than this host"
    )


def check_rounds(rounds: int) -> None:
    """Refuse a number of rounds below 1.

    Raises:
        UserError: it is.
    """
    if rounds < 1:
        raise UserError(f"--rounds {rounds}: expected 1 or more")
