"""Numba kernels of both tiers: arrays in, arrays out.

Every kernel has a scalar oracle in tests/core/test_kernels.py. Kernels trust their callers for
lengths and dtypes.
"""

# mypy: disable-error-code="assignment,arg-type,return-value"
# (Numba unifies the types of a variable's assignments by itself.)
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Integers, Vector
from gtcbmuf.base.jit import kernel

#: Count that `threshold` returns if a sum is not finite.
NOT_FINITE = -1
#: Most rows of signs whose sums fit into a byte: each sign is a number from 0 to 2.
MOST_ROWS = 127
#: Largest size of a quantised number, and of a number whose square `energy` adds up.
LARGEST, RANGE = 32_767, 2**13
#: Largest exponent of a unit, as in a float32: three units are finite.
MOST_EXPONENT = 252
#: Momentum and moments below it become 0. Without updates they would reach denormal numbers and
#: stay there: a step with these takes 20 times as long.
NEGLIGIBLE = np.float32(1e-32)

#: Parameters that a kernel takes through the cache at a time.
_CHUNK = 1024
#: All bits of a float32 except the sign; its exponent, whose bits are all set if it is not finite.
_SIZE, _EXPONENT = np.uint32(0x7FFFFFFF), np.uint32(0x7F800000)
#: Adding this number to a float32 below 2^22, and subtracting it, rounds to the nearest integer.
_ROUNDER = np.float32(1.5 * 2**23)


@kernel("(f4[::1], f4[::1], f4, u1[::1])")
def threshold(residual: Vector, gradient: Vector, tau: np.float32, signs: NDArray[np.uint8]) -> int:
    """residual += gradient; move one tau from each |residual| >= tau to its sign.

    One pass (Strom 2015, section 2).

    Args:
        residual: (n,) float32, changed in place.
        gradient: (n,) float32.
        tau: the threshold, above 0.
        signs: (n,) uint8, output: 2 for +tau, 0 for -tau, 1 for nothing.

    Returns:
        The number of signs that are not 1; or NOT_FINITE.
    """
    n, raw = residual.size, residual.view(np.uint32)
    count, largest, whole = 0, np.uint32(0), residual.size // _CHUNK * _CHUNK
    for begin in range(0, whole, _CHUNK):
        # Slices with a length known at compile time: LLVM vectorises to 8 or 16 lanes.
        left, more = residual[begin : begin + _CHUNK], gradient[begin : begin + _CHUNK]
        kept, sent = raw[begin : begin + _CHUNK], signs[begin : begin + _CHUNK]
        for i in range(_CHUNK):
            value = left[i] + more[i]
            is_up, is_down = value >= tau, value <= -tau
            # Choices, because a sign as a number would be converted to a float and to a byte: that
            # took three times as long on an Intel processor.
            left[i] = value - (tau if is_up else -tau if is_down else np.float32(0))
            sent[i] = np.uint8(2) if is_up else np.uint8(0) if is_down else np.uint8(1)
        unsent, most = np.int32(0), np.uint32(0)
        for i in range(_CHUNK):
            unsent = np.int32(unsent + np.int32(sent[i] & np.uint8(1)))
        for i in range(_CHUNK):  # infinity and NaN stay in the residual
            most = max(most, kept[i] & _SIZE)
        count += _CHUNK - unsent
        largest = max(largest, most)
    for i in range(whole, n):
        value = residual[i] + gradient[i]
        sign = np.int32(value >= tau) - np.int32(value <= -tau)
        residual[i] = value - np.float32(sign) * tau
        signs[i] = np.uint8(1 + sign)
        count += sign != 0
        largest = max(largest, raw[i] & _SIZE)
    return count if largest < _EXPONENT else NOT_FINITE


@kernel("(f4[::1], f4)")
def count_reaching(vector: Vector, threshold: np.float32) -> int:
    """Count the numbers of a vector (n,) that are at least as large as a threshold."""
    count = 0
    for i in range(vector.size):
        count += abs(vector[i]) >= threshold
    return count


@kernel("(u8[:, ::1], i8, u8[::1], u1[::1], i4[::1])")
def sum_signs(
    rows: NDArray[np.uint64],
    first: int,
    sums: NDArray[np.uint64],
    bytes_of_sums: NDArray[np.uint8],
    values: Integers,
) -> None:
    """Add up rows of signs, eight at a time: no byte of a sum overflows.

    Args:
        rows: (r, w) uint64, each with the signs of `threshold` of 8 parameters.
        first: the word to begin with.
        sums: (w',) uint64, scratch.
        bytes_of_sums: the same memory as bytes, (8 w',) uint8.
        values: (m,) int32, output, m <= 8 w': the sums, with -1 and 1 as signs.
    """
    values[:] = 0
    words = (values.size + 7) // 8
    for begin in range(0, rows.shape[0], MOST_ROWS):
        end = min(begin + MOST_ROWS, rows.shape[0])
        sums[:words] = rows[begin, first : first + words]
        for r in range(begin + 1, end):
            row = rows[r, first : first + words]
            for w in range(words):
                sums[w] += row[w]
        added = np.int32(end - begin)
        for i in range(values.size):
            values[i] += np.int32(bytes_of_sums[i]) - added


@kernel("(i2[:, ::1], i8, i4[::1])")
def sum_rows(rows: NDArray[np.int16], first: int, values: Integers) -> None:
    """values = the sums of rows[:, first : first + m]; values (m,) int32, output."""
    values[:] = 0
    for r in range(rows.shape[0]):
        row = rows[r, first : first + values.size]
        for i in range(values.size):
            values[i] += np.int32(row[i])


@kernel("(i4[::1], f4, f4[::1])")
def add_integers(sums: Integers, step: np.float32, vector: Vector) -> None:
    """vector += step * sums; sums (n,) int32, vector (n,) float32."""
    for i in range(vector.size):
        vector[i] += step * np.float32(sums[i])


@kernel("(i2[::1], f4, f4[::1])")
def add_counts(counts: NDArray[np.int16], step: np.float32, vector: Vector) -> None:
    """vector += step * counts; counts (n,) int16, vector (n,) float32."""
    for i in range(vector.size):
        vector[i] += step * np.float32(counts[i])


@kernel("(f4[::1], f4[::1], f4, i2[::1])")
def quantise(
    vector: Vector, origin: Vector, steps: np.float32, integers: NDArray[np.int16]
) -> None:
    """integers = (vector - origin) * steps, rounded to the nearest and bounded by LARGEST.

    Args:
        vector, origin: (n,) float32.
        steps: quantisation steps in 1.
        integers: (n,) int16, output.
    """
    most = np.float32(LARGEST)
    for i in range(vector.size):
        scaled = min(max((vector[i] - origin[i]) * steps, -most), most)
        integers[i] = np.int16(np.int32((scaled + _ROUNDER) - _ROUNDER))


@kernel("(f4[::1], f4, f4, f4, i2[::1])")
def take_steps(
    residual: Vector,
    steps: np.float32,
    step: np.float32,
    most: np.float32,
    integers: NDArray[np.int16],
) -> None:
    """integers = residual * steps, rounded to the nearest; residual -= step * integers.

    Args:
        residual: (n,) float32, changed in place.
        steps, step: quantisation steps in 1, and the size of one.
        most: largest size of an integer.
        integers: (n,) int16, output.
    """
    for i in range(residual.size):
        scaled = min(max(residual[i] * steps, -most), most)
        rounded = (scaled + _ROUNDER) - _ROUNDER
        integers[i] = np.int16(np.int32(rounded))
        residual[i] -= step * rounded


@kernel("(f4[::1], f4[::1], f4)")
def energy(vector: Vector, origin: Vector, steps: np.float32) -> int:
    """Sum the squares of the integers in |vector - origin| * steps, each at most RANGE.

    Integers have a sum that depends on no order, so the machine may add in any.

    Args:
        vector, origin: (n,) float32.
        steps: quantisation steps in 1.
    """
    most, total = np.float32(RANGE), np.int64(0)
    for i in range(vector.size):
        size = np.int32(min(abs(vector[i] - origin[i]) * steps, most))
        total += np.int64(size * size)
    return total


@kernel("(f4[::1], f4[::1], f4[::1], f4, f4)")
def restart(
    model: Vector, start: Vector, following: Vector, steps: np.float32, step: np.float32
) -> None:
    """model = following + what `quantise` left of model - start.

    Args:
        model: (n,) float32, changed in place.
        start, following: (n,) float32, starts of the last block and of the next one.
        steps, step: quantisation steps in 1, and the size of one.
    """
    most = np.float32(LARGEST)
    for i in range(model.size):
        change = model[i] - start[i]
        scaled = min(max(change * steps, -most), most)
        model[i] = following[i] + (change - step * ((scaled + _ROUNDER) - _ROUNDER))


@kernel("(f4[::1], f4, f4[::1])")
def add_scaled(update: Vector, scale: np.float32, vector: Vector) -> None:
    """vector += scale * update; both (n,) float32."""
    for i in range(vector.size):
        vector[i] += scale * update[i]


@kernel("(f4[::1], f4)")
def decay(velocity: Vector, momentum: np.float32) -> None:
    """velocity *= momentum; what is below NEGLIGIBLE becomes 0. velocity (n,) float32."""
    for i in range(velocity.size):
        value = momentum * velocity[i]
        velocity[i] = np.float32(0) if abs(value) < NEGLIGIBLE else value


@kernel("(f4[::1], f4, f4, f4, f4, f4, f4, f4[::1], f4[::1], f4[::1])")
def adamw(
    gradient: Vector,
    new: np.float32,
    new_square: np.float32,
    rate: np.float32,
    correction: np.float32,
    epsilon: np.float32,
    kept: np.float32,
    first: Vector,
    second: Vector,
    model: Vector,
) -> None:
    """One step of AdamW in one pass (Loshchilov and Hutter 2019, algorithm 2).

    Moments below NEGLIGIBLE become 0. A square that overflows makes the model NaN in the next step,
    so that it is found.

    Args:
        gradient: (n,) float32.
        new, new_square: 1 - beta1 and 1 - beta2.
        rate: learning rate / (1 - beta1^t) in step t.
        correction: 1 / sqrt(1 - beta2^t).
        epsilon: added to the root of the second moment.
        kept: factor of the model, 1 - learning rate * weight decay.
        first, second, model: (n,) float32, changed in place.
    """
    for i in range(model.size):
        mean = first[i] + new * (gradient[i] - first[i])
        square = second[i] + new_square * (gradient[i] * gradient[i] - second[i])
        first[i] = mean = np.float32(0) if abs(mean) < NEGLIGIBLE else mean
        second[i] = square = np.float32(0) if square < NEGLIGIBLE else square
        size = np.sqrt(square) * correction + epsilon
        model[i] = kept * model[i] - rate * mean / size


@kernel("(f4[::1],)")
def all_finite(vector: Vector) -> bool:
    """Whether no number of a vector (n,) is NaN or infinite."""
    bits = vector.view(np.uint32)
    largest = np.uint32(0)
    for i in range(bits.size):
        largest = max(largest, bits[i] & _SIZE)
    return bool(largest < _EXPONENT)


@kernel("(f4[::1], i8, f8, i2[::1], u1[::1])")
def choose_largest(
    vector: Vector,
    chunk: int,
    density: float,
    chosen: NDArray[np.int16],
    exponents: NDArray[np.uint8],
) -> None:
    """chosen = 1 for the numbers of largest size in each chunk, 0 for the others.

    Of numbers with the same size, the first are chosen.

    Args:
        vector: (n,) float32, finite.
        chunk: length of a chunk; the last one may be shorter.
        density: share of the numbers in a chunk, rounded to at least one number.
        chosen: (n,) int16, output.
        exponents: one for each chunk, uint8, output: the exponent, as in a float32, of the power of
            two that is nearest to the mean size of the chosen numbers. 0 if they are all 0.
    """
    raw, mean = vector.view(np.uint32), np.zeros(1, np.float32)
    for number in range(exponents.size):
        begin = number * chunk
        sizes = raw[begin : begin + chunk] & _SIZE  # ordered like the numbers' sizes
        count, least = max(1, int(density * sizes.size + 0.5)), np.uint32(0)
        for bit in range(30, -1, -1):  # the size that `count` numbers reach, bit by bit
            trial, reaching = least | np.uint32(1 << bit), np.int32(0)
            for i in range(sizes.size):
                reaching = np.int32(reaching + np.int32(sizes[i] >= trial))
            least = trial if reaching >= count else least
        ties, total = count, 0.0
        for i in range(sizes.size):
            ties -= sizes[i] > least
        for i in range(sizes.size):
            chosen[begin + i] = 0
            if sizes[i] >= least and (sizes[i] > least or ties > 0):
                ties -= sizes[i] == least
                chosen[begin + i] = 1
                total += np.float64(abs(vector[begin + i]))
        mean[0] = total / count
        # Adding half of the mantissa's range rounds to the nearest power of two.
        nearest = (mean.view(np.uint32)[0] + np.uint32(1 << 22)) >> np.uint32(23)
        exponents[number] = min(nearest, np.uint32(MOST_EXPONENT))


@kernel("(f4[::1], i8, f4[::1], i2[::1])")
def take_levels(residual: Vector, chunk: int, units: Vector, integers: NDArray[np.int16]) -> None:
    """Round the chosen numbers to 0, 1 or 3 units of their chunk, and subtract that.

    Below half a unit, a number is rounded to 0; from 2 units on, to 3. A unit is a power of two. So
    the subtraction is exact, unless a number has more than 2^23 units.

    Args:
        residual: (n,) float32, changed in place.
        chunk: length of a chunk.
        units: the unit of each chunk, float32; a chunk with the unit 0 sends nothing.
        integers: (n,) int16. Input: 1 for a chosen number, else 0. Output: its units.
    """
    for number in range(units.size):
        unit, begin = units[number], number * chunk
        for i in range(begin, min(begin + chunk, residual.size)):
            if integers[i]:
                size = abs(residual[i])
                level = 3 if size >= 2 * unit else 1 if size >= unit / 2 else 0
                level = level if unit > 0 else 0
                integers[i] = level if residual[i] > 0 else -level
                residual[i] -= unit * np.float32(integers[i])


@kernel("(i4[::1], i8, i8, f4[::1], f4, f4[::1])")
def add_levels(
    sums: Integers, first: int, chunk: int, units: Vector, scale: np.float32, vector: Vector
) -> None:
    """vector += scale * unit of the chunk * sums.

    Args:
        sums: (m,) int32.
        first: number of the first sum in the whole vector, which is cut into chunks.
        chunk: length of a chunk.
        units: the unit of each chunk of the whole vector, float32.
        scale: a factor.
        vector: (m,) float32, changed in place.
    """
    end = first + vector.size
    for number in range(first // chunk, (end + chunk - 1) // chunk):
        unit, begin = scale * units[number], max(number * chunk - first, 0)
        part = vector[begin : (number + 1) * chunk - first]
        terms = sums[begin : (number + 1) * chunk - first]
        for i in range(part.size):
            part[i] += unit * np.float32(terms[i])
