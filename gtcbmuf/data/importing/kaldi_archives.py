"""Reads Kaldi's archives of integer vectors, binary or text, gzipped or not.

kaldi_native_io could read them, but takes a truncated archive for a shorter one.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError

_MAX_LENGTH = 1 << 24  # of a vector: two days of speech, so a longer one is no alignment
_MAX_NAME_LENGTH = 1024


def read_vectors(path: Path) -> Iterator[tuple[str, NDArray[np.int32]]]:
    """Yield the names and vectors of an archive.

    Raises:
        UserError: the file is no such archive, or is truncated.
    """
    name = ""
    try:
        with path.open("rb") as file:
            plain = _unpack(file)
            while name_bytes := _read_name(plain):
                name = name_bytes.decode()
                yield name, _read_vector(plain)
    except (OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        where = f"at or after {name}" if name else "at its beginning"
        raise UserError(
            f"{path}: {where}: expected an archive of alignments, a vector of int32 per utterance: "
            f"{str(error) or 'it ends too early'}"
        ) from None


def _unpack(file: io.BufferedReader) -> io.BufferedReader:
    if file.peek(2)[:2] == b"\x1f\x8b":
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)))
    return file


def _read_name(file: BinaryIO) -> bytes:
    """Read the next name and the space after it; return b"" at the end of the file."""
    name = b""
    while (byte := file.read(1)) != b" ":
        if not byte and name:
            raise EOFError
        if not byte:
            break
        if not name and byte.isspace():
            continue
        name += byte
        if len(name) > _MAX_NAME_LENGTH or byte == b"\0" or byte.isspace():
            raise ValueError("this is no name of an utterance")
    return name


def _read_vector(file: io.BufferedReader) -> NDArray[np.int32]:
    """Read a vector as Kaldi's BasicVectorHolder writes it."""
    if file.peek(1)[:1] != b"\0":
        # The bound protects memory: a gzipped line can be a thousand times its file.
        line = file.readline(_MAX_LENGTH)
        if len(line) == _MAX_LENGTH:
            raise ValueError("this is no vector of int32")
        if not line.endswith(b"\n"):
            raise EOFError
        return np.array([int(word) for word in line.split()], np.int32)
    header = _read_exactly(file, 7)
    length = int.from_bytes(header[3:], "little", signed=True)
    if header[:3] != b"\0B\4" or not 0 <= length < _MAX_LENGTH:
        raise ValueError("this is no vector of int32")
    # A byte with the size of a number, 4, precedes each number.
    items = np.frombuffer(
        _read_exactly(file, 5 * length), np.dtype([("size", "i1"), ("value", "<i4")])
    )
    if not (items["size"] == 4).all():
        raise ValueError("this is no vector of int32")
    return items["value"].astype(np.int32)


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError
    return data
