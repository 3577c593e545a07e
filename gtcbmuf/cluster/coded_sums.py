"""Sizes of the messages with parts of a sum of random integers. No MPI here.

`gtcbmuf.core.wire` describes the messages, and writes them.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.methods.declaration import Integers, Levels, Rounded, Signs

#: Bytes of a message's header (`wire.HEADER` words).
HEADER = 32
#: Largest standard deviation of a sum whose probabilities are tabulated. A sum that is twice as
#: large takes one bit more.
_LARGEST = 64.0
#: Standard deviations of a sum that are tabulated.
_RANGE = 10


@dataclass(frozen=True)
class Size:
    """Expected size of a message.

    Attributes:
        bytes: bytes, with the header.
        codes: codes in its body, 0 if the body has fields. An integer other than 0 has a code, and
            its size has another one if it is above 1.
    """

    bytes: float
    codes: float


def message_size(integers: Integers, rows: float, length: float) -> Size:
    """Compute the expected size of a message.

    Args:
        integers: distribution of the integers of a row.
        rows: rows that were summed. With 0.5 rows, half of the integers are those of one row, and
            the rest are 0.
        length: integers in the message.

    Examples:
        >>> size = message_size(Signs(0.01), 1, 1_000_000)
        >>> round(size.bytes), round(size.codes)
        (11417, 10000)
    """
    if length == 0 or rows == 0:
        return Size(HEADER, 0.0)
    used, rows = length * min(rows, 1.0), max(rows, 1.0)
    sizes, halvings = _sizes_of_sum(integers, rows)
    nonzero, large = 1 - float(sizes[0]), float(sizes[2:].sum())
    bits = _gap_bits(nonzero) + nonzero
    spare = 0.0
    if large > 0:
        excess, spare = _excess_bits(sizes[2:])
        bits += nonzero * _gap_bits(large / nonzero) + excess + halvings
    fields = halvings + _field_bits(sizes, used)
    # The encoder takes fields unless codes save a quarter of them, even if all their quotients
    # were rounded up.
    if 3 / 4 * fields < bits + spare - 1e-9:
        return Size(HEADER + used * fields / 8, 0.0)
    return Size(HEADER + used * bits / 8, used * (nonzero + large))


def _gap_bits(density: float) -> float:
    """Bits per place, for Golomb codes of the gaps between random places of a density."""
    if density <= 0:
        return 0.0
    if density >= 1:
        return 1.0
    # A gap's quotient by 2^k has the mean q / (1 - q) with q = (1 - density)^(2^k).
    best = math.inf
    for k in range(31):
        exponent = 2.0**k * math.log1p(-density)
        best = min(best, density * (k + 1 - math.exp(exponent) / math.expm1(exponent)))
    return best


def _excess_bits(probabilities: NDArray[np.float64]) -> tuple[float, float]:
    """Bits per place, for Rice codes of the sizes 2, 3, 4 ... of these probabilities.

    Returns:
        The bits, and how many more there would be if no quotient were rounded down.
    """
    excesses, m, best, spare = np.arange(probabilities.size), 0, math.inf, 0.0
    while True:
        bits = float(probabilities @ (m + 1 + (excesses >> m)))
        if bits >= best:
            return best, spare
        best, spare = bits, float(probabilities @ (excesses / 2**m - (excesses >> m)))
        m += 1


def _field_bits(sizes: NDArray[np.float64], length: float) -> int:
    """Bits of a field for the largest of `length` integers."""
    beyond = length * (1 - np.cumsum(sizes))  # integers that are larger than 0, 1, 2 ...
    largest = int(np.argmax(beyond < 0.7)) if beyond[-1] < 0.7 else sizes.size
    return (2 * largest).bit_length()


@cache
def _sizes_of_sum(integers: Integers, rows: float) -> tuple[NDArray[np.float64], int]:
    """Compute the probabilities of the sizes 0, 1, 2 ... of a sum.

    Returns:
        The probabilities, and the number of times that the sum was halved first.
    """
    variance, halvings = _variance(integers), 0
    deviation = math.sqrt(rows * variance)
    if deviation > _LARGEST:  # the sum is nearly normal
        halvings = math.ceil(math.log2(deviation / _LARGEST))
        integers, rows = Rounded(deviation / 2.0**halvings), 1.0
        deviation = integers.deviation
    half = math.ceil(_RANGE * max(deviation, 1.0)) + 8
    whole, part = divmod(rows, 1.0)
    # The characteristic function of a sum is the product of those of its terms.
    one = np.fft.rfft(_probabilities(integers, half)).real
    sums = np.fft.irfft(one**whole * (1 - part + part * one), 2 * half)
    sizes = np.maximum(sums[:half], 0)
    sizes[1:] += np.maximum(sums[:half:-1], 0)
    return sizes / sizes.sum(), halvings


def _variance(integers: Integers) -> float:
    if isinstance(integers, Signs):
        return integers.density
    if isinstance(integers, Levels):
        return integers.density * (1 + (3**2 - 1) * integers.large)
    if integers.deviation > _LARGEST:
        return integers.deviation**2 + 1 / 12
    half = math.ceil(_RANGE * max(integers.deviation, 1.0)) + 8
    sizes = np.minimum(np.arange(2 * half), 2 * half - np.arange(2 * half))
    return float(_probabilities(integers, half) @ sizes**2)


def _probabilities(integers: Integers, half: int) -> NDArray[np.float64]:
    """Return the probabilities of 0, 1, 2 ... and, from the end, of -1, -2 ...; (2 * half,)."""
    probabilities = np.zeros(2 * half)
    if isinstance(integers, Signs):
        density = min(integers.density, 1.0)
        probabilities[[0, 1, -1]] = 1 - density, density / 2, density / 2
        return probabilities
    if isinstance(integers, Levels):
        large = integers.density * integers.large
        probabilities[[0, 3, -3]] = 1 - integers.density, large / 2, large / 2
        probabilities[[1, -1]] = (integers.density - large) / 2
        return probabilities
    scale = integers.deviation * math.sqrt(2)
    tails = np.array([math.erfc((size - 0.5) / scale) / 2 for size in range(1, half + 1)])
    positive = tails[:-1] - tails[1:]
    probabilities[1:half], probabilities[:-half:-1] = positive, positive
    probabilities[0] = 1 - 2 * positive.sum()
    return probabilities
