"""Lines on stdout and stderr, where these cannot be written to, such as on a full disk.

A path may hold bytes that are not text. They are shown as escapes, such as `\\udcff`.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, TextIO

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import reason

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class StdoutError(OSError):
    """Stdout cannot be written to, for another reason than that its reader has exited."""


def say(line: str) -> None:
    """Print a line of a job that continues if stdout cannot be written to.

    The first such failure is reported on stderr.

    Raises:
        BrokenPipeError: the reader of stdout, such as `head`, has exited.
    """
    try:
        _print(line, sys.stdout)
    except BrokenPipeError:
        raise
    except OSError as error:
        _report_lost_lines(reason(error))


def warn(line: str) -> None:
    """Print a line on stderr. Do nothing if stderr cannot be written to."""
    stream = sys.stderr
    with suppress(OSError):
        if isinstance(stream, io.TextIOWrapper) and stream is sys.__stderr__:
            # Past the buffer: at its end, Python would try to write the rest of it once more, and
            # change the status of this process.
            os.write(stream.fileno(), f"{line}\n".encode(stream.encoding, "backslashreplace"))
        else:
            _print(line, stream)


@contextmanager
def writing_stdout() -> Iterator[None]:
    """Turn write errors of stdout in the `with` block into user errors.

    If `say` has reported an error, then the block has continued in spite of it, and it is no user
    error.

    Raises:
        UserError: stdout cannot be written to.
        BrokenPipeError: the reader of stdout, such as `head`, has exited.
    """
    original = sys.stdout
    if isinstance(original, io.TextIOWrapper) and original is sys.__stdout__:
        sys.stdout = _checked(original)
    try:
        yield
        _print("", sys.stdout, end="")
    except StdoutError as error:
        if not _report_lost_lines.cache_info().currsize:
            raise UserError(f"stdout: cannot be written: {reason(error)}") from None
    except SystemExit:
        with suppress(StdoutError):
            _print("", sys.stdout, end="")
        raise
    finally:
        sys.stdout = original


class _RawStdout(io.FileIO):
    """Stdout without a buffer, whose errors differ from those of other files."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StdoutError(error.errno, error.strerror) from None


def _checked(stdout: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream like stdout that raises `StdoutError` and can write any text."""
    stdout.flush()
    raw = _RawStdout(stdout.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        raw if stdout.write_through else io.BufferedWriter(raw),
        encoding=stdout.encoding,
        errors="backslashreplace",
        line_buffering=stdout.line_buffering,
        write_through=stdout.write_through,
    )


def _print(line: str, stream: TextIO | None, end: str = "\n") -> None:
    if stream is not None:  # as stdout is if the shell closed it: >&-
        text = line.encode(stream.encoding or "utf-8", "backslashreplace")
        print(text.decode(stream.encoding or "utf-8"), file=stream, end=end, flush=True)


@cache
def _report_lost_lines(fault: str) -> None:
    warn(f"gtcbmuf: stdout: cannot be written: {fault}; training continues")


def format_duration(seconds: float) -> str:
    """Format a duration in minutes and seconds, or in hours and minutes.

    >>> format_duration(75), format_duration(7500)
    ('1 min 15 s', '2 h 5 min')
    """
    minutes = round(seconds) // 60
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {round(seconds) % 60} s"
