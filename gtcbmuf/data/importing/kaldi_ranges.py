"""Ranges of matrices in an scp, such as [0:99,0:39] for 100 rows and 40 columns."""

import re
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

_Number = TypeVar("_Number", bound=np.floating)

_AXIS = r"\s*([0-9]{0,9}):\s*([0-9]{0,9})"
_RANGE = re.compile(rf"{_AXIS}(?:,{_AXIS})?")
#: Rows that a range may extend beyond its matrix, as in Kaldi: the times of segments are rounded.
_EXCESS_ROWS = 3


class MatrixRange(NamedTuple):
    """A range of a matrix. All numbers count from 0, and ranges include their last row or column.

    Attributes:
        first_row, first_column: first row and column.
        last_row, last_column: last row and column. None stands for the last one of the matrix.
    """

    first_row: int
    last_row: int | None
    first_column: int
    last_column: int | None

    @classmethod
    def parse(cls, text: str) -> "MatrixRange | None":
        """Parse a range: FIRST:LAST of the rows, and after a comma, FIRST:LAST of the columns.

        Kaldi documents that a number may be missing. Its reader takes `:`, but not `5:`.

        Returns:
            The range, or None if the text is no range.

        >>> MatrixRange.parse(":,0:39")
        MatrixRange(first_row=0, last_row=None, first_column=0, last_column=39)
        """
        match = _RANGE.fullmatch(text)
        if not match:
            return None
        first_row, last_row, first_column, last_column = (
            int(number) if number else None for number in match.groups()
        )
        return cls(first_row or 0, last_row, first_column or 0, last_column)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether a matrix of this shape has the range."""
        rows, columns = shape
        last_row = rows - 1 if self.last_row is None else self.last_row
        last_column = columns - 1 if self.last_column is None else self.last_column
        has_rows = self.first_row <= last_row < rows + _EXCESS_ROWS and self.first_row < rows
        return has_rows and self.first_column <= last_column < columns

    def extract(self, matrix: NDArray[_Number]) -> NDArray[_Number]:
        """Copy the range of a matrix (rows, columns) that has it."""
        end_row = None if self.last_row is None else self.last_row + 1
        end_column = None if self.last_column is None else self.last_column + 1
        return matrix[self.first_row : end_row, self.first_column : end_column].copy()
