"""Messages: their bytes, their size, and that nothing foreign gets in."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.codes import fields_as_bits, gaps_as_bits, quotients_as_bits

from gtcbmuf.cluster.coded_sums import message_size
from gtcbmuf.core import wire
from gtcbmuf.methods.declaration import Signs

Integers = NDArray[np.int32]
Words = NDArray[np.uint32]
TALLY = np.array([-3, 2**40])
ONE = int(np.float32(1).view(np.uint32))


def encoded(values: Any, unit: float = 1.0, room: int | None = None) -> Words:
    """A message of integers, which fits into the bound of its size."""
    values = np.asarray(values, np.int32)
    if room is None:
        room = wire.max_words(values.size, int(np.abs(values.astype(np.int64)).max(initial=0)))
    words = np.full(room, 0xDEADBEEF, np.uint32)
    return wire.Coder(values.size).encode(values, unit, TALLY, words).copy()


def decoded(words: Words, n: int, bound: int = 2**31 - 1, unit: float = 1.0) -> Integers:
    values = np.zeros(n, np.int32)
    assert wire.Coder(n).add(words, unit, bound, values).tolist() == TALLY.tolist()
    return values


@st.composite
def sums(draw: Any) -> Integers:
    """Integers of all densities and sizes."""
    n = draw(st.one_of(st.integers(0, 80), st.sampled_from([255, 256, 257, 1000])))
    stream = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = np.round(stream.standard_normal(n) * 2.0 ** draw(st.integers(-3, 28)))
    values[stream.random(n) >= 2.0 ** -draw(st.integers(0, 9))] = 0
    if draw(st.booleans()):
        values = np.sign(values)
    values = np.clip(values, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    if n and draw(st.integers(0, 3)) == 0:
        values[draw(st.integers(0, n - 1))] = draw(st.sampled_from([2**31 - 1, -(2**31) + 1]))
    return values


@given(sums(), sums(), st.sampled_from([1.0, 0.3, 1e-30]))
def test_a_message_is_added_to_other_integers(
    values: Integers, others: Integers, unit: float
) -> None:
    words = encoded(values, unit)
    added = np.resize(others, values.size) // 2
    expected = added.astype(np.int64) + values
    if np.abs(expected).max(initial=0) < 2**31:
        bound = int(np.abs(values).max(initial=0))
        tally = wire.Coder(values.size).add(words, unit, bound, added)
        np.testing.assert_array_equal(added, expected)
        assert tally.tolist() == TALLY.tolist()


@given(sums(), st.integers(0, 3))
def test_no_message_is_longer_than_its_bound(values: Integers, more: int) -> None:
    """Nothing is written behind the bound, or `encode` would fail."""
    bound = int(np.abs(values).max(initial=0)) + more
    words = encoded(values, room=wire.max_words(values.size, bound))
    assert words.size <= wire.max_words(values.size, bound)
    assert words.size <= encoded(values).size


@given(sums())
def test_the_bytes_are_those_of_the_documented_format(values: Integers) -> None:
    words, numbers = encoded(values, unit=0.5).tolist(), values.tolist()
    form, count = words[0] - 0x47540000, np.count_nonzero(values)
    half = int(np.float32(0.5).view(np.uint32))
    assert words[1:8] == [values.size, count, half, 2**32 - 3, 2**32 - 1, 0, 2**8]
    fields = fields_as_bits(numbers, (2 * max(map(abs, numbers), default=0)).bit_length())
    if form & 0x8000:
        assert form == 0x8000 + (2 * max(map(abs, numbers))).bit_length()
        assert words[8:] == fields
        return
    k, inner_k, m = form % 32, form // 32 % 32, form // 1024
    places = [i for i, number in enumerate(numbers) if number]
    body = gaps_as_bits(places, [numbers[i] < 0 for i in places], 1, k)
    large = [j for j, i in enumerate(places) if abs(numbers[i]) > 1]
    assert (inner_k == 31) == (not large)
    if large:
        excesses = [abs(numbers[places[j]]) - 2 for j in large]
        body += [len(large), *gaps_as_bits(large, excesses, m, inner_k)]
        body += quotients_as_bits(excesses, m)
    assert words[8:] == body
    assert len(body) <= 3 / 4 * len(fields)


def test_the_bytes_of_two_small_messages() -> None:
    values = np.zeros(80, np.int32)
    values[[3, 60]] = 1, -1
    # k = 5, for 0.962 * 80 / 2 = 38.5. Gaps: 3, and 56 = 1 * 32 + 24.
    remainders, quotients = 3 << 1 | (24 << 1 | 1) << 6, 0b101
    header = [0x47540000 | 5 | 31 << 5, 80, 2, ONE, 2**32 - 3, 2**32 - 1, 0, 2**8]
    expected = np.array([*header, remainders, quotients], "<u4")
    assert encoded(values).tobytes() == expected.tobytes()

    values[
        60
    ] = -5  # a size above 1, the second of two; 5 - 2 is 1 * 2 + 1, and its place 0 * 2 + 1
    header[0] = 0x47540000 | 5 | 0 << 5 | 1 << 10
    body = [remainders, quotients, 1, 0b1, 0b10, 0b10]
    expected = np.array([*header, *body], "<u4")
    assert encoded(values).tobytes() == expected.tobytes()

    values = np.array([1, -1, 0, 2, -2, 1, 1, 1], np.int32)
    header = [0x47548003, 8, 7, *header[3:]]
    expected = np.array(
        [*header, sum(code << 3 * i for i, code in enumerate([2, 1, 0, 4, 3, 2, 2, 2]))]
    )
    assert encoded(values).tobytes() == expected.astype("<u4").tobytes()


def test_zeros_are_a_header() -> None:
    assert encoded(np.zeros(100)).size == wire.HEADER == encoded([]).size
    assert not decoded(encoded(np.zeros(100)), 100).any()


# Size


def entropy(shares: NDArray[np.float64]) -> float:
    """Bits of a random value."""
    return float(-(shares * np.log2(shares)).sum())


def ratio_to_entropy(values: Integers) -> float:
    """Bits of a message over those of independent values with these frequencies."""
    _, counts = np.unique(values, return_counts=True)
    bits = values.size * entropy(counts / values.size)
    return 32 * (encoded(values).size - wire.HEADER) / bits


@pytest.mark.parametrize("density", [0.001, 0.003, 0.01, 0.03, 0.07, 0.1, 0.2, 0.3])
def test_random_signs_are_near_their_entropy(density: float) -> None:
    n, stream = 500_000, np.random.default_rng(0)
    values = np.where(stream.random(n) < density, stream.choice([-1, 1], n), 0)
    assert 0.99 < ratio_to_entropy(values) < 1.03
    expected = message_size(Signs(np.count_nonzero(values) / n), 1, n).bytes
    assert 4 * encoded(values).size == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("step", [2, 3, 4])
def test_rounded_normal_numbers_are_near_their_entropy(step: float) -> None:
    values = np.rint(np.random.default_rng(0).standard_normal(500_000) / step)
    assert 0.99 < ratio_to_entropy(values) < 1.03


@pytest.mark.parametrize(("step", "has_fields"), [(2, False), (0.5, False), (0.1, True)])
def test_codes_must_save_a_quarter_of_the_fields(step: float, has_fields: bool) -> None:
    values = np.rint(np.random.default_rng(0).standard_normal(100_000) / step).astype(np.int32)
    words = encoded(values)
    assert bool(int(words[0]) & 0x8000) == has_fields
    fields = 100_000 * (2 * int(np.abs(values).max())).bit_length() / 32
    assert has_fields or words.size < wire.HEADER + 3 / 4 * fields


def test_integers_that_are_all_large_are_in_fields() -> None:
    values = np.random.default_rng(0).integers(-32767, 32768, 1000)
    assert encoded(values).size == wire.HEADER + 1000 // 2
    assert message_size(Signs(0.99), 1, 1000).bytes <= 4 * (wire.HEADER + 1000 * 2 / 32)


# Foreign words


CODES = np.zeros(64, np.int32)
CODES[[7, 37, 50]] = 1, -9, 5
FIELDS = np.resize([1, -2, 0], 64).astype(np.int32)
K = 4  # 0.962 * 64 / 3 = 20.5


def float_bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


HEADER_DAMAGE = [
    (0, 0, "starts with 0x00000000: another format or version"),
    (0, 0x47550000, "starts with 0x47550000: another format or version"),
    (0, 0x47530000, "starts with 0x47530000: another format or version"),
    (1, 65, "a message of 65 integers reached a sum of 64"),
    (1, 2**32 - 1, "reached a sum of 64"),
    (2, 1, "is none of 1 integers other than 0 among 64"),
    (2, 2**32 - 1, "is none of 4294967295 integers"),
    (3, 0, "unit is 0.0; expected 1.0"),
    (3, float_bits(2), "unit is 2.0; expected 1.0"),
    (3, float_bits(np.nan), "unit is nan; expected 1.0"),
    (3, float_bits(-1), "unit is -1.0; expected 1.0"),
]
CODES_DAMAGE = [
    (0, 0x47540000 | K - 1, "form 0x3"),
    (0, 0x47540000 | K | 31 << 5 | 31 << 10, "form 0x7fe4"),
    (0, 0x47548000, "form 0x8000"),
    (0, 0x4754FFFF, "form 0xffff"),
    (8, 2**32 - 1, "of size 9 at most"),  # remainders, and bits behind them
    (9, 0, "of size 9 at most"),  # quotients
    (9, 1 << 31, "of size 9 at most"),
    (10, 0, "of size 9 at most"),  # number of sizes above 1
    (10, 4, "of size 9 at most"),
    (10, 2**32 - 1, "of size 9 at most"),
    (11, 2**32 - 1, "of size 9 at most"),  # their places, and the lowest bits of the sizes
    (12, 0, "of size 9 at most"),
    (13, 1, "of size 9 at most"),  # quotients of the sizes
    (13, 1 << 20 | 1, "of size 9 at most"),
]


@pytest.mark.parametrize(
    ("position", "word", "says"),
    [*HEADER_DAMAGE, *CODES_DAMAGE],
    ids=[f"{position} {word:#x}" for position, word, _ in [*HEADER_DAMAGE, *CODES_DAMAGE]],
)
def test_a_foreign_word_is_refused(position: int, word: int, says: str) -> None:
    words, before = encoded(CODES), np.arange(64, dtype=np.int32)
    assert words.size == 14
    assert decoded(words, 64, bound=9).tolist() == CODES.tolist()
    words[position] = word
    values = before.copy()
    with pytest.raises(wire.WireError, match=says):
        wire.Coder(64).add(words, 1.0, 9, values)
    np.testing.assert_array_equal(values, before)


def test_a_size_above_the_bound_is_refused() -> None:
    for values in (CODES, FIELDS):
        with pytest.raises(wire.WireError, match="at most"):
            decoded(encoded(values), 64, bound=int(np.abs(values).max()) - 1)


@pytest.mark.parametrize(
    ("position", "word"), [(0, 0x47548002), (0, 0x47548004), (0, 0x47548021), (2, 42), (8, 7)]
)
def test_foreign_fields_are_refused(position: int, word: int) -> None:
    words = encoded(FIELDS)
    assert words[0] == 0x47548003
    words[position] = word
    with pytest.raises(wire.WireError, match="integers other than 0 among 64"):
        decoded(words, 64, bound=2)


def test_fields_of_no_bits_are_refused() -> None:
    words = encoded(np.zeros(64))
    words[0] = 0x47548000
    with pytest.raises(wire.WireError, match="in form 0x8000"):
        decoded(words, 64)


@pytest.mark.parametrize("values", [CODES, FIELDS], ids=["codes", "fields"])
def test_a_message_of_another_length_is_refused(values: Integers) -> None:
    words = encoded(values)
    for size in range(words.size):
        with pytest.raises(wire.WireError):
            decoded(words[:size], 64)
    for more in (0, 1, 1 << 31):
        with pytest.raises(wire.WireError):
            decoded(np.append(words, np.uint32(more)), 64)


@given(
    st.integers(0, 80),
    st.sampled_from([1, 2, 5, 2**31 - 1]),
    st.lists(st.one_of(st.integers(0, 200), st.integers(0, 2**32 - 1)), max_size=20),
    st.one_of(
        st.integers(0, 5), st.integers(0x8000, 0x8021), st.integers(0, 0x7FFF), st.just(None)
    ),
)
def test_whatever_comes_in_stays_in_bounds(
    n: int, bound: int, words: list[int], form: int | None
) -> None:
    if form is not None:
        count = words[0] % (n + 1) if words else 0
        words = [0x47540000 + form, n, count, ONE, 0, 0, 0, 0, *words[1:]]
    guarded = np.zeros(n + 2, np.int32)
    coder = wire.Coder(n)
    try:
        coder.add(np.array(words, np.uint32), 1.0, bound, guarded[1:-1])
    except wire.WireError:
        assert guarded[0] == guarded[-1] == 0
        return
    assert guarded[0] == guarded[-1] == 0
    assert np.count_nonzero(guarded) == words[2]
    assert np.abs(guarded).max() <= bound


@given(sums(), st.data())
def test_a_changed_bit_is_refused_or_gives_other_integers_within_bounds(
    values: Integers, data: st.DataObject
) -> None:
    words = encoded(values)
    bound = int(np.abs(values).max(initial=0))
    place = data.draw(st.integers(0, 32 * words.size - 1))
    words[place // 32] ^= np.uint32(1 << place % 32)
    changed = np.zeros_like(values)
    try:
        wire.Coder(values.size).add(words, 1.0, bound, changed)
    except wire.WireError:
        return
    assert np.count_nonzero(changed) == words[2]
    assert np.abs(changed).max(initial=0) <= bound
    header = place // 32 < wire.HEADER  # the tally, or a parameter of the code that is not used
    assert header or not np.array_equal(changed, values)


@given(st.integers(1, 2**31 - 1), st.floats(0, 1))
def test_the_parameter_of_the_code_is_that_of_integers_of_any_size(n: int, density: float) -> None:
    count = int(n * density**4)
    mean = 246 * (2 * (n - count) + count) // (512 * max(count, 1))
    assert wire.rice_parameter(n - count, count) == (math.floor(math.log2(mean)) if mean else 0)


@pytest.mark.parametrize("density", [0.01, 0.05, 0.1, 0.25, 0.3, 0.46, 0.6])
def test_the_parameter_of_the_code_is_the_best_one_or_its_neighbour(density: float) -> None:
    """Mean bits of a gap: k + 1 and the mean quotient by 2^k of a geometric number."""
    bits = [k + 1 + 1 / math.expm1(-(2**k) * math.log1p(-density)) for k in range(9)]
    chosen = bits[wire.rice_parameter(10**6 - round(10**6 * density), round(10**6 * density))]
    assert chosen < 1.01 * min(bits)
