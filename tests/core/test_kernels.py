"""Every kernel against a scalar loop, to the bit; compiled and interpreted."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from gtcbmuf.core import kernels

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


def as_updates(sent: dict[int, int]) -> NDArray[np.uint32]:
    return np.array([i << 1 | (sign < 0) for i, sign in sorted(sent.items())], np.uint32)


def as_bits(sent: dict[int, int], n: int) -> NDArray[np.uint32]:
    words = [0] * -(-n // 16)
    for i, sign in sent.items():
        words[i // 16] |= (1 if sign > 0 else 3) << 2 * (i % 16)
    return np.array(words, np.uint32)


def test_thresholding_is_the_scalar_rule(form: Any) -> None:
    @given(pairs(), TAUS)
    def check(vectors: Any, tau: np.float32) -> None:
        residual, gradient = vectors
        left, sent = threshold(residual, gradient, tau)
        n = residual.size

        taken, updates = residual.copy(), np.zeros(n + kernels.MASK_BITS, np.uint32)
        assert form(kernels.take)(taken, gradient, tau, updates) == (len(sent), n)
        assert taken.tobytes() == left.tobytes()
        np.testing.assert_array_equal(updates[: len(sent)], as_updates(sent))

        taken, words = residual.copy(), np.zeros(-(-n // 16), np.uint32)
        assert form(kernels.take_bits)(taken, gradient, tau, 0, words) == len(sent)
        np.testing.assert_array_equal(taken, left)
        np.testing.assert_array_equal(words, as_bits(sent, n))

    check()


@given(pairs(), TAUS, st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_what_is_not_finite_is_found_wherever_it_is(
    vectors: Any, tau: np.float32, value: float, data: st.DataObject
) -> None:
    residual, gradient = vectors
    n = residual.size
    places = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=3))
    gradient[list(places)] = value
    updates, words = np.zeros(n + kernels.MASK_BITS, np.uint32), np.zeros(-(-n // 16), np.uint32)
    assert not kernels.all_finite(gradient)
    taken = kernels.take(residual.copy(), gradient, tau, updates)
    assert taken == (kernels.NOT_FINITE, min(places))
    assert kernels.take_bits(residual.copy(), gradient, tau, 0, words) == kernels.NOT_FINITE


@given(pairs())
def test_what_is_finite_is_not_refused(vectors: Any) -> None:
    residual, _ = vectors
    residual[::3] = np.finfo(np.float32).max
    residual[1::3] = -np.finfo(np.float32).tiny
    assert kernels.all_finite(residual)


def test_bits_go_on_where_there_is_no_room_for_updates(form: Any) -> None:
    @given(pairs(), TAUS, st.integers(kernels.MASK_BITS, 100))
    def check(vectors: Any, tau: np.float32, room: int) -> None:
        residual, gradient = vectors
        left, sent = threshold(residual, gradient, tau)
        n = residual.size
        updates, words = np.zeros(room, np.uint32), np.zeros(-(-n // 16), np.uint32)
        count, end = form(kernels.take)(residual, gradient, tau, updates)
        assert end == n or (end % kernels.MASK_BITS == 0 and count + kernels.MASK_BITS > room)
        form(kernels.set_bits)(updates[:count], words)
        count += form(kernels.take_bits)(residual, gradient, tau, end, words)
        assert count == len(sent)
        np.testing.assert_array_equal(residual, left)
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
        form(kernels.add_updates)(as_updates(sent), step, added)
        np.testing.assert_array_equal(added, expected)
        added = vector.copy()
        form(kernels.add_bits)(as_bits(sent, vector.size), step, added)
        np.testing.assert_array_equal(added, expected)

    check()


def packed_bit_by_bit(updates: NDArray[np.uint32], k: int) -> list[int]:
    """Golomb-Rice code, as strings of zeros and ones, the lowest bit first."""
    fields, quotients, least = "", "", 0
    for update in updates.tolist():
        index, negative = divmod(update, 2)
        quotient, remainder = divmod(index - least, 2**k)
        fields += f"{remainder << 1 | negative:0{k + 1}b}"[::-1]
        quotients += "0" * quotient + "1"
        least = index + 1
    words = []
    for bits in (fields, quotients):
        words += [int(bits[i : i + 32][::-1], 2) for i in range(0, len(bits), 32)]
    return words


@st.composite
def updates_of(draw: Any) -> tuple[NDArray[np.uint32], int]:
    """Updates, and the number of parameters."""
    n = draw(st.one_of(st.integers(1, 300), st.integers(1, 2**31 - 1)))
    indices = draw(st.sets(st.one_of(st.integers(0, n - 1), st.just(n - 1)), max_size=60))
    signs = draw(st.integers(0, 2**60))
    updates = [i << 1 | signs >> place & 1 for place, i in enumerate(sorted(indices))]
    return np.array(updates, np.uint32), n


def test_packing_is_the_code_bit_by_bit(form: Any) -> None:
    @given(updates_of(), st.integers(0, 30))
    def check(chosen: Any, k: int) -> None:
        updates, n = chosen
        k = max(k, (n >> 12).bit_length())  # quotients that a test has time for
        expected = packed_bit_by_bit(updates, k)
        words = np.full(len(expected) + 1, 0xDEADBEEF, np.uint32)
        assert form(kernels.pack)(updates, k, words) == len(expected)
        assert words.tolist() == [*expected, 0xDEADBEEF]
        unpacked = np.zeros_like(updates)
        assert form(kernels.unpack)(words[:-1], k, n, unpacked)
        np.testing.assert_array_equal(unpacked, updates)

    check()


def test_whatever_is_unpacked_packs_to_the_same_words(form: Any) -> None:
    """So there is one code for each set of updates, and nothing else gets through."""

    @given(updates_of(), st.integers(0, 4), st.data())
    def check(chosen: Any, k: int, data: st.DataObject) -> None:
        updates, n = chosen
        n = min(n, 300)
        updates = updates[updates >> 1 < n]
        words = np.array(packed_bit_by_bit(updates, k), np.uint32)
        for _ in range(data.draw(st.integers(0, 2))):
            if words.size:
                place = data.draw(st.integers(0, 32 * words.size - 1))
                words[place // 32] ^= np.uint32(1 << place % 32)
        size = data.draw(st.integers(max(words.size - 1, 0), words.size + 1))
        words = np.resize(words, size) if words.size else words
        n = data.draw(st.integers(1, n))
        count = max(updates.size + data.draw(st.integers(-1, 1)), 0)
        unpacked = np.zeros(count, np.uint32)
        if form(kernels.unpack)(words, k, n, unpacked):
            assert packed_bit_by_bit(unpacked, k) == words.tolist()
            assert (unpacked >> 1 < n).all()
        else:
            assert (
                count != updates.size
                or not np.array_equal(words, packed_bit_by_bit(updates, k))
                or (updates >> 1).max(initial=0) >= n
            )

    check()


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


@given(st.integers(1, 2**31 - 1), st.floats(0, 1))
def test_the_form_is_that_of_integers_of_any_size(n: int, density: float) -> None:
    count = int(n * density**4)
    k = max(min((246 * n // (256 * max(count, 1))).bit_length() - 1, 30), 0)
    assert kernels.rice_parameter(n, count) == k
    fields, quotients = -(-count * (k + 1) // 32), -(-(count + (n >> k)) // 32) if count else 0
    sparse = 16 * count <= n and fields + quotients <= -(-n // 16)
    assert kernels.form_of(n, count) == (k if sparse else kernels.DENSE)


@given(pairs(), FLOATS)
def test_add_scaled(vectors: Any, scale: float) -> None:
    update, vector = vectors
    expected = vector.astype(np.float64) + np.float64(np.float32(scale)) * update
    kernels.add_scaled(update, np.float32(scale), vector)
    np.testing.assert_allclose(vector, expected, rtol=1e-6, atol=1e-6)
