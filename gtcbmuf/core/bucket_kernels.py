"""Numba kernels that round numbers to multiples of a unit, with a unit for each bucket.

A bucket is `size` consecutive numbers of a vector; the last one may be shorter. Its numbers are at
most its scale, and are rounded to integers from -levels to levels.
"""

# mypy: disable-error-code="assignment,arg-type,return-value"
# (Numba unifies the types of a variable's assignments by itself.)
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Integers, Vector
from gtcbmuf.base.jit import kernel

#: Largest scale of a bucket whose numbers are all rounded to 0: its units might overflow.
LEAST = np.float32(1e-30)
#: Constants of splitmix64 (Steele, Lea and Flood 2014).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@kernel("(f4[::1], i8, f4[::1])")
def find_scales(vector: Vector, size: int, scales: Vector) -> None:
    """Set the scales (b,) to the largest size of a number in each bucket of a vector (n,)."""
    sizes = scales.view(np.uint32)
    for b in range(scales.size):
        largest = np.uint32(0)
        bucket = vector[b * size : (b + 1) * size].view(np.uint32)
        for i in range(bucket.size):  # sizes are in the order of their bits
            largest = max(largest, bucket[i] & np.uint32(0x7FFFFFFF))
        sizes[b] = largest


@kernel("(f4[::1], i8, f4[::1], i8, i2[::1])")
def round_to_nearest(
    vector: Vector, size: int, scales: Vector, levels: int, integers: NDArray[np.int16]
) -> None:
    """integers = the numbers of a vector in units, scale / levels, rounded to the nearest.

    Args:
        vector: (n,) float32.
        size: numbers in a bucket.
        scales: (b,) float32, none smaller than a number in its bucket.
        levels: largest integer.
        integers: (n,) int16, output.
    """
    most = np.float32(levels)
    for b in range(scales.size):
        units = most / scales[b] if scales[b] > LEAST else np.float32(0)
        bucket, output = vector[b * size : (b + 1) * size], integers[b * size : (b + 1) * size]
        for i in range(bucket.size):
            rounded = np.floor(bucket[i] * units + np.float32(0.5))
            output[i] = np.int16(np.int32(min(max(rounded, -most), most)))


@kernel("(f4[::1], i8, f4[::1], i8, u8, i2[::1])")
def round_at_random(
    vector: Vector,
    size: int,
    scales: Vector,
    levels: int,
    key: np.uint64,
    integers: NDArray[np.int16],
) -> None:
    """Round as `round_to_nearest`, but up or down at random, so that the mean is exact.

    Number i is rounded down to the next integer after a uniform number from 0 to 1 was added. That
    number is output i of splitmix64, which starts at `key`.
    """
    most = np.float32(levels)
    for b in range(scales.size):
        units = most / scales[b] if scales[b] > LEAST else np.float32(0)
        bucket, output = vector[b * size : (b + 1) * size], integers[b * size : (b + 1) * size]
        before = key + np.uint64(b * size) * _GOLDEN
        for i in range(bucket.size):
            bits = before + np.uint64(i + 1) * _GOLDEN
            bits = (bits ^ bits >> np.uint64(30)) * _FIRST
            bits = (bits ^ bits >> np.uint64(27)) * _SECOND
            bits ^= bits >> np.uint64(31)
            uniform = np.float32(np.int32(bits >> np.uint64(40))) * np.float32(2.0**-24)
            rounded = np.floor(bucket[i] * units + uniform)
            output[i] = np.int16(np.int32(min(max(rounded, -most), most)))


@kernel("(i4[::1], i8, f4[::1], i8, f4, f4[::1])")
def add_units(
    sums: Integers, size: int, scales: Vector, levels: int, factor: np.float32, vector: Vector
) -> None:
    """vector += factor * sums in units.

    Args:
        sums: (n,) int32.
        size, scales, levels: as in `round_to_nearest`.
        factor: factor of the units.
        vector: (n,) float32, changed in place.
    """
    for b in range(scales.size):
        unit = factor * (scales[b] / np.float32(levels))
        bucket, terms = vector[b * size : (b + 1) * size], sums[b * size : (b + 1) * size]
        for i in range(bucket.size):
            bucket[i] += unit * np.float32(terms[i])


@kernel("(i2[::1], i8, f4[::1], i8, f4[::1])")
def subtract_units(
    integers: NDArray[np.int16], size: int, scales: Vector, levels: int, vector: Vector
) -> None:
    """vector -= integers in units.

    Args:
        integers: (n,) int16.
        size, scales, levels: as in `round_to_nearest`.
        vector: (n,) float32, changed in place.
    """
    for b in range(scales.size):
        unit = scales[b] / np.float32(levels)
        bucket, terms = vector[b * size : (b + 1) * size], integers[b * size : (b + 1) * size]
        for i in range(bucket.size):
            bucket[i] -= unit * np.float32(terms[i])
