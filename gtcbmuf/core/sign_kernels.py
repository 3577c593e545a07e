"""Numba kernels of exchanges that send the sign of every parameter.

A vector is cut into segments. Each has two levels: the value of a negative number, and that of any
other. Bit i of the signs is 1 where number i is not negative.
"""

# mypy: disable-error-code="assignment,arg-type,return-value"
# (Numba unifies the types of a variable's assignments by itself.)
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Vector, Words
from gtcbmuf.base.jit import kernel

#: Numbers whose sums are formed side by side, so that LLVM vectorises them.
_LANES = 32


@kernel("(f4[::1], u4[::1])")
def find_signs(vector: Vector, words: Words) -> None:
    """Write the signs of a vector (n,) to words (n / 32,), rounded up."""
    n = vector.size
    for w in range(words.size):
        bits = np.uint32(0)
        for i in range(min(32, n - 32 * w)):
            bits |= np.uint32(vector[32 * w + i] >= 0) << np.uint32(i)
        words[w] = bits


@kernel("(f4[::1], i8[::1], f4[:, ::1])")
def find_means(vector: Vector, ends: NDArray[np.int64], levels: NDArray[np.float32]) -> None:
    """Set the levels to the means of a segment's negative and other numbers; 0 without any.

    Args:
        vector: (n,) float32.
        ends: (s,) int64, ends of the segments, ascending to n.
        levels: (s, 2) float32, output.
    """
    begin, below, above = 0, np.empty(_LANES, np.float32), np.empty(_LANES, np.float32)
    counts = np.empty(_LANES, np.int32)
    for s in range(ends.size):
        below[:], above[:], counts[:] = 0, 0, 0
        whole = begin + (ends[s] - begin) // _LANES * _LANES
        for first in range(begin, whole, _LANES):
            part = vector[first : first + _LANES]
            for i in range(_LANES):
                below[i] += min(part[i], np.float32(0))
                above[i] += max(part[i], np.float32(0))
                counts[i] += np.int32(part[i] >= 0)
        for i in range(whole, ends[s]):
            below[i - whole] += min(vector[i], np.float32(0))
            above[i - whole] += max(vector[i], np.float32(0))
            counts[i - whole] += np.int32(vector[i] >= 0)
        count = counts.sum()
        levels[s, 0] = below.sum() / np.float32(max(ends[s] - begin - count, 1))
        levels[s, 1] = above.sum() / np.float32(max(count, 1))
        begin = ends[s]


@kernel("(f4[::1], i8[::1], f4[:, ::1])")
def find_sizes(vector: Vector, ends: NDArray[np.int64], levels: NDArray[np.float32]) -> None:
    """Set the levels to minus and plus the mean size of a segment's numbers.

    The arguments are those of `find_means`.
    """
    begin, total = 0, np.empty(_LANES, np.float64)
    for s in range(ends.size):
        total[:] = 0
        whole = begin + (ends[s] - begin) // _LANES * _LANES
        for first in range(begin, whole, _LANES):
            part = vector[first : first + _LANES]
            for i in range(_LANES):
                total[i] += np.float64(abs(part[i]))
        for i in range(whole, ends[s]):
            total[i - whole] += np.float64(abs(vector[i]))
        size = np.float32(total.sum() / max(ends[s] - begin, 1))
        levels[s, 0], levels[s, 1] = -size, size
        begin = ends[s]


@kernel("(u4[::1], i8[::1], f4[:, ::1], f4, f4[::1])")
def add_levels(
    words: Words,
    ends: NDArray[np.int64],
    levels: NDArray[np.float32],
    scale: np.float32,
    vector: Vector,
) -> None:
    """vector += scale * the level of each sign.

    Args:
        words: uint32, the signs, at least n / 32 words.
        ends: (s,) int64, as in `find_means`.
        levels: (s, 2) float32.
        scale: factor of the levels.
        vector: (n,) float32, changed in place.
    """
    count = (vector.size + 31) // 32
    signs = np.empty(32 * count, np.uint8)
    for w in range(count):
        word, of_word = words[w], signs[32 * w : 32 * w + 32]
        for i in range(32):
            of_word[i] = np.uint8(word >> np.uint32(i) & np.uint32(1))
    begin = 0
    for s in range(ends.size):
        low, high = scale * levels[s, 0], scale * levels[s, 1]
        part, of_part = vector[begin : ends[s]], signs[begin : ends[s]]
        for i in range(part.size):
            part[i] += high if of_part[i] else low
        begin = ends[s]
