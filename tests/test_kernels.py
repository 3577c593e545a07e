"""Every kernel against a scalar loop, to the bit; compiled and interpreted."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from gtcbmuf import kernels

FLOATS = st.floats(-8, 8, width=32)
TAUS = st.sampled_from([0.3, 0.5, 1.0, 1.7, 2.0]).map(np.float32)
SIZES = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 128, 200]))


@st.composite
def pairs(draw: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A residual and a gradient of one length."""
    n = draw(SIZES)
    vector = arrays.arrays(np.float32, n, elements=FLOATS, fill=FLOATS)
    return draw(vector), draw(vector)


def threshold(
    residual: NDArray[np.float32], gradient: NDArray[np.float32], tau: np.float32
) -> tuple[NDArray[np.float32], dict[int, int]]:
    """Strom's rule, one parameter after the other: new residual, and sign by parameter."""
    left, sent = residual.copy(), {}
    for i in range(residual.size):
        left[i] += gradient[i]
        if left[i] >= tau:
            left[i] -= tau
            sent[i] = +1
        elif left[i] <= -tau:
            left[i] += tau
            sent[i] = -1
    return left, sent


def as_indices(sent: dict[int, int]) -> NDArray[np.uint32]:
    return np.array([i << 1 | (sign < 0) for i, sign in sorted(sent.items())], np.uint32)


def as_bits(sent: dict[int, int], n: int) -> NDArray[np.uint32]:
    words = [0] * -(-n // 16)
    for i, sign in sent.items():
        words[i // 16] |= (1 if sign > 0 else 3) << 2 * (i % 16)
    return np.array(words, np.uint32)


@pytest.fixture(params=["compiled", "interpreted"])
def form(request: pytest.FixtureRequest) -> Any:
    """A function that gives a kernel in one of its two forms."""
    if request.param == "compiled":
        return lambda kernel: kernel
    return lambda kernel: kernel.py_func


def test_thresholding_is_the_scalar_rule(form: Any) -> None:
    @given(pairs(), TAUS)
    def check(vectors: Any, tau: np.float32) -> None:
        residual, gradient = vectors
        left, sent = threshold(residual, gradient, tau)
        n = residual.size

        crossings = np.zeros(-(-n // kernels.BLOCK), np.uint8)
        accumulated = residual.copy()
        count = form(kernels.accumulate)(accumulated, gradient, tau, crossings)
        assert count == len(sent) == crossings.sum(dtype=int)
        np.testing.assert_array_equal(accumulated, residual + gradient)

        taken, words = accumulated.copy(), np.zeros(count + 1, np.uint32)
        form(kernels.take_indices)(taken, tau, crossings, words)
        assert taken.tobytes() == left.tobytes()
        np.testing.assert_array_equal(words[:count], as_indices(sent))

        taken, words = accumulated.copy(), np.zeros(-(-n // 16), np.uint32)
        form(kernels.take_bits)(taken, tau, words)
        np.testing.assert_array_equal(taken, left)
        np.testing.assert_array_equal(words, as_bits(sent, n))

    check()


def test_both_forms_add_the_same(form: Any) -> None:
    @given(pairs(), TAUS, FLOATS)
    def check(vectors: Any, tau: np.float32, scale: float) -> None:
        gradient, vector = vectors
        _, sent = threshold(np.zeros_like(gradient), gradient, tau)
        step = np.float32(scale)
        expected = vector.copy()
        for i, sign in sent.items():
            expected[i] += np.float32(sign) * step

        added = vector.copy()
        form(kernels.add_indices)(as_indices(sent), step, added)
        np.testing.assert_array_equal(added, expected)
        added = vector.copy()
        form(kernels.add_bits)(as_bits(sent, vector.size), step, added)
        np.testing.assert_array_equal(added, expected)

    check()


@given(arrays.arrays(np.uint32, st.integers(0, 12)), st.integers(1, 200))
def test_indices_are_judged_as_by_a_loop(words: NDArray[np.uint32], n: int) -> None:
    indices = [int(word) >> 1 for word in words]
    ascending = all(a < b for a, b in pairwise(indices))
    expected = ascending and all(i < n for i in indices)
    assert kernels.are_indices(words, n) == expected
    small = words % np.uint32(2 * n)
    small.sort()
    distinct = len({int(word) >> 1 for word in small}) == len(small)
    assert kernels.are_indices(small, n) == distinct


@given(st.integers(1, 100), st.data())
def test_bits_are_judged_as_by_a_loop(n: int, data: st.DataObject) -> None:
    length = 16 * -(-n // 16)
    codes = data.draw(st.lists(st.sampled_from([0, 1, 3]), min_size=length, max_size=length))
    if data.draw(st.booleans()):  # more often right beyond n than chance would have it
        codes[n:] = [0] * (length - n)
    if data.draw(st.integers(0, 3)) == 0:
        codes[data.draw(st.integers(0, length - 1))] = 2
    count = sum(code != 0 for code in codes) + data.draw(st.sampled_from([0, 0, 1]))
    words = np.array(
        [sum(c << 2 * k for k, c in enumerate(codes[i : i + 16])) for i in range(0, length, 16)],
        np.uint32,
    )
    valid = 2 not in codes and not any(codes[n:]) and count == sum(code != 0 for code in codes)
    assert kernels.are_bits(words, n, count) == valid


@given(pairs(), FLOATS)
def test_add_scaled(vectors: Any, scale: float) -> None:
    update, vector = vectors
    expected = vector.astype(np.float64) + np.float64(np.float32(scale)) * update
    kernels.add_scaled(update, np.float32(scale), vector)
    np.testing.assert_allclose(vector, expected, rtol=1e-6, atol=1e-6)
