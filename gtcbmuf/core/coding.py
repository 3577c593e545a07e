"""Numba kernels that write integers as Golomb-Rice codes or in fields of fixed width.

`gtcbmuf.core.wire` describes the messages. The readers check words from outside: they
never write out of bounds.
"""

# mypy: disable-error-code="assignment,arg-type,return-value"
# (Numba unifies the types of a variable's assignments by itself.)
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from gtcbmuf.base.arrays import Integers, Words
from gtcbmuf.base.jit import kernel

#: Number of integers that are compared with 0 together: the bits of a mask.
_MASK_BITS = 32


def _lowest(mask: Any) -> int:
    """Position of the lowest bit that is set, of a mask that is not 0."""
    return (int(mask) & -int(mask)).bit_length() - 1


@intrinsic
def _trailing_zeros(typing_context: Any, mask: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.true_bit)

    return types.uint64(types.uint64), generate


@overload(_lowest)
def _compiled_lowest(mask: Any) -> Any:
    def lowest(mask: Any) -> Any:
        return np.int64(_trailing_zeros(np.uint64(mask)))  # type: ignore[call-arg]

    return lowest


@kernel("(i4[::1],)")
def largest_size(values: Integers) -> int:
    """Return the largest size of integers."""
    largest = np.int32(0)
    for i in range(values.size):
        largest = max(largest, abs(values[i]))
    return largest


@kernel("(i4[::1],)")
def measure_large(values: Integers) -> tuple[int, int]:
    """Return the number of integers of size 2 or more, and the sum of their sizes less 2."""
    count, excess = 0, 0
    for value in values:
        size = abs(value)
        count += int(size > 1)
        excess += int(max(size - 2, 0))
    return count, excess


@kernel("(i4[::1], u4[::1], u4[::1])")
def find_nonzero(values: Integers, places: Words, signs: Words) -> int:
    """Find the integers other than 0.

    Args:
        values: (n,) int32.
        places, signs: (n,) uint32, output: ascending indices, and 1 for negative integers.

    Returns:
        The number of these integers.
    """
    n, count = values.size, 0
    for begin in range(0, n, _MASK_BITS):
        mask = np.uint32(0)
        if begin + _MASK_BITS <= n:
            # A slice with a length known at compile time: LLVM vectorises the loop.
            part = values[begin : begin + _MASK_BITS]
            for i in range(_MASK_BITS):
                mask |= np.uint32(part[i] != 0) << np.uint32(i)
        else:
            for i in range(n - begin):
                mask |= np.uint32(values[begin + i] != 0) << np.uint32(i)
        while mask:
            i = begin + _lowest(mask)
            mask &= mask - np.uint32(1)
            places[count] = i
            signs[count] = values[i] < 0
            count += 1
    return count


@kernel("(i4[::1], u4[::1], u4[::1], u4[::1])")
def find_large(values: Integers, places: Words, ordinals: Words, excesses: Words) -> int:
    """Find the integers of size 2 or more among those other than 0.

    Args:
        values: (n,) int32.
        places: (count,) uint32, indices of the integers other than 0.
        ordinals, excesses: (count,) uint32, output: ascending indices in `places`; sizes less 2.

    Returns:
        The number of these integers.
    """
    count = 0
    for j in range(places.size):
        size = abs(values[places[j]])
        if size > 1:
            ordinals[count] = j
            excesses[count] = size - 2
            count += 1
    return count


@kernel("(u4[::1], i8, u4[::1])")
def write_quotients(numbers: Words, m: int, words: Words) -> int:
    """Write numbers, divided by 2^m, in unary: q zeros and a one. Return the number of words."""
    end, ones, bit = 0, np.uint32(0), 0
    for number in numbers:
        bit += np.int64(number >> np.uint32(m))
        while bit >= 32:
            words[end] = ones
            end += 1
            ones = np.uint32(0)
            bit -= 32
        ones |= np.uint32(1) << np.uint32(bit)
        bit += 1
    if numbers.size:
        words[end] = ones
        end += 1
    return end


@kernel("(u4[::1], u4[::1], i8, i8, u4[::1])")
def write_gaps(places: Words, extras: Words, bits: int, k: int, words: Words) -> int:
    """Write the gaps between places as Golomb-Rice codes, each with some extra bits.

    Args:
        places: (count,) uint32, ascending.
        extras: (count,) uint32; their lowest bits are written.
        bits: number of extra bits.
        k: bits of a gap's remainder. k + bits is at most 32.
        words: uint32, output; long enough.

    Returns:
        The number of words.
    """
    width, count = np.uint64(k + bits), places.size
    gap_mask = (np.uint32(1) << np.uint32(k)) - np.uint32(1)
    extra_mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    at, fields, used = 0, np.uint64(0), np.uint64(0)
    gaps, least = np.empty(count, np.uint32), np.uint32(0)  # the smallest place that can come next
    for j in range(count):
        gap = places[j] - least
        gaps[j] = gap
        least = places[j] + np.uint32(1)
        field = np.uint64(gap & gap_mask) << np.uint64(bits) | (np.uint64(extras[j]) & extra_mask)
        fields |= field << used
        used += width
        if used >= np.uint64(32):
            words[at] = np.uint32(fields & np.uint64(0xFFFFFFFF))
            at += 1
            fields >>= np.uint64(32)
            used -= np.uint64(32)
    if used:
        words[at] = np.uint32(fields)
        at += 1
    return at + write_quotients(gaps, k, words[at:])


@kernel("(u4[::1], i8, i8, i8, u4[::1], u4[::1])")
def read_gaps(words: Words, bits: int, k: int, n: int, places: Words, extras: Words) -> int:
    """Undo `write_gaps` for words from outside.

    Args:
        words: uint32; other words may follow.
        bits, k: as in `write_gaps`.
        n: end of the range of places.
        places, extras: (count,) uint32, output; places ascend and are below n.

    Returns:
        The number of words read; or -1 if they are not the output of `write_gaps` for `count`
        places below n.
    """
    count, width = places.size, k + bits
    begin = (count * width + 31) // 32
    if count == 0:
        return 0
    if begin >= words.size:
        return -1
    field_mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    extra_mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    used = count * width % 32
    if used and words[begin - 1] >> np.uint32(used):
        return -1
    word, ones, bit, remainders = begin, words[begin], 0, 0
    most = n >> k  # the largest sum of quotients; a larger one could overflow
    last = words.size - 1  # next to a field of no bits there may be no other word
    for j in range(count):
        while ones == 0:
            word += 1
            if word == words.size:
                return -1
            ones = words[word]
        one = (word - begin) * 32 + _lowest(ones)
        ones &= ones - np.uint32(1)
        at, shift = bit >> 5, np.uint64(bit & 31)
        both = np.uint64(words[at]) | np.uint64(words[min(at + 1, last)]) << np.uint64(32)
        field = both >> shift & field_mask
        bit += width
        # The quotients of the gaps so far are the zeros before this one bit.
        if one - j > most:
            return -1
        remainders += np.int64(field >> np.uint64(bits))
        place = ((one - j) << k) + remainders + j
        if place >= n:
            return -1
        places[j] = place
        extras[j] = np.uint32(field & extra_mask)
    return word + 1 if ones == 0 else -1


@kernel("(u4[::1], i8, i8, u4[::1])")
def read_quotients(words: Words, m: int, most: int, numbers: Words) -> bool:
    """Undo `write_quotients` for words from outside.

    Args:
        words: uint32.
        m: as in `write_quotients`.
        most: the largest possible number.
        numbers: (count,) uint32, changed in place from the lowest m bits to the whole numbers.

    Returns:
        Whether the words are the output of `write_quotients` for numbers up to `most`.
    """
    if numbers.size == 0:
        return words.size == 0
    word, before = -1, -1
    ones = np.uint32(0)
    for j in range(numbers.size):
        while ones == 0:
            word += 1
            if word == words.size:
                return False
            ones = words[word]
        one = word * 32 + _lowest(ones)
        ones &= ones - np.uint32(1)
        if one - before - 1 > most >> m:
            return False
        number = np.int64(numbers[j]) + ((one - before - 1) << m)
        if number > most:
            return False
        numbers[j] = number
        before = one
    return word == words.size - 1 and ones == 0


@kernel("(u4[::1], u4[::1], u4[::1], u4[::1], i4[::1])")
def add_codes(
    places: Words, signs: Words, ordinals: Words, excesses: Words, values: Integers
) -> None:
    """Add the integers that `find_nonzero` and `find_large` found in others."""
    for j in range(places.size):
        values[places[j]] += np.int32(1) - np.int32(2) * np.int32(signs[j])
    for i in range(ordinals.size):
        excess, j = np.int32(excesses[i] + np.uint32(1)), ordinals[i]
        values[places[j]] += -excess if signs[j] else excess


@kernel("(i4[::1], i8, u4[::1])")
def write_fields(values: Integers, width: int, words: Words) -> int:
    """Write integers in fields: 0, -1, 1, -2, 2 ... become 0, 1, 2, 3, 4 ...

    Args:
        values: (n,) int32.
        width: bits of a field, at most 32.
        words: uint32, output; long enough.

    Returns:
        The number of words.
    """
    at, fields, used = 0, np.uint64(0), np.uint64(0)
    for value in values:
        field = np.uint32(value << np.int32(1)) ^ np.uint32(value >> np.int32(31))
        fields |= np.uint64(field) << used
        used += np.uint64(width)
        if used >= np.uint64(32):
            words[at] = np.uint32(fields & np.uint64(0xFFFFFFFF))
            at += 1
            fields >>= np.uint64(32)
            used -= np.uint64(32)
    if used:
        words[at] = np.uint32(fields)
        at += 1
    return at


@kernel("(u4[::1], i8, i8, i8, i4[::1])")
def add_fields(words: Words, count: int, width: int, bound: int, values: Integers) -> bool:
    """Undo `write_fields` for words from outside, and add the integers to values.

    Args:
        words: uint32.
        count: number of integers other than 0.
        width: as in `write_fields`.
        bound: largest possible size of an integer.
        values: (n,) int32, changed in place.

    Returns:
        Whether the words are the output of `write_fields` for such integers. If not, values may
        hold a part of them.
    """
    n = values.size
    if words.size != (n * width + 31) // 32:
        return False
    mask, total = (np.uint64(1) << np.uint64(width)) - np.uint64(1), 0
    for i in range(n):
        bit = i * width
        at, shift = bit >> 5, np.uint64(bit & 31)
        both = np.uint64(words[at])
        if at + 1 < words.size:
            both |= np.uint64(words[at + 1]) << np.uint64(32)
        field = np.int64(both >> shift & mask)
        size = (field + 1) >> 1
        if size > bound:
            return False
        total += field != 0
        values[i] += np.int32(-size if field & 1 else size)
    used = n * width % 32
    return total == count and not (used and words[words.size - 1] >> np.uint32(used))
