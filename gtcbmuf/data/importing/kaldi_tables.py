"""Reads Kaldi's text tables (scp and utt2spk) and the matrices that an scp points to.

kaldi_native_io, which is Kaldi's own code, reads a matrix at a time. No entry of an scp ever
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
from gtcbmuf.data.extras import require_extra
from gtcbmuf.data.importing.text_lines import read_lines

_GUNZIP = re.compile(r"(?:gunzip -c|gzip -c?dc?|zcat)\s+([^\s'\"`$;&|<>()\\*?]+)\s*\|")
_FILE_AND_OFFSET = re.compile(r"(.+?)(?::\d+)?")


def require_kaldi_native_io() -> None:
    """Check that the extra `kaldi` is installed.

    Raises:
        UserError: it is not.
    """
    require_extra("kaldi", ["kaldi_native_io"], "Kaldi's files need")


def read_scp(path: Path) -> dict[str, str]:
    """Read an scp: names, and the location of the matrix of each.

    A location is a file, a file with an offset (`FILE:OFFSET`), or `gunzip -c FILE |`.

    Raises:
        UserError: the table cannot be read, or a location is none of these or names no file.
    """
    locations = _read_table(path)
    for name, location in locations.items():
        _check_location(path, name, location)
    return locations


def read_speakers(utt2spk: Path | None, utterances: Iterable[str]) -> dict[str, str]:
    """Return the speaker of each utterance; without a table, each utterance is its own speaker.

    Raises:
        UserError: the table cannot be read.
    """
    return {name: name for name in utterances} if utt2spk is None else _read_table(utt2spk)


def read_matrix(
    scp: Path, name: str, location: str, content: str, dtype: type[np.floating] = np.float32
) -> NDArray[np.floating]:
    """Read a matrix of any of Kaldi's formats.

    Args:
        scp: that has the location, for messages.
        name: of the matrix in the scp.
        location: as `read_scp` returns it.
        content: of the matrix, for messages.
        dtype: float32 or float64.

    Returns:
        (rows, columns) of this type.

    Raises:
        UserError: there is no matrix at the location.
    """
    from kaldi_native_io import DoubleMatrix, FloatMatrix

    matrix_type = FloatMatrix if dtype is np.float32 else DoubleMatrix
    try:
        with _unpacking(location) as plain_location:
            # A copy: the array is a view of memory that the matrix frees.
            return np.array(matrix_type.read(plain_location).numpy(), dtype)
    except (OSError, EOFError, zlib.error, RuntimeError, ValueError, MemoryError):
        # kaldi_native_io's own message has several lines, with bytes of the file in them.
        raise UserError(
            f"{scp}: {name}: {location}: expected a matrix of {content} there: "
            "a truncated or damaged archive, or another file than the scp was made for"
        ) from None


def _read_table(path: Path) -> dict[str, str]:
    """Read lines that each have a name and a value."""
    table: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        words = line.split(maxsplit=1)
        if len(words) != 2:
            raise UserError(f"{path}: line {number}: {line!r}: expected two words at least")
        name, value = words
        if table.setdefault(name, value.strip()) != value.strip():
            raise UserError(f"{path}: line {number}: {name} has another line already")
    if not table:
        raise UserError(f"{path}: no line in it; expected one per utterance")
    return table


def _check_location(scp: Path, name: str, location: str) -> None:
    """Refuse a location that is no file, or that Kaldi would pass to a shell."""
    where = f"{scp}: {name}: {location!r}"
    if location.endswith("]"):
        raise UserError(f"{where}: a part of a matrix; expected a whole one: run copy-feats first")
    if gunzip := _GUNZIP.fullmatch(location):
        path = Path(gunzip[1])
    elif "|" in location:
        raise UserError(
            f"{where}: a shell command, which is not run; "
            "expected FILE:OFFSET, or 'gunzip -c PATH |': run copy-feats first"
        )
    else:
        path = Path(cast(re.Match[str], _FILE_AND_OFFSET.fullmatch(location))[1])
    if not os.path.isfile(path):  # Path.is_file raises if the name is too long
        raise UserError(f"{where}: no such file; expected a matrix there")


@contextmanager
def _unpacking(location: str) -> Iterator[str]:
    """Provide a location without `gunzip`: a temporary file in its place."""
    gunzip = _GUNZIP.fullmatch(location)
    if not gunzip:
        yield location
        return
    with tempfile.NamedTemporaryFile() as plain:
        with gzip.open(gunzip[1]) as packed:
            shutil.copyfileobj(packed, plain)
        plain.flush()
        yield plain.name
