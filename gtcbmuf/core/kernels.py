"""Numba kernels of gradient threshold compression: arrays in, arrays out.

Every kernel has a scalar oracle in tests/core/test_kernels.py. An update is a uint32
`index << 1 | negative`. `gtcbmuf.core.wire` describes the messages. Kernels trust their callers for
lengths and dtypes. Only `unpack`, `are_bits` and `add_message` check words from outside.
"""

# mypy: disable-error-code="assignment,arg-type"
# (Numba unifies the types of a variable's assignments by itself.)
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Vector, Words
from gtcbmuf.base.jit import kernel

#: Number of parameters that are compared with tau together: the bits of a mask.
MASK_BITS = 32

# Constants of a message, as `gtcbmuf.core.wire` describes it.
HEADER = 4
MAGIC = 0x47544300
DENSE, BACKLOG = 31, 1 << 7
#: Faults of a message.
SHORT, FOREIGN, OTHER_MODEL, BAD_TAU, BAD_FORM, BAD_BODY = range(1, 7)
#: Count of updates that a kernel returns if a gradient is not finite.
NOT_FINITE = -1

_LARGEST = np.finfo(np.float32).max
#: All bits of a float32 except the sign; its exponent, whose bits are all set if it is not finite.
_SIZE, _EXPONENT = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)


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


@kernel("(f4[::1], f4[::1], f4, u4[::1])")
def take(residual: Vector, gradient: Vector, tau: np.float32, updates: Words) -> tuple[int, int]:
    """residual += gradient; move one tau from each |residual| >= tau to an update, ascending.

    One pass (Strom 2015, section 2). It ends early if `updates` cannot hold MASK_BITS more.

    Args:
        residual: (n,) float32, changed in place.
        gradient: (n,) float32.
        tau: the threshold, above 0.
        updates: uint32, output; holds at least MASK_BITS.

    Returns:
        The number of updates, and the parameter at which the pass ended: n, or a multiple of
        MASK_BITS. Or NOT_FINITE, and the first parameter whose sum is not finite.
    """
    n = residual.size
    count = 0
    for begin in range(0, n, MASK_BITS):
        if count + MASK_BITS > updates.size:
            return count, begin
        mask = np.uint32(0)
        if begin + MASK_BITS <= n:
            # Slices with a length known at compile time: LLVM vectorises to 8 or 16 lanes.
            left, more = residual[begin : begin + MASK_BITS], gradient[begin : begin + MASK_BITS]
            for i in range(MASK_BITS):
                value = left[i] + more[i]
                left[i] = value
                mask |= np.uint32(not abs(value) < tau) << np.uint32(i)  # also NaN
        else:
            for i in range(n - begin):
                value = residual[begin + i] + gradient[begin + i]
                residual[begin + i] = value
                mask |= np.uint32(not abs(value) < tau) << np.uint32(i)  # also NaN
        while mask:
            i = begin + _lowest(mask)
            mask &= mask - np.uint32(1)
            value = residual[i]
            if not abs(value) <= _LARGEST:
                return NOT_FINITE, i
            residual[i] = value - np.copysign(tau, value)
            updates[count] = i << 1 | (value < 0)
            count += 1
    return count, n


@kernel("(u4[::1], i8, u4[::1])")
def pack(updates: Words, k: int, words: Words) -> int:
    """Write the gaps between updates as Golomb-Rice codes, as `gtcbmuf.core.wire` describes them.

    Args:
        updates: (count,) uint32, ascending.
        k: bits of a remainder, 0 to 30.
        words: uint32, output; long enough.

    Returns:
        The number of words.
    """
    width = np.uint64(k + 1)
    remainder = (np.uint32(1) << np.uint32(k)) - np.uint32(1)
    at, fields, used = 0, np.uint64(0), np.uint64(0)
    end, ones, bit = (updates.size * (k + 1) + 31) // 32, np.uint32(0), 0
    least = np.uint32(0)  # the smallest index that can come next
    for update in updates:
        gap = (update >> np.uint32(1)) - least
        least += gap + np.uint32(1)
        field = (gap & remainder) << np.uint32(1) | (update & np.uint32(1))
        fields |= np.uint64(field) << used
        used += width
        if used >= np.uint64(32):
            words[at] = np.uint32(fields & np.uint64(0xFFFFFFFF))
            at += 1
            fields >>= np.uint64(32)
            used -= np.uint64(32)
        bit += np.int64(gap >> np.uint32(k))
        while bit >= 32:
            words[end] = ones
            end += 1
            ones = np.uint32(0)
            bit -= 32
        ones |= np.uint32(1) << np.uint32(bit)
        bit += 1
    if used:
        words[at] = np.uint32(fields)
    if updates.size:
        words[end] = ones
        end += 1
    return end


@kernel("(u4[::1], i8, i8, u4[::1])")
def unpack(words: Words, k: int, n: int, updates: Words) -> bool:
    """Undo `pack`, for words from outside.

    Args:
        words: uint32.
        k: bits of a remainder, 0 to 30.
        n: the number of parameters.
        updates: (count,) uint32, output; ascending and below n if the words are valid.

    Returns:
        Whether the words are the output of `pack` for `count` updates of n parameters.
    """
    count = updates.size
    width = k + 1
    begin = (count * width + 31) // 32
    if count == 0 or begin >= words.size:
        return count == words.size == 0
    field_mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    used = count * width % 32
    if used and words[begin - 1] >> np.uint32(used):
        return False
    i, bit, remainders = 0, 0, 0
    for w in range(begin, words.size):
        ones = words[w]
        while ones:
            if i == count:
                return False
            one = (w - begin) * 32 + _lowest(ones)
            ones &= ones - np.uint32(1)
            at, shift = bit >> 5, np.uint64(bit & 31)
            both = np.uint64(words[at]) | np.uint64(words[at + 1]) << np.uint64(32)
            field = np.int64(both >> shift & field_mask)
            bit += width
            # The quotients of the gaps so far are the zeros before this one bit.
            remainders += field >> 1
            index = ((one - i) << k) + remainders + i
            if index >= n:
                return False
            updates[i] = index << 1 | (field & 1)
            i += 1
    return i == count and words[words.size - 1] != 0


@kernel("(f4[::1], f4[::1], f4, i8, u4[::1])")
def take_bits(residual: Vector, gradient: Vector, tau: np.float32, first: int, words: Words) -> int:
    """Do the same as `take`, but write 2 bits per parameter: 1 is +tau, 3 is -tau.

    Args:
        residual: (n,) float32, changed in place.
        gradient: (n,) float32.
        tau: the threshold.
        first: the parameter to begin with: n, or a multiple of 16.
        words: (ceil(n / 16),) uint32, output; the code of parameter i starts at bit 2 (i % 16) of
            word i // 16.

    Returns:
        The number of updates; or NOT_FINITE.
    """
    n = residual.size
    raw = residual.view(np.uint32)
    count, largest = 0, np.uint32(0)
    for begin in range(first, n, 16):
        bits = np.uint32(0)
        if begin + 16 <= n:
            # As in `take`: slices with a length known at compile time.
            left, more = residual[begin : begin + 16], gradient[begin : begin + 16]
            kept, most = raw[begin : begin + 16], np.uint32(0)
            for i in range(16):
                value = left[i] + more[i]
                sent, negative = np.uint32(abs(value) >= tau), np.uint32(value < 0)
                left[i] = value - np.float32(sent) * np.copysign(tau, value)
                bits |= np.uint32(sent * (1 + 2 * negative) << 2 * i)
                count += sent
            for i in range(16):  # infinity and NaN stay in the residual
                most = max(most, kept[i] & _SIZE)
            largest = max(largest, most)
        else:
            for i in range(n - begin):
                value = residual[begin + i] + gradient[begin + i]
                sent, negative = np.uint32(abs(value) >= tau), np.uint32(value < 0)
                residual[begin + i] = value - np.float32(sent) * np.copysign(tau, value)
                bits |= np.uint32(sent * (1 + 2 * negative) << 2 * i)
                count += sent
                largest = max(largest, raw[begin + i] & _SIZE)
        words[begin // 16] = bits
    return count if largest < _EXPONENT else NOT_FINITE


@kernel("(f4[::1], f4)")
def count_reaching(vector: Vector, threshold: np.float32) -> int:
    """Count the numbers of a vector (n,) that are at least as large as a threshold."""
    count = 0
    for i in range(vector.size):
        count += abs(vector[i]) >= threshold
    return count


@kernel("(u4[::1], u4[::1])")
def set_bits(updates: Words, words: Words) -> None:
    """Write updates into words that are zero, in the form of `take_bits`."""
    for update in updates:
        index = update >> np.uint32(1)
        code = np.uint32(1) | (update & np.uint32(1)) << np.uint32(1)
        words[index >> np.uint32(4)] |= code << np.uint32(2) * (index & np.uint32(15))


@kernel("(u4[::1], i8, i8)")
def are_bits(words: Words, n: int, count: int) -> bool:
    """Whether the bits name `count` parameters below n, each with a valid code."""
    sent_bits = np.uint32(0x55555555)
    total = 0
    for w in range(words.size):
        sent = words[w] & sent_bits
        negative = (words[w] >> np.uint32(1)) & sent_bits
        if negative & ~sent:
            return False
        # The number of ones, by pairs, then in a product's top byte.
        nibbles = (sent & np.uint32(0x33333333)) + ((sent >> np.uint32(2)) & np.uint32(0x33333333))
        octets = (nibbles + (nibbles >> np.uint32(4))) & np.uint32(0x0F0F0F0F)
        total += np.uint32(octets * np.uint32(0x01010101)) >> np.uint32(24)
    tail = n % 16
    beyond = tail != 0 and words[words.size - 1] >> np.uint32(2 * tail) != 0
    return total == count and not beyond


@kernel("(u4[::1], f4, f4[::1])")
def add_updates(updates: Words, step: np.float32, vector: Vector) -> None:
    """vector[index] += step, or -= step where negative."""
    for update in updates:
        if update & np.uint32(1):
            vector[update >> np.uint32(1)] -= step
        else:
            vector[update >> np.uint32(1)] += step


@kernel("(u4[::1], f4, f4[::1])")
def add_bits(words: Words, step: np.float32, vector: Vector) -> None:
    """Do the same as `add_updates`, for the 2-bit form. `are_bits` must hold."""
    for w in range(words.size):
        bits = words[w]
        begin = w * 16
        for k in range(min(16, vector.size - begin)):
            sent = np.int32(bits >> np.uint32(2 * k)) & np.int32(1)
            negative = np.int32(bits >> np.uint32(2 * k + 1)) & np.int32(1)
            vector[begin + k] += step * np.float32(sent - 2 * negative)


def rice_parameter(n: int, count: int) -> int:
    """Choose k for `count` updates of n parameters.

    For random gaps the best k is log2(0.962 n / count), rounded down. The constant 0.962 is twice
    the natural logarithm of the golden ratio (Kiely, IPN Progress Report 42-159, 2004). The
    computation uses integers, so that all hosts agree.
    """
    k, quotient = 0, 246 * n // (256 * max(count, 1)) >> 1
    while quotient:
        quotient >>= 1
        k += 1
    return min(k, 30)


_rice_parameter = kernel("(i8, i8)")(
    rice_parameter
)  # a plan calls the Python function, which loads no kernel


@kernel("(i8, i8)")
def form_of(n: int, count: int) -> int:
    """Choose the form of a message: k, or DENSE if that is smaller or the density is above 1/16."""
    if 16 * count > n:
        return DENSE
    k = _rice_parameter(n, count)
    longest = (count * (k + 1) + 31) // 32 + (count + (n >> k) + 31) // 32 if count else 0
    return k if longest <= (n + 15) // 16 else DENSE


@kernel("(u4[::1], f4, u4[::1], f4[::1])")
def add_message(words: Words, scale: np.float32, scratch: Words, vector: Vector) -> int:
    """Check a message, and vector += scale * its updates. A fault leaves the vector unchanged.

    Args:
        words: uint32, from outside.
        scale: factor of the updates.
        scratch: uint32, holds n / 16 updates.
        vector: (n,) float32, changed in place.

    Returns:
        0, or the fault.
    """
    n = vector.size
    if words.size < HEADER:
        return SHORT
    form, count = (np.int64(words[0]) ^ MAGIC) & ~BACKLOG, np.int64(words[2])
    if form > DENSE:
        return FOREIGN
    if np.int64(words[1]) != n:
        return OTHER_MODEL
    tau = words[3:4].view(np.float32)[0]
    if not (tau > 0 and np.isfinite(tau)):
        return BAD_TAU
    if count > n or form != form_of(n, count):
        return BAD_FORM
    step, body = np.float32(scale * tau), words[HEADER:]
    if form == DENSE:
        if body.size != (n + 15) // 16 or not are_bits(body, n, count):
            return BAD_BODY
        add_bits(body, step, vector)
        return 0
    updates = scratch[:count]
    if not unpack(body, form, n, updates):
        return BAD_BODY
    add_updates(updates, step, vector)
    return 0


@kernel("(u4[:, ::1], f4, u4[::1], f4[::1])")
def add_messages(
    rows: NDArray[np.uint32], scale: np.float32, scratch: Words, vector: Vector
) -> tuple[int, int]:
    """Call `add_message` for every row: the number of a message's words, and the words.

    Returns:
        (0, 0), or the first row with a fault, and the fault.
    """
    for rank in range(rows.shape[0]):
        row = rows[rank]
        fault = add_message(row[1 : 1 + row[0]], scale, scratch, vector)
        if fault:
            return rank, fault
    return 0, 0


@kernel("(f4[::1], f4, f4[::1])")
def add_scaled(update: Vector, scale: np.float32, vector: Vector) -> None:
    """vector += scale * update; both (n,) float32."""
    for i in range(vector.size):
        vector[i] += scale * update[i]


@kernel("(f4[::1],)")
def all_finite(vector: Vector) -> bool:
    """Whether no number of a vector (n,) is NaN or infinite."""
    bits = vector.view(np.uint32)
    largest = np.uint32(0)
    for i in range(bits.size):
        largest = max(largest, bits[i] & _SIZE)
    return bool(largest < _EXPONENT)
