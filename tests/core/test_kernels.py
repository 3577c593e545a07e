"""Every kernel against a scalar loop, to the bit; compiled and interpreted."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from gtcbmuf.core import kernels

FLOATS = st.floats(-8, 8, width=32)
TAUS = st.sampled_from([0.3, 0.5, 1.0, 1.7, 2.0]).map(np.float32)
#: Small ones, and those around the 1,024 parameters that a kernel takes at a time.
SIZES = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 200, 1023, 1024, 1025, 2100]))


@st.composite
def pairs(draw: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two vectors of one length."""
    n = draw(SIZES)
    vector = arrays.arrays(np.float32, n, elements=FLOATS, fill=FLOATS)
    return draw(vector), draw(vector)


def test_thresholding_is_the_scalar_rule(form: Any) -> None:
    @given(pairs(), TAUS)
    def check(vectors: Any, tau: np.float32) -> None:
        residual, gradient = vectors
        left, expected = residual.copy(), np.ones(residual.size, np.uint8)
        for i in range(residual.size):
            left[i] += gradient[i]
            if left[i] >= tau:
                left[i] -= tau
                expected[i] = 2
            elif left[i] <= -tau:
                left[i] += tau
                expected[i] = 0
        signs = np.full(residual.size, 9, np.uint8)
        count = form(kernels.threshold)(residual, gradient, tau, signs)
        assert count == np.count_nonzero(expected != 1)
        assert residual.tobytes() == left.tobytes()
        np.testing.assert_array_equal(signs, expected)

    check()


@given(pairs(), TAUS, st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_what_is_not_finite_is_found_wherever_it_is(
    vectors: Any, tau: np.float32, value: float, data: st.DataObject
) -> None:
    residual, gradient = vectors
    places = data.draw(st.sets(st.integers(0, residual.size - 1), min_size=1, max_size=3))
    gradient[list(places)] = value
    assert not kernels.all_finite(gradient)
    signs = np.zeros(residual.size, np.uint8)
    assert kernels.threshold(residual, gradient, tau, signs) == kernels.NOT_FINITE
    assert np.flatnonzero(~np.isfinite(residual)).tolist() == sorted(places)


@pytest.mark.parametrize("place", [0, 1023, 1024, 2047, 2048, 2099])
def test_one_number_that_is_not_finite_is_found_among_many(place: int) -> None:
    gradient, signs = np.ones(2100, np.float32), np.zeros(2100, np.uint8)
    gradient[place] = np.nan
    residual = np.zeros(2100, np.float32)
    assert kernels.threshold(residual, gradient, np.float32(1), signs) == kernels.NOT_FINITE


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_sum_that_overflows_is_not_finite(form: Any, sign: int) -> None:
    largest = np.full(5, sign * np.finfo(np.float32).max)
    arguments = largest.copy(), largest, np.float32(1), np.zeros(5, np.uint8)
    with np.errstate(over="ignore"):
        assert form(kernels.threshold)(*arguments) == kernels.NOT_FINITE


@given(pairs())
def test_what_is_finite_is_not_refused(vectors: Any) -> None:
    residual, _ = vectors
    residual[::3] = np.finfo(np.float32).max
    residual[1::3] = -np.finfo(np.float32).tiny
    assert kernels.all_finite(residual)


def test_what_reaches_a_threshold_is_counted(form: Any) -> None:
    @given(pairs(), TAUS)
    def check(vectors: Any, tau: np.float32) -> None:
        vector, _ = vectors
        vector[0] = -tau
        expected = sum(abs(value) >= tau for value in vector)
        assert form(kernels.count_reaching)(vector, tau) == expected

    check()


def signs_of(rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Rows of signs -1, 0 and 1 as the bytes of words."""
    return (rows + 1).astype(np.uint8).view(np.uint64)


def sum_signs(
    form: Any, rows: NDArray[np.int64], first: int, m: int, slack: int = 0
) -> NDArray[np.int32]:
    values = np.full(m, 77, np.int32)
    scratch = np.full(-(-m // 8) + slack, 2**64 - 1, np.uint64)
    form(kernels.sum_signs)(signs_of(rows), first // 8, scratch, scratch.view(np.uint8), values)
    return values


def test_signs_are_added_up(form: Any) -> None:
    @given(st.integers(1, 300), st.integers(1, 5), st.integers(0, 2**32), st.data())
    def check(count: int, words: int, seed: int, data: st.DataObject) -> None:
        rows = np.random.default_rng(seed).integers(-1, 2, (count, 8 * words))
        first = 8 * data.draw(st.integers(0, words - 1))
        m = data.draw(st.integers(0, 8 * words - first))
        values = sum_signs(form, rows, first, m, data.draw(st.integers(0, 1)))
        np.testing.assert_array_equal(values, rows.sum(axis=0)[first : first + m])

    check()


@pytest.mark.parametrize("count", [127, 128, 254, 255, 256, 300])
@pytest.mark.parametrize("sign", [-1, 1])
def test_no_byte_overflows_if_all_rows_agree(form: Any, count: int, sign: int) -> None:
    """The bytes of 127 signs are 254 at most; 128 would overflow, so they are added in parts."""
    rows = np.full((count, 16), sign)
    rows[:, 3] = 0
    np.testing.assert_array_equal(sum_signs(form, rows, 0, 16), rows.sum(axis=0))
    assert kernels.MOST_ROWS == 127


def test_rows_are_added_up(form: Any) -> None:
    @given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**32), st.data())
    def check(count: int, width: int, seed: int, data: st.DataObject) -> None:
        rows = np.random.default_rng(seed).integers(-32767, 32768, (count, width), np.int16)
        rows[:, 0] = 32767
        first = data.draw(st.integers(0, width))
        values = np.full(data.draw(st.integers(0, width - first)), 77, np.int32)
        form(kernels.sum_rows)(rows, first, values)
        expected = rows.sum(axis=0, dtype=np.int64)[first : first + values.size]
        np.testing.assert_array_equal(values, expected)

    check()


@pytest.mark.parametrize(
    ("kernel", "dtype"), [(kernels.add_integers, np.int32), (kernels.add_counts, np.int16)]
)
def test_integers_are_added_in_units_of_a_step(form: Any, kernel: Any, dtype: Any) -> None:
    @given(pairs(), FLOATS, st.integers(0, 2**32))
    def check(vectors: Any, scale: float, seed: int) -> None:
        vector, _ = vectors
        most = np.iinfo(dtype).max
        sums = np.random.default_rng(seed).integers(-most, most, vector.size).astype(dtype)
        step, expected = np.float32(scale), vector.copy()
        for i in range(vector.size):
            expected[i] += step * np.float32(sums[i])
        form(kernel)(sums, step, vector)
        assert vector.tobytes() == expected.tobytes()

    check()


def rounded(scaled: np.float32, most: int = 32767) -> int:
    """To the nearest integer, ties to even, and not beyond the largest."""
    return round(min(max(float(scaled), -most), most))


#: Steps that let changes be rounded, and be beyond the largest integer.
STEPS = st.sampled_from([0.25, 1.0, 2.0, 2.7, 4.0, 1e3, 1e4, 1e30]).map(np.float32)


def test_changes_are_rounded_to_the_nearest_step(form: Any) -> None:
    @given(pairs(), STEPS)
    def check(vectors: Any, steps: np.float32) -> None:
        vector, origin = vectors
        expected = [rounded((v - o) * steps) for v, o in zip(vector, origin, strict=True)]
        integers = np.zeros(vector.size, np.int16)
        form(kernels.quantise)(vector, origin, steps, integers)
        assert integers.tolist() == expected

    check()


def test_half_a_step_is_rounded_to_an_even_number_of_steps(form: Any) -> None:
    vector = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, 4e4, -4e4, 32766.5], np.float32)
    integers = np.zeros(vector.size, np.int16)
    form(kernels.quantise)(vector, np.zeros_like(vector), np.float32(1), integers)
    assert integers.tolist() == [0, 2, 2, 0, -2, 0, 32767, -32767, 32766]
    assert kernels.LARGEST == 32767


def test_a_residual_keeps_what_is_not_sent(form: Any) -> None:
    @given(pairs(), STEPS, st.sampled_from([127, 32767]))
    def check(vectors: Any, steps: np.float32, most: int) -> None:
        residual, _ = vectors
        step = np.float32(1) / steps
        expected = [rounded(value * steps, most) for value in residual]
        left = residual.copy()
        for i, sent in enumerate(expected):
            left[i] -= step * np.float32(sent)
        integers = np.zeros(residual.size, np.int16)
        form(kernels.take_steps)(residual, steps, step, np.float32(most), integers)
        assert integers.tolist() == expected
        assert residual.tobytes() == left.tobytes()

    check()


def test_squares_are_integers_with_a_largest_one(form: Any) -> None:
    @given(pairs(), STEPS)
    def check(vectors: Any, steps: np.float32) -> None:
        vector, origin = vectors
        with np.errstate(over="ignore"):
            sizes = [abs(v - o) * steps for v, o in zip(vector, origin, strict=True)]
        expected = sum(int(min(size, np.float32(8192))) ** 2 for size in sizes)
        assert form(kernels.energy)(vector, origin, steps) == expected

    check()


def test_a_model_starts_again_with_what_was_not_sent(form: Any) -> None:
    @given(pairs(), STEPS, FLOATS)
    def check(vectors: Any, steps: np.float32, moved: float) -> None:
        model, start = vectors
        step, following = np.float32(1) / steps, start + np.float32(moved)
        expected, integers = model.copy(), np.zeros(model.size, np.int16)
        form(kernels.quantise)(model, start, steps, integers)
        for i in range(model.size):
            unsent = model[i] - start[i] - step * np.float32(integers[i])
            expected[i] = following[i] + unsent
        form(kernels.restart)(model, start, following, steps, step)
        assert model.tobytes() == expected.tobytes()

    check()


@given(pairs(), FLOATS)
def test_add_scaled(vectors: Any, scale: float) -> None:
    update, vector = vectors
    expected = vector.astype(np.float64) + np.float64(np.float32(scale)) * update
    kernels.add_scaled(update, np.float32(scale), vector)
    np.testing.assert_allclose(vector, expected, rtol=1e-6, atol=1e-6)


#: Large and small enough for both sides of NEGLIGIBLE.
SCALES = st.sampled_from([1.0, 1e-31, 1e-32, 1e-33]).map(np.float32)


def test_momentum_decays(form: Any) -> None:
    @given(pairs(), st.floats(0, 1, width=32), SCALES)
    def check(vectors: Any, momentum: float, scale: np.float32) -> None:
        velocity = vectors[0] * scale
        expected = velocity * np.float32(momentum)
        expected[abs(expected) < np.float32(1e-32)] = 0
        form(kernels.decay)(velocity, np.float32(momentum))
        assert velocity.tobytes() == expected.tobytes()

    check()


@st.composite
def steps_of_adamw(draw: Any) -> list[NDArray[np.float32]]:
    """Gradient, two moments and model; the second moment is not negative."""
    n = draw(SIZES)
    vector = arrays.arrays(np.float32, n, elements=FLOATS, fill=FLOATS)
    gradient, first, second, model = (draw(vector) for _ in range(4))
    return [gradient, first, abs(second), model]


def test_adamw_is_the_scalar_rule(form: Any) -> None:
    @given(
        steps_of_adamw(), SCALES, st.lists(st.floats(2**-10, 1, width=32), min_size=6, max_size=6)
    )
    def check(vectors: Any, scale: np.float32, numbers: list[float]) -> None:
        new, new_square, rate, correction, epsilon, kept = map(np.float32, numbers)
        for vector in vectors[:3]:
            vector *= scale
        gradient, *expected = (vector.copy() for vector in vectors)
        first, second, model = expected
        for i, u in enumerate(gradient):
            first[i] += new * (u - first[i])
            second[i] += new_square * (u * u - second[i])
            for moment in (first, second):
                if abs(moment[i]) < np.float32(1e-32):
                    moment[i] = 0
            root = np.sqrt(second[i]) * correction + epsilon
            model[i] = kept * model[i] - rate * first[i] / root
        form(kernels.adamw)(
            vectors[0], new, new_square, rate, correction, epsilon, kept, *vectors[1:]
        )
        assert [v.tobytes() for v in vectors] == [v.tobytes() for v in (gradient, *expected)]

    check()


# The sparse outer step


@st.composite
def chunked(draw: Any) -> tuple[NDArray[np.float32], int]:
    """A vector with many numbers of equal sizes, and the length of a chunk."""
    values = st.one_of(FLOATS, st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 1e-40, 3e38]))
    vector = draw(arrays.arrays(np.float32, st.integers(0, 40), elements=values, fill=values))
    return vector, draw(st.sampled_from([1, 4, 7, 64]))


def nearest_power_of_two(value: float) -> float:
    """The nearest in [2^-126, 2^125], the larger one of two; 0 for a smaller value."""
    fraction, exponent = math.frexp(value)
    power = math.ldexp(1.0, min(exponent - (fraction < 0.75), 125)) if value else 0.0
    return power if power >= 2.0**-126 else 0.0


def units_of(exponents: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (exponents.astype(np.uint32) << 23).view(np.float32)


def test_the_largest_numbers_of_every_chunk_are_chosen(form: Any) -> None:
    @given(chunked(), st.sampled_from([1 / 64, 0.2, 0.5, 0.99]))
    def check(case: Any, density: float) -> None:
        vector, chunk = case
        starts = range(0, vector.size, chunk)
        expected, units = np.zeros(vector.size, np.int16), []
        for start in starts:
            part = np.abs(vector[start : start + chunk])
            count = max(1, int(density * part.size + 0.5))
            places = np.argsort(-part, kind="stable")[:count]
            expected[start + places] = 1
            mean = np.float32(sum(float(part[i]) for i in sorted(places)) / count)
            units.append(nearest_power_of_two(float(mean)))
        chosen, exponents = np.full(vector.size, 9, np.int16), np.zeros(len(starts), np.uint8)
        form(kernels.choose_largest)(vector, chunk, density, chosen, exponents)
        np.testing.assert_array_equal(chosen, expected)
        np.testing.assert_array_equal(units_of(exponents), np.float32(units))

    check()


def test_chosen_numbers_are_rounded_to_levels_and_the_rest_is_kept_exactly(form: Any) -> None:
    units = st.sampled_from([0.0, 2.0**-10, 0.25, 1.0, 2.0, 8.0])

    @given(chunked(), st.data())
    def check(case: Any, data: Any) -> None:
        vector, chunk = case
        vector = np.clip(vector, -8, 8)
        chunks = -(-vector.size // chunk)
        of_chunks = np.float32(data.draw(st.lists(units, min_size=chunks, max_size=chunks)))
        chosen = data.draw(arrays.arrays(np.int16, vector.size, elements=st.integers(0, 1)))
        expected = np.zeros(vector.size, np.int16)
        for i in np.flatnonzero(chosen):
            unit = float(of_chunks[i // chunk])
            size = abs(float(vector[i])) / unit if unit else 0.0
            level = 3 if size >= 2 else 1 if size >= 0.5 else 0
            expected[i] = math.copysign(level, vector[i])
        integers, residual = chosen.copy(), vector.copy()
        form(kernels.take_levels)(residual, chunk, of_chunks, integers)
        np.testing.assert_array_equal(integers, expected)
        sent = np.repeat(of_chunks, chunk)[: vector.size] * integers
        exact = residual.astype(np.float64) + sent
        np.testing.assert_array_equal(exact, vector)
        assert (np.abs(residual) <= np.abs(vector)).all()

    check()


@pytest.mark.parametrize(("first", "size"), [(0, 20), (3, 1), (3, 9), (4, 8), (7, 13), (20, 0)])
def test_levels_are_added_in_the_units_of_their_chunks(form: Any, first: int, size: int) -> None:
    stream, chunk = np.random.default_rng(0), 4
    units, scale = np.float32(2.0 ** np.arange(5)), np.float32(0.3)
    sums = stream.integers(-9, 9, size).astype(np.int32)
    vector = stream.standard_normal(size).astype(np.float32)
    expected = vector.copy()
    for i in range(size):
        expected[i] += scale * units[(first + i) // chunk] * np.float32(sums[i])
    form(kernels.add_levels)(sums, first, chunk, units, scale, vector)
    assert vector.tobytes() == expected.tobytes()
