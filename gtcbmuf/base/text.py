"""Reads text files, as editors on any system write them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

#: Fault of a file in UTF-16, for messages.
UTF16_FAULT = "it is in UTF-16; convert it with iconv -f UTF-16 -t UTF-8"

_CONVERSION = "if it is in Latin-1, convert it with iconv -f LATIN1 -t UTF-8"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def is_utf16(start: bytes) -> bool:
    """Return whether the first bytes of a file are the byte-order mark of UTF-16."""
    return start[:2] in _UTF16_MARKS


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a UTF-8 file for reading, and skip a byte-order mark.

    Args:
        path: path of the file.
        newline: as for `open`.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not UTF-8 text.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.txt"
        ...     _ = path.write_text("\\ufeffa", encoding="utf-8")
        ...     with open_text(path) as file:
        ...         print(ascii(file.read()))
        'a'
    """
    with path.open(encoding="utf-8-sig", newline=newline) as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            if error.start == 0 and is_utf16(error.object):
                raise ValueError(UTF16_FAULT) from None
            raise ValueError(f"{error}; {_CONVERSION}") from None


def read_text(path: Path) -> str:
    """Read a UTF-8 file without its byte-order mark.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not UTF-8 text.
    """
    with open_text(path) as file:
        return file.read()
