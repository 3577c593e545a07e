"""Reads lines of text, such as lists of speakers, Kaldi's tables and CTM files.

`gtcbmuf.data.importing.names` compares the names in them, whatever their Unicode form (NFC, NFD).
"""

from collections.abc import Iterator
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.text import open_text

#: Byte-order mark. Files that were joined have one in the middle, too.
BYTE_ORDER_MARK = "\ufeff"


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, without line ends and byte-order marks.

    Raises:
        UserError: the file cannot be read, or is not UTF-8 text.
    """
    try:
        with open_text(path) as file:
            for line in file:
                if "\0" in line:
                    raise ValueError("it has null characters, as in a binary file or in UTF-16")
                yield line.rstrip("\n").removeprefix(BYTE_ORDER_MARK)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text: {error}") from None
