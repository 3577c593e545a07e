"""Reads Kaldi's text tables (scp and utt2spk) and the matrices of an scp.

kaldi_native_io, a copy of Kaldi's own code, reads one matrix at a time. No entry of an scp ever
reaches a shell.
"""

import gzip
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.extras import require_extra
from gtcbmuf.data.importing.text_lines import read_lines

_GUNZIP = re.compile(r"(?:gunzip -c|gzip -c?dc?|zcat)\s+([^\s'\"`$;&|<>()\\*?]+)\s*\|")
_FILE_AND_OFFSET = re.compile(r"(.+?)(?::\d+)?")


def require_kaldi_native_io() -> None:
    """Check that the extra `kaldi` is installed.

    Raises:
        UserError: the extra is not installed.
    """
    require_extra("kaldi", ["kaldi_native_io"], "the import of Kaldi's files needs")


def read_scp(path: Path) -> dict[str, str]:
    """Read an scp: the location of each matrix, by name.

    A location is a file, a file with an offset (`FILE:OFFSET`), or `gunzip -c FILE |`.

    Raises:
        UserError: the table cannot be read. A location has another form, or its file does not
            exist.
    """
    locations = _read_table(path)
    for name, location in locations.items():
        _check_location(path, name, location)
    return locations


def read_speakers(utt2spk: Path | None, utterances: Iterable[str]) -> dict[str, str]:
    """Return the speaker of each utterance. Without a table, each utterance is its own speaker.

    Raises:
        UserError: the table cannot be read.
    """
    return {name: name for name in utterances} if utt2spk is None else _read_table(utt2spk)


def read_matrix(
    scp: Path, name: str, location: str, content: str, dtype: type[np.floating] = np.float32
) -> NDArray[np.floating]:
    """Read a matrix of any of Kaldi's formats.

    Args:
        scp: path of the scp, for messages.
        name: name of the matrix in the scp.
        location: location of the matrix, from `read_scp`.
        content: content of the matrix, such as "features", for messages.
        dtype: float32 or float64.

    Returns:
        The matrix, (rows, columns) of type `dtype`.

    Raises:
        UserError: the location has no readable matrix.
    """
    from kaldi_native_io import DoubleMatrix, FloatMatrix

    matrix_type = FloatMatrix if dtype is np.float32 else DoubleMatrix
    try:
        with _unpacking(location) as plain_location:
            # A copy, because the matrix frees the memory of this view.
            return np.array(matrix_type.read(plain_location).numpy(), dtype)
    except (OSError, EOFError, zlib.error, RuntimeError, ValueError, MemoryError):
        # The message of kaldi_native_io has several lines and contains bytes of the file.
        raise UserError(
            f"{scp}: {name}: {location}: expected a matrix of {content}; the archive is truncated "
            "or damaged, or does not belong to this scp"
        ) from None


def _read_table(path: Path) -> dict[str, str]:
    """Read a table with a name and a value in each line."""
    table: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        words = line.split(maxsplit=1)
        if len(words) != 2:
            raise UserError(f"{path}: line {number}: {line!r}: expected a name and a value")
        name, value = words
        if table.setdefault(name, value.strip()) != value.strip():
            raise UserError(f"{path}: line {number}: second value of {name}; expected one")
    if not table:
        raise UserError(f"{path}: no entries; expected one line per utterance")
    return table


def _check_location(scp: Path, name: str, location: str) -> None:
    """Refuse a location without a file, or one that Kaldi would pass to a shell."""
    where = f"{scp}: {name}: {location!r}"
    if location.endswith("]"):
        raise UserError(
            f"{where}: a range of a matrix; expected a whole matrix: run copy-feats first"
        )
    if gunzip := _GUNZIP.fullmatch(location):
        path = Path(gunzip[1])
    elif "|" in location:
        raise UserError(
            f"{where}: shell commands are not run; expected FILE:OFFSET, or "
            "'gunzip -c PATH |': run copy-feats first"
        )
    else:
        path = Path(cast(re.Match[str], _FILE_AND_OFFSET.fullmatch(location))[1])
    if not os.path.isfile(path):  # Path.is_file raises if the name is too long
        raise UserError(f"{where}: no such file; expected the file of a matrix")


@contextmanager
def _unpacking(location: str) -> Iterator[str]:
    """Provide a location without `gunzip`: a temporary file with the decompressed content."""
    gunzip = _GUNZIP.fullmatch(location)
    if not gunzip:
        yield location
        return
    with tempfile.NamedTemporaryFile() as plain:
        with gzip.open(gunzip[1]) as packed:
            shutil.copyfileobj(packed, plain)
        plain.flush()
        yield plain.name
