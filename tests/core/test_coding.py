"""Codes against strings of bits; compiled and interpreted. Nothing foreign is read."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.codes import fields_as_bits, gaps_as_bits, quotients_as_bits

from gtcbmuf.core import coding

Words = NDArray[np.uint32]
UNWRITTEN = 0xDEADBEEF


@st.composite
def gaps(draw: Any, most: int = 2**31 - 1) -> tuple[list[int], list[int], int]:
    """Ascending places, extras, and the end of the range of places."""
    n = draw(st.one_of(st.integers(1, 300), st.integers(1, most)))
    places = sorted(draw(st.sets(st.one_of(st.integers(0, n - 1), st.just(n - 1)), max_size=60)))
    size = len(places)
    extras = draw(st.lists(st.integers(0, 2**32 - 1), min_size=size, max_size=size))
    return places, extras, n


def damaged(words: list[int], data: st.DataObject) -> list[int]:
    """Words of which some bits are flipped, and one may be missing or too many."""
    words = words.copy()
    for _ in range(data.draw(st.integers(0, 2))):
        if words:
            place = data.draw(st.integers(0, 32 * len(words) - 1))
            words[place // 32] ^= 1 << place % 32
    match data.draw(st.integers(0, 3)):
        case 0:
            return words[:-1]
        case 1:
            return [*words, data.draw(st.sampled_from([0, 1, 2**31]))]
    return words


def u4(numbers: list[int]) -> Words:
    return np.array(numbers, np.uint32)


def test_gaps_are_the_code_bit_by_bit(form: Any) -> None:
    @given(gaps(), st.integers(0, 31), st.integers(0, 31))
    def check(drawn: Any, k: int, bits: int) -> None:
        places, extras, n = drawn
        k = max(k, (n >> 12).bit_length())  # quotients that a test has time for
        bits = min(bits, 32 - k)
        expected = gaps_as_bits(places, extras, bits, k)
        words = np.full(len(expected) + 2, UNWRITTEN, np.uint32)
        assert form(coding.write_gaps)(u4(places), u4(extras), bits, k, words) == len(expected)
        assert words.tolist() == [*expected, UNWRITTEN, UNWRITTEN]
        read, read_extras = np.zeros((2, len(places)), np.uint32)
        # Other words may follow.
        assert form(coding.read_gaps)(words, bits, k, n, read, read_extras) == len(expected)
        assert read.tolist() == places
        assert read_extras.tolist() == [extra % 2**bits for extra in extras]

    check()


def test_whatever_gaps_are_read_write_to_the_same_words(form: Any) -> None:
    """So there is one code for each set of places, and nothing else gets through."""

    @given(gaps(300), st.integers(0, 4), st.integers(0, 3), st.data())
    def check(drawn: Any, k: int, bits: int, data: st.DataObject) -> None:
        places, extras, n = drawn
        expected = gaps_as_bits(places, extras, bits, k)
        words = damaged(expected, data)
        n = data.draw(st.integers(1, n))
        count = max(len(places) + data.draw(st.sampled_from([0, 0, -1, 1])), 0)
        read, read_extras = np.zeros((2, count), np.uint32)
        size = form(coding.read_gaps)(u4(words), bits, k, n, read, read_extras)
        if size >= 0:
            assert gaps_as_bits(read.tolist(), read_extras.tolist(), bits, k) == words[:size]
            assert (read < n).all()
        else:
            assert count != len(places) or words[: len(expected)] != expected or max(places) >= n

    check()


def test_quotients_are_unary(form: Any) -> None:
    @given(st.lists(st.integers(0, 300), max_size=40), st.integers(0, 6), st.data())
    def check(numbers: list[int], m: int, data: st.DataObject) -> None:
        expected = quotients_as_bits(numbers, m)
        words = np.full(len(expected) + 1, UNWRITTEN, np.uint32)
        assert form(coding.write_quotients)(u4(numbers), m, words) == len(expected)
        assert words.tolist() == [*expected, UNWRITTEN]

        foreign = damaged(expected, data)
        most = max(numbers, default=0) - data.draw(st.sampled_from([0, 0, 1]))
        read = u4([number % 2**m for number in numbers])
        if form(coding.read_quotients)(u4(foreign), m, most, read):
            assert quotients_as_bits(read.tolist(), m) == foreign
            assert max(read.tolist(), default=0) <= max(most, 0)
        else:
            assert foreign != expected or most < max(numbers)

    check()


def test_fields_are_zigzag_numbers(form: Any) -> None:
    @given(st.integers(1, 32), st.lists(st.integers(0, 2**32 - 1), max_size=40), st.data())
    def check(width: int, codes: list[int], data: st.DataObject) -> None:
        codes = [code % 2**width for code in codes]
        # The integer of each code; -2^31, whose size is no int32, is not one of them.
        integers = [-(code // 2) - 1 if code % 2 else code // 2 for code in codes]
        integers = [max(value, -(2**31) + 1) for value in integers]
        expected = fields_as_bits(integers, width)
        words = np.full(len(expected) + 1, UNWRITTEN, np.uint32)
        values = np.array(integers, np.int32)
        assert form(coding.write_fields)(values, width, words) == len(expected)
        assert words.tolist() == [*expected, UNWRITTEN]

        foreign = damaged(expected, data)
        count = np.count_nonzero(values) + data.draw(st.sampled_from([0, 0, 1]))
        largest = max(map(abs, integers), default=0)
        bound = max(largest - data.draw(st.sampled_from([0, 0, 1])), 0)
        read = np.zeros(len(integers), np.int32)
        if form(coding.add_fields)(u4(foreign), count, width, bound, read):
            assert fields_as_bits(read.tolist(), width) == foreign
            assert np.count_nonzero(read) == count
            assert max(map(abs, read.tolist()), default=0) <= bound
        else:
            wrong_count = count != np.count_nonzero(values)
            assert foreign != expected or wrong_count or bound < largest

    check()


INTEGERS = st.one_of(
    st.sampled_from([0, 0, 0, 1, -1]), st.integers(-5, 5), st.integers(-(2**31) + 1, 2**31 - 1)
)


def test_the_integers_other_than_0_are_found_and_added(form: Any) -> None:
    @given(st.lists(INTEGERS, max_size=100), st.integers(0, 40))
    def check(numbers: list[int], zeros: int) -> None:
        numbers = [0] * zeros + numbers
        values = np.array(numbers, np.int32)
        places, signs, ordinals, excesses = np.zeros((4, values.size), np.uint32)
        assert form(coding.largest_size)(values) == max(map(abs, numbers), default=0)
        beyond = [abs(number) - 2 for number in numbers if abs(number) > 1]
        assert form(coding.measure_large)(values) == (len(beyond), sum(beyond))

        count = form(coding.find_nonzero)(values, places, signs)
        expected = [i for i, number in enumerate(numbers) if number]
        assert places[:count].tolist() == expected
        assert signs[:count].tolist() == [numbers[i] < 0 for i in expected]

        large = form(coding.find_large)(values, places[:count], ordinals, excesses)
        sizes = [abs(numbers[i]) for i in expected]
        assert ordinals[:large].tolist() == [j for j, size in enumerate(sizes) if size > 1]
        assert excesses[:large].tolist() == [size - 2 for size in sizes if size > 1]

        added = np.zeros_like(values)
        form(coding.add_codes)(
            places[:count], signs[:count], ordinals[:large], excesses[:large], added
        )
        assert added.tolist() == numbers

    check()


@pytest.mark.parametrize("size", [31, 32, 33, 64])
def test_every_place_of_a_mask_is_found(form: Any, size: int) -> None:
    places, signs = np.zeros((2, size), np.uint32)
    for place in range(size):
        values = np.zeros(size, np.int32)
        values[place] = -3
        assert form(coding.find_nonzero)(values, places, signs) == 1
        assert (places[0], signs[0]) == (place, 1)


def test_a_gap_beyond_63_bits_is_refused() -> None:
    words = np.zeros(2**27 + 3, np.uint32)  # half a gigabyte that the system maps but never writes
    words[-1] = 2  # a one after more than 2^32 zeros
    place, extra = np.zeros(1, np.uint32), np.zeros(1, np.uint32)
    assert coding.read_gaps(words, 1, 31, 100, place, extra) == -1


def test_a_quotient_beyond_63_bits_is_refused() -> None:
    words = np.zeros(2**27 + 3, np.uint32)
    words[-1] = 2
    assert not coding.read_quotients(words, 31, 100, np.zeros(1, np.uint32))
