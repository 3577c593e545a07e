"""The program `gtcbmuf`: runs a command. User errors print one line.

This module loads little, so that a signal soon after the start finds its handler.
"""

import gc
import os
import signal
import sys

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.signals import end_on_signals, remember_stop_signals


def main(arguments: list[str] | None = None) -> None:
    """Run a command. A user error prints one line and exits with status 2.

    Args:
        arguments: words of the command line; those of this process by default.
    """
    if arguments is None:
        # `python -m` and an empty entry of PYTHONPATH would find a user's random.py here.
        sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["train"]:
        remember_stop_signals()
    # A site's setting of this variable would lock files that are opened without a lock.
    os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
    # At the default threshold, garbage collection takes a tenth of the start, during imports.
    gc.set_threshold(100_000)
    from gtcbmuf.base.output import writing_stdout
    from gtcbmuf.base.threads import set_threads
    from gtcbmuf.cli.common import refuse
    from gtcbmuf.mpi import launcher

    if arguments is None and words[:1] != ["train"] and launcher.size() == 1:
        end_on_signals()
    try:
        from gtcbmuf.cli.commands import check_processes, parser

        with writing_stdout():
            options = parser().parse_args(words)
            check_processes(options.command, getattr(options, "corpus_command", None))
            set_threads()
            options.run(options)
    except UserError as error:
        refuse(str(error), error.status)
    except KeyboardInterrupt:  # without MPI; commands under MPI run in `common.job`
        refuse("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of this output, such as head, has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
