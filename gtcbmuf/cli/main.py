"""`gtcbmuf COMMAND`: finds the command and runs it; every user error is one line and a status."""

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
    plan,
    report,
    reproduce,
    score,
    submit,
    topology,
    train,
)
from gtcbmuf.cli.common import Parser, refuse

#: In the order in which `--help` lists them.
COMMANDS = (
    *(train, submit, topology, doctor),
    *(score, forward, report, reproduce),
    *(plan, bench, calibrate, corpus),
)

_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def parser() -> Parser:
    """The parser of the whole command line."""
    whole = Parser(prog="gtcbmuf", description="Two-tiered distributed training: GTC and BMUF.")
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return whole


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a user error prints one line and exits with status 2."""
    # One BLAS thread a rank unless told otherwise: more are several times slower where ranks
    # share cores. Read when NumPy is loaded, so set before that.
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")
    for variable in _THREADS:
        os.environ.setdefault(variable, threads)
    # Looking for garbage among all that imports make takes a tenth of the start.
    gc.set_threshold(100_000)
    parsed = parser().parse_args(arguments)
    try:
        parsed.run(parsed)
        sys.stdout.flush()
    except UserError as error:
        refuse(str(error), error.status)
    except KeyboardInterrupt:  # not under MPI, whose commands run in `common.job`
        refuse("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of this output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
