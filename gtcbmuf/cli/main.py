"""The program `gtcbmuf`: parses the command line and runs a command. User errors print one line."""

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
    """Make the parser of the whole command line."""
    main_parser = Parser(
        prog="gtcbmuf", description="Two-tiered distributed training: GTC and BMUF."
    )
    main_parser.add_argument("--version", action="version", version=__version__)
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
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
