"""Numba kernels for approximations of matrices by products of a tall and a flat matrix.

They add in a fixed order. So workers on different processors compute the same bits.
"""

# mypy: disable-error-code="assignment,arg-type,return-value"
# (Numba unifies the types of a variable's assignments by itself.)
import numpy as np

from gtcbmuf.base.arrays import Matrix
from gtcbmuf.base.jit import kernel

#: Smallest length of a column, relative to its length before, that is not due to rounding.
_LEAST = np.float32(1e-6)


@kernel("(f4[:, ::1],)")
def orthogonalise(rows: Matrix) -> None:
    """Make rows (r, m) orthonormal, one after another (Gram-Schmidt); r <= m.

    A row that depends on the earlier ones becomes 0.
    """
    for k in range(rows.shape[0]):
        before = np.float32(0)
        for i in range(rows.shape[1]):
            before += rows[k, i] * rows[k, i]
        for j in range(k):
            product = np.float32(0)
            for i in range(rows.shape[1]):
                product += rows[j, i] * rows[k, i]
            for i in range(rows.shape[1]):
                rows[k, i] -= product * rows[j, i]
        square = np.float32(0)
        for i in range(rows.shape[1]):
            square += rows[k, i] * rows[k, i]
        scale = np.float32(0)
        if square > _LEAST * _LEAST * before:
            scale = np.float32(1) / np.sqrt(square)
        for i in range(rows.shape[1]):
            rows[k, i] *= scale


@kernel("(f4[:, ::1], f4[:, ::1], f4, f4[:, ::1])")
def add_product(left: Matrix, right: Matrix, scale: np.float32, matrix: Matrix) -> None:
    """matrix += scale * left.T @ right.

    Args:
        left: (r, rows) float32.
        right: (r, columns) float32.
        scale: factor of the product.
        matrix: (rows, columns) float32, changed in place.
    """
    for k in range(left.shape[0]):
        flat = right[k]
        for i in range(matrix.shape[0]):
            factor, row = scale * left[k, i], matrix[i]
            for j in range(row.size):
                row[j] += factor * flat[j]
