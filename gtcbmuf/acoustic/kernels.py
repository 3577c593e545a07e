"""Numba kernels of rectifiers. Their oracle is in tests/acoustic/test_kernels.py."""

import numpy as np

from gtcbmuf.base.arrays import Matrix, Vector
from gtcbmuf.base.jit import kernel


@kernel("(f4[::1], f4[:, ::1])")
def add_rectified(biases: Vector, outputs: Matrix) -> None:
    """Set each row of `outputs` (B, m) to max(row + biases, 0), in place. The biases are (m,)."""
    for i in range(outputs.shape[0]):
        for j in range(outputs.shape[1]):
            value = outputs[i, j] + biases[j]
            outputs[i, j] = np.float32(0) if value < 0 else value  # a NaN stays


@kernel("(f4[:, ::1], f4[:, ::1])")
def stop_where_off(outputs: Matrix, delta: Matrix) -> None:
    """Set `delta` (B, m) to 0, in place, where the rectifiers' outputs (B, m) are 0."""
    for i in range(delta.shape[0]):
        for j in range(delta.shape[1]):
            delta[i, j] = np.float32(0) if outputs[i, j] == 0 else delta[i, j]
