"""Kernels of the exchanges of others against scalar loops; compiled and interpreted."""

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gtcbmuf.core import bucket_kernels, low_rank, selection, sign_kernels

FLOATS = st.floats(-8, 8, width=32)
SIZES = st.one_of(st.integers(1, 70), st.just(200))
VECTORS = SIZES.flatmap(lambda n: arrays.arrays(np.float32, n, elements=FLOATS, fill=FLOATS))


@st.composite
def segmented(draw: Any) -> Any:
    """A vector and the ends of its segments."""
    vector = draw(VECTORS)
    inner = draw(st.sets(st.integers(1, vector.size), max_size=5))
    return vector, np.array(sorted({*inner, vector.size}), np.int64)


def test_signs_and_levels_are_those_of_every_segment(form: Any) -> None:
    @given(segmented(), st.booleans())
    def check(case: Any, means: bool) -> None:
        vector, ends = case
        words = np.full(-(-vector.size // 32), 0xFFFFFFFF, np.uint32)
        levels = np.full((ends.size, 2), 9, np.float32)
        form(sign_kernels.find_signs)(vector, words)
        bits = [int(words[i // 32]) >> i % 32 & 1 for i in range(32 * words.size)]
        assert bits == [*(int(x >= 0) for x in vector), *([0] * (-vector.size % 32))]

        find = sign_kernels.find_means if means else sign_kernels.find_sizes
        form(find)(vector, ends, levels)
        total = np.zeros_like(vector)
        form(sign_kernels.add_levels)(words, ends, levels, np.float32(1), total)
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            part = [float(x) for x in vector[begin:end]]
            below, above = [x for x in part if x < 0], [x for x in part if x >= 0]
            if means:
                low, high = (math.fsum(xs) / max(len(xs), 1) for xs in (below, above))
            else:
                high = math.fsum(map(abs, part)) / len(part)
                low = -high
            expected = [high if x >= 0 else low for x in part]
            np.testing.assert_allclose(total[begin:end], expected, rtol=1e-6, atol=1e-12)

    check()


def test_numbers_are_rounded_to_units_of_their_bucket(form: Any) -> None:
    @given(VECTORS, st.integers(1, 90), st.integers(2, 127), st.integers(0, 2**64 - 1))
    def check(vector: Any, size: int, levels: int, key: int) -> None:
        scales = np.full(-(-vector.size // size), 9, np.float32)
        form(bucket_kernels.find_scales)(vector, size, scales)
        nearest, random = np.full((2, vector.size), 999, np.int16)
        form(bucket_kernels.round_to_nearest)(vector, size, scales, levels, nearest)
        with np.errstate(over="ignore"):
            form(bucket_kernels.round_at_random)(
                vector, size, scales, levels, np.uint64(key), random
            )
        total = np.zeros_like(vector)
        form(bucket_kernels.add_units)(
            nearest.astype(np.int32), size, scales, levels, np.float32(2), total
        )
        for i, value in enumerate(vector):
            scale = max(abs(vector[i // size * size : (i // size + 1) * size]))
            assert scales[i // size] == scale
            exact = float(value) * levels / float(scale) if scale > 1e-30 else 0.0
            assert abs(nearest[i] - exact) <= 0.5001
            assert abs(random[i] - exact) < 1.0001
            assert max(abs(nearest[i]), abs(random[i])) <= levels
            assert total[i] == np.float32(2 * (scale / np.float32(levels))) * np.float32(nearest[i])
        form(bucket_kernels.subtract_units)(nearest, size, scales, levels, total)
        form(bucket_kernels.subtract_units)(nearest, size, scales, levels, total)
        assert not total.any()  # 2 units minus 1 unit minus 1 unit

    check()


def test_the_largest_numbers_are_found_and_the_first_of_equal_ones(form: Any) -> None:
    few_sizes = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 1e-40, 3e38])
    any_size = st.floats(width=32, allow_nan=False, allow_infinity=False)
    lengths = st.one_of(st.integers(1, 70), st.integers(400, 3000))

    @given(
        st.tuples(lengths, st.sampled_from([few_sizes, any_size])).flatmap(
            lambda case: arrays.arrays(np.float32, case[0], elements=case[1])
        ),
        st.floats(0, 1),
    )
    def check(vector: Any, density: float) -> None:
        count = max(1, round(density * vector.size))
        expected = np.sort(np.argsort(-np.abs(vector), kind="stable")[:count])
        places = np.full(vector.size, -1, np.int32)
        form(selection.find_largest)(vector, count, places)
        np.testing.assert_array_equal(places[:count], expected)

    check()


def test_the_largest_numbers_are_found_if_a_sample_misses_them(form: Any) -> None:
    vector = np.zeros(31 * 400, np.float32)
    vector[::31] = 1  # the sample
    vector[5:9] = 2
    places = np.empty(vector.size, np.int32)
    for count in (1, 4, 5, 404, 405):
        form(selection.find_largest)(vector, count, places)
        expected = np.sort(np.argsort(-vector, kind="stable")[:count])
        np.testing.assert_array_equal(places[:count], expected)


def test_random_numbers_are_those_of_splitmix64(form: Any) -> None:
    """With the first outputs of the source's program for a seed of 1234567."""
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    fractions = np.array([output / 2**64 for output in outputs])
    one, rounded = np.ones(1, np.float32), np.zeros(4, np.int16)
    for number in np.linspace(0, 1, 128, dtype=np.float32):
        numbers = np.full(4, number)
        with np.errstate(over="ignore"):
            form(bucket_kernels.round_at_random)(numbers, 4, one, 2, np.uint64(1234567), rounded)
        np.testing.assert_array_equal(rounded, np.minimum(np.floor(2 * numbers + fractions), 2))


def test_rows_are_made_orthonormal(form: Any) -> None:
    @given(st.integers(1, 4), st.integers(0, 30), st.integers(0, 2**32 - 1))
    def check(rank: int, more: int, seed: int) -> None:
        rows = np.random.default_rng(seed).normal(size=(rank, rank + more)).astype(np.float32)
        orthonormal = rows.copy()
        form(low_rank.orthogonalise)(orthonormal)
        if np.linalg.cond(rows) < 50:
            np.testing.assert_allclose(orthonormal @ orthonormal.T, np.eye(rank), atol=2e-3)
        # They span the same space, in the same order: the factor is triangular.
        q, _ = np.linalg.qr(rows.T.astype(np.float64))
        if np.linalg.cond(rows) < 50:
            np.testing.assert_allclose(np.abs(orthonormal @ q), np.eye(rank), atol=2e-3)

    check()


def test_dependent_rows_become_zero(form: Any) -> None:
    rows = np.array([[3, 4, 0], [6, 8, 0], [0, 0, 2], [0, 0, 0]], np.float32)[:, :3]
    form(low_rank.orthogonalise)(rows)
    np.testing.assert_allclose(rows, [[0.6, 0.8, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]], atol=1e-6)


def test_a_product_is_added_in_order(form: Any) -> None:
    @given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**32 - 1))
    def check(rank: int, rows: int, columns: int, seed: int) -> None:
        stream = np.random.default_rng(seed)
        left, right, matrix = (
            stream.normal(size=shape).astype(np.float32)
            for shape in ((rank, rows), (rank, columns), (rows, columns))
        )
        expected = matrix.copy()
        for k in range(rank):
            expected += (np.float32(-0.5) * left[k])[:, None] * right[k]
        form(low_rank.add_product)(left, right, np.float32(-0.5), matrix)
        assert matrix.tobytes() == expected.tobytes()

    check()
