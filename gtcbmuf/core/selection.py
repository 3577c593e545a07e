"""Numba kernel that finds the largest numbers of a vector."""

# mypy: disable-error-code="assignment,arg-type,return-value"
# (Numba unifies the types of a variable's assignments by itself.)
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Integers, Vector
from gtcbmuf.base.jit import kernel

Sizes = NDArray[np.uint32]

#: All bits of a float32 except the sign. As integers, sizes have the order of the numbers' sizes.
_SIZE = np.uint32(0x7FFFFFFF)
#: One number in so many is in the sample that narrows the search. Layers of a network seldom have
#: a multiple of it as their width.
_STRIDE = 31


@kernel("(f4[::1], i8, i4[::1])")
def find_largest(vector: Vector, count: int, places: Integers) -> None:
    """places = the places of the `count` numbers of largest size, in the order of the vector.

    Of numbers with the same size, the first are chosen.

    Args:
        vector: (n,) float32, finite.
        count: k, from 1 to n.
        places: (n,) int32, output; k of them are set, the others are overwritten.
    """
    raw = vector.view(np.uint32)
    # Candidates: all numbers from a size on that k of them probably reach.
    sample = (raw[::_STRIDE] & _SIZE).copy()
    share = count / vector.size * sample.size
    least = _nth_largest(sample, np.int64(share + 3 * np.sqrt(share) + 8))
    found = _collect(raw, least, places)
    if found < count:
        found = _collect(raw, np.uint32(0), places)
    sizes = np.empty(found, np.uint32)
    for i in range(found):
        sizes[i] = raw[places[i]] & _SIZE
    least, ties, kept = _nth_largest(sizes, count), count, 0
    for i in range(found):
        ties -= sizes[i] > least
    for i in range(found):
        if sizes[i] > least or (sizes[i] == least and ties > 0):
            ties -= sizes[i] == least
            places[kept] = places[i]
            kept += 1


@kernel("(u4[::1], u4, i4[::1])")
def _collect(raw: Sizes, least: np.uint32, places: Integers) -> int:
    """Set places to those of the sizes from `least` on, and return their number."""
    found = 0
    for i in range(raw.size):
        places[found] = i
        found += (raw[i] & _SIZE) >= least
    return found


@kernel("(u4[::1], i8)")
def _nth_largest(sizes: Sizes, rank: int) -> np.uint32:
    """Return the size of a rank, 1 for the largest. Beyond the last rank it is 0."""
    if rank > sizes.size:
        return np.uint32(0)
    prefix, known = np.uint32(0), np.uint32(0)
    counts = np.empty(2048, np.int64)
    for shift, bits in ((20, 11), (10, 10), (0, 10)):  # digits of the 31 bits
        counts[:] = 0
        mask = np.uint32((1 << bits) - 1)
        for i in range(sizes.size):
            if sizes[i] & known == prefix:
                counts[(sizes[i] >> np.uint32(shift)) & mask] += 1
        digit = mask
        while counts[digit] < rank:
            rank -= counts[digit]
            digit -= np.uint32(1)
        prefix |= digit << np.uint32(shift)
        known |= mask << np.uint32(shift)
    return np.uint32(prefix)  # Numba infers 64 bits, and would compile `_collect` twice
