"""Reads the matrices of an scp.

kaldi_native_io, a copy of Kaldi's own code, reads one matrix at a time.
"""

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.kaldi_tables import Location, read_scp


class RangeError(UserError):
    """The error of a range that its matrix does not have.

    Args:
        where: scp and name of the matrix.
        reason: location, and shape of the matrix.

    Attributes:
        reason: as above.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.reason = reason


class KaldiMatrices(Mapping[str, NDArray[np.floating]]):
    """The matrices of an scp by name, in any of Kaldi's formats. Each is read when it is needed.

    The last matrix stays in memory, because an scp with ranges often has many of one recording.

    Args:
        scp: path of the scp.
        content: content of the matrices, such as "features", for messages.
        dtype: float32 or float64.

    Raises:
        UserError: the scp cannot be read.
    """

    def __init__(self, scp: Path, content: str, dtype: type[np.floating] = np.float32) -> None:
        self._scp, self._content, self._dtype = scp, content, dtype
        self._locations = read_scp(scp)
        self._last: tuple[str, NDArray[np.floating]] | None = None

    @property
    def files(self) -> set[Path]:
        """Files of all matrices."""
        return {location.file for location in self._locations.values()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._locations)

    def __len__(self) -> int:
        return len(self._locations)

    def __contains__(self, name: object) -> bool:
        return name in self._locations

    def __getitem__(self, name: str) -> NDArray[np.floating]:
        """Read a matrix, (rows, columns).

        Raises:
            UserError: the location has no readable matrix.
            RangeError: the matrix does not have the range of the location.
        """
        location = self._locations[name]
        where = f"{self._scp}: {name}"
        if location.range is None:
            return self._read(where, location)
        if self._last is None or self._last[0] != location.place:
            self._last = location.place, self._read(where, location)
        matrix = self._last[1]
        if not location.range.fits(matrix.shape):
            rows, columns = matrix.shape
            raise RangeError(
                where,
                f"{location.text}: not a range of a matrix with {rows} rows and {columns} columns",
            )
        return location.range.extract(matrix)

    def _read(self, where: str, location: Location) -> NDArray[np.floating]:
        from kaldi_native_io import DoubleMatrix, FloatMatrix

        matrix_type = FloatMatrix if self._dtype is np.float32 else DoubleMatrix
        try:
            with _unpacking(location) as place:
                # A copy, because the matrix frees the memory of this view.
                return np.array(matrix_type.read(place).numpy(), self._dtype)
        except (OSError, EOFError, zlib.error, RuntimeError, ValueError, MemoryError):
            # The message of kaldi_native_io has several lines and contains bytes of the file.
            raise UserError(
                f"{where}: {location.text}: expected a matrix of {self._content}; the archive is "
                "truncated or damaged, or does not belong to this scp"
            ) from None


@contextmanager
def _unpacking(location: Location) -> Iterator[str]:
    """Provide the place of a matrix: for a gzipped file, a temporary decompressed file."""
    if not location.is_gzipped:
        yield location.place
        return
    with tempfile.NamedTemporaryFile() as plain:
        with gzip.open(location.place) as packed:
            shutil.copyfileobj(packed, plain)
        plain.flush()
        yield plain.name
