"""Reads Kaldi's archives of integer vectors, binary or text, gzipped or not.

kaldi_native_io reads them as well, but does not report a truncated archive.
"""

import glob
import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.text import UTF16_FAULT, is_utf16
from gtcbmuf.data.importing.text_lines import BYTE_ORDER_MARK

_MAX_LENGTH = 1 << 24  # largest length of a vector: two days of speech
_MAX_NAME_LENGTH = 1024
_BYTE_ORDER_MARK = BYTE_ORDER_MARK.encode()


def find_archives(patterns: Iterable[str]) -> list[Path]:
    """Return the files that paths or glob patterns name, in order and each once.

    A shell may have expanded a pattern, and a folder's name may have brackets. So a path that
    exists stands for itself, and a pattern may be one in its last part only.

    Raises:
        UserError: a pattern names no file, or a path is a folder.
    """
    archives = set()
    for pattern in map(os.path.expanduser, patterns):
        folder, name = os.path.split(pattern)
        if os.path.isdir(pattern):
            example = os.path.join(pattern, "pdf.*.gz")
            raise UserError(f"{pattern}: a folder; expected archives, such as {example}")
        paths = (
            [pattern]
            if os.path.exists(pattern)
            else glob.glob(pattern) or glob.glob(os.path.join(glob.escape(folder), name))
        )
        if not paths:
            raise UserError(f"{pattern}: no such files; expected alignment archives")
        archives.update(paths)
    return [Path(path) for path in sorted(archives)]


def read_vectors(path: Path) -> Iterator[tuple[str, NDArray[np.int32]]]:
    """Yield the names and vectors of an archive.

    Raises:
        UserError: the file is not such an archive, or is truncated.
    """
    name = ""
    try:
        with path.open("rb") as file:
            plain = _unpack(file)
            if is_utf16(plain.peek(2)):
                raise ValueError(UTF16_FAULT)
            while name_bytes := _read_name(plain):
                name = name_bytes.decode()
                yield name, _read_vector(plain)
    except (OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        where = f"at or after {name}" if name else "at the start"
        raise UserError(
            f"{path}: {where}: expected an archive of alignments, with one int32 vector per "
            f"utterance: {str(error) or 'the file ends too early'}"
        ) from None


def _unpack(file: io.BufferedReader) -> io.BufferedReader:
    """Return a reader of the decompressed content."""
    if file.peek(2)[:2] == b"\x1f\x8b":
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)))
    return file


def _read_name(file: io.BufferedReader) -> bytes:
    """Read the next name and the space or tab after it. Return b"" at the end of the file.

    As in Kaldi, a name at the end of its line has an empty vector. The line end is left in place.
    """
    name = b""
    while byte := file.peek(1)[:1]:
        if name and byte in b"\r\n":
            break
        file.read(1)
        if name and byte in b" \t":
            break
        if not name and byte.isspace():
            continue
        name = (name + byte).removeprefix(_BYTE_ORDER_MARK)
        if len(name) > _MAX_NAME_LENGTH or byte == b"\0" or byte.isspace():
            raise ValueError("not the name of an utterance")
    if name and not byte:
        raise EOFError
    return name


def _read_vector(file: io.BufferedReader) -> NDArray[np.int32]:
    """Read a vector as Kaldi's BasicVectorHolder writes it."""
    if file.peek(1)[:1] != b"\0":
        # The bound protects memory: a gzipped line can be a thousand times larger than its file.
        line = file.readline(_MAX_LENGTH)
        if len(line) == _MAX_LENGTH:
            raise ValueError("not an int32 vector")
        if not line.endswith(b"\n"):
            raise EOFError
        return np.array([int(word) for word in line.split()], np.int32)
    header = _read_exactly(file, 7)
    length = int.from_bytes(header[3:], "little", signed=True)
    if header[:3] != b"\0B\4" or not 0 <= length < _MAX_LENGTH:
        raise ValueError("not an int32 vector")
    # Before each number, a byte holds the size of the number, 4.
    items = np.frombuffer(
        _read_exactly(file, 5 * length), np.dtype([("size", "i1"), ("value", "<i4")])
    )
    if not (items["size"] == 4).all():
        raise ValueError("not an int32 vector")
    return items["value"].astype(np.int32)


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError
    return data
