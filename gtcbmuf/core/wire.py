"""The message format for a part of a sum of integers.

Little-endian uint32 words. A header of eight:

    0      0x47540000 | form           "GT", and the form of the body
    1      n                           integers, below 2^31
    2      count                       integers other than 0
    3      unit                        bits of a float32, finite and above 0
    4-7    two int64                   a tally: two sums that travel along

and a body in one of two forms. The unit is tau or the step of a block's change. It is the same on
all workers, and the receiver compares it.

Codes: Golomb-Rice codes (Golomb 1966; Rice 1979) of the gaps between the integers other than 0. A
gap is the number of zeros before such an integer. It is divided by 2^k. First come all remainders,
each in a field of k + 1 bits with the sign (1: negative) as the lowest bit. The fields fill words
from the lowest bit up; zeros fill the last word. Then, from a new word, come all quotients in
unary: a quotient of q is q zeros and a one. If there are sizes above 1, a word follows with their
number and, in the same code, their places among the integers other than 0: in a field with the
gap's remainder by 2^k' are the lowest m bits of the size less 2, and after the quotients of the
gaps come those of the sizes. The form is k + 32 k' + 1024 m; k' is 31 if no size is above 1. Codes
of random signs or of random integers are within 3 % of their entropy.

Fields: every integer in a field of w bits; 0, -1, 1, -2, 2 ... are 0, 1, 2, 3, 4 ... The form is
0x8000 + w. This form bounds the size of a message. It is taken unless codes save a quarter of it,
because it is written and read several times as fast.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Integers, Words
from gtcbmuf.core import coding

#: Words of a header.
HEADER = 8
#: Integers in a tally.
TALLY = 2
_MAGIC, _FIELDS = 0x47540000, 0x8000
#: Codes are taken up to this share of the fields. Longer ones took 10 to 70 ns for each bit that
#: they saved, on a 2-core Intel Xeon. 16 workers on a link of 1 Gbit/s need 16 ns for a bit.
_SHARE = 3 / 4
#: The k' of a message without sizes above 1, which no other message has.
_NO_SIZES = 31
#: Twice the natural logarithm of the golden ratio, in 1/256 (Kiely, IPN Progress Report 42-159,
#: 2004): the best k for random gaps is log2(0.962 * the mean gap), rounded down.
_GOLDEN = 246


class WireError(ValueError):
    """The words are no message for this sum."""


def max_words(n: int, bound: int) -> int:
    """Number of words of the longest message, with the header.

    Args:
        n: number of integers.
        bound: largest size of an integer.
    """
    return HEADER + -(-n * _width(bound) // 32)


class Coder:
    """Writes and reads messages. It allocates its buffers once.

    Args:
        n: largest number of integers in a message.

    Examples:
        >>> values, words = np.array([0, -1, 0, 3], np.int32), np.zeros(max_words(4, 3), np.uint32)
        >>> coder = Coder(4)
        >>> message = coder.encode(values, 0.5, np.array([7, 0]), words)
        >>> coder.add(message, 0.5, 3, values).tolist(), values.tolist()
        ([7, 0], [0, -2, 0, 6])
    """

    def __init__(self, n: int) -> None:
        self._places, self._signs, self._ordinals, self._excesses = np.zeros((4, n), np.uint32)

    def encode(
        self, values: Integers, unit: float, tally: NDArray[np.int64], words: Words
    ) -> Words:
        """Write integers as a message.

        Args:
            values: (n,) int32.
            unit: the value of 1, finite and above 0.
            tally: (2,) int64.
            words: uint32, output; `max_words` of the largest size.

        Returns:
            The message, a view of `words`.
        """
        n, body, width = values.size, words[HEADER:], _width(coding.largest_size(values))
        count, codes = int(np.count_nonzero(values)), None
        # If most integers are not 0, fields are likely: look at the sizes before finding any.
        if 2 * count <= n or _plan(n, count, *coding.measure_large(values)).pays(n, width):
            codes = self._write_codes(values, count, width, body)
        form, size = codes or (_FIELDS | width, coding.write_fields(values, width, body))
        words[:4] = _MAGIC | form, n, count, np.float32(unit).view(np.uint32)
        words[4:HEADER] = np.asarray(tally, np.int64).view(np.uint32)
        return words[: HEADER + size]

    def _write_codes(
        self, values: Integers, count: int, width: int, body: Words
    ) -> tuple[int, int] | None:
        """Write a body in codes, unless fields of this width are better.

        Returns:
            The form and the number of words; nothing if fields are better.
        """
        places, signs = self._places[:count], self._signs[:count]
        coding.find_nonzero(values, places, signs)
        large = (
            coding.find_large(values, places, self._ordinals, self._excesses) if width > 2 else 0
        )
        ordinals, excesses = self._ordinals[:large], self._excesses[:large]
        plan = _plan(values.size, count, large, int(excesses.sum(dtype=np.int64)))
        if not plan.pays(values.size, width):
            return None
        size = coding.write_gaps(places, signs, 1, plan.k, body)
        if large:
            body[size] = large
            size += 1
            size += coding.write_gaps(ordinals, excesses, plan.m, plan.inner_k, body[size:])
            size += coding.write_quotients(excesses, plan.m, body[size:])
        return plan.k | (plan.inner_k if large else _NO_SIZES) << 5 | plan.m << 10, size

    def add(self, words: Words, unit: float, bound: int, values: Integers) -> NDArray[np.int64]:
        """Check a message from outside and add its integers.

        Args:
            words: uint32, the whole message.
            unit: the value of 1 here.
            bound: largest possible size of an integer.
            values: (n,) int32, changed in place.

        Returns:
            The message's tally, (2,) int64.

        Raises:
            WireError: the words are no message, or a message of another version, sum or unit, or an
                index, a count or a size is out of its bounds.
        """
        if words.size < HEADER:
            raise WireError(f"a message of {words.size} words is shorter than its header")
        form, n, count = int(words[0]) ^ _MAGIC, int(words[1]), int(words[2])
        if form > 0xFFFF:
            first = int(words[0])
            raise WireError(f"a message starts with {first:#010x}: another format or version")
        if n != values.size:
            raise WireError(f"a message of {n} integers reached a sum of {values.size}")
        if words[3] != np.float32(unit).view(np.uint32):
            sent = words[3:4].view(np.float32)[0]
            raise WireError(f"a message's unit is {sent}; expected {np.float32(unit)}")
        body = words[HEADER:]
        if form & _FIELDS:
            width = form ^ _FIELDS
            is_valid = 0 < width <= _width(bound) and coding.add_fields(
                body, count, width, bound, values
            )
        else:
            is_valid = count <= n and self._add_codes(body, form, count, bound, values)
        if not is_valid:
            raise WireError(
                f"a message of {words.size} words in form {form:#x} is none of {count} integers "
                f"other than 0 among {n}, of size {bound} at most"
            )
        return words[4:HEADER].copy().view(np.int64)

    def _add_codes(self, body: Words, form: int, count: int, bound: int, values: Integers) -> bool:
        """Add the integers of a body in codes. Return whether the body is valid."""
        k, inner_k, m = form & 31, form >> 5 & 31, form >> 10
        places, signs = self._places[:count], self._signs[:count]
        size = coding.read_gaps(body, 1, k, values.size, places, signs)
        has_sizes = inner_k != _NO_SIZES
        if size < 0 or (size < body.size) != has_sizes:
            return False
        large = int(body[size]) if has_sizes else 0
        if (has_sizes and not 0 < large <= count) or inner_k + m > 32:
            return False
        ordinals, excesses = self._ordinals[:large], self._excesses[:large]
        if large:
            begin = size + 1
            size = coding.read_gaps(body[begin:], m, inner_k, count, ordinals, excesses)
            if size < 0 or bound < 2:
                return False
            if not coding.read_quotients(body[begin + size :], m, bound - 2, excesses):
                return False
        coding.add_codes(places, signs, ordinals, excesses, values)
        return True


def rice_parameter(total: int, count: int) -> int:
    """Choose k for `count` random numbers with this sum.

    The best k for geometrically distributed numbers is about log2(0.962 (mean + 1/2)), rounded
    down. All is in integers, so that all hosts agree.
    """
    return max((_GOLDEN * (2 * total + count) // (512 * max(count, 1))).bit_length() - 1, 0)


class _Plan(NamedTuple):
    """Parameters of the codes of a message, and the words that they take at most."""

    k: int
    inner_k: int
    m: int
    words: int

    def pays(self, n: int, width: int) -> bool:
        """Return whether codes of n integers save enough of fields of this width."""
        return self.words <= int(_SHARE * -(-n * width // 32))


def _plan(n: int, count: int, large: int, excess: int) -> _Plan:
    """Choose the parameters for `count` of n integers other than 0.

    Args:
        n: number of integers.
        count: number of those other than 0.
        large: number of sizes above 1.
        excess: sum of these sizes less 2.
    """
    k, inner_k = (_parameter(*sizes) for sizes in ((n, count), (count, large)))
    m = min(rice_parameter(excess, large), 31 - inner_k) if excess else 0
    words = _longest(n, count, k, 1)
    if large:
        words += 1 + _longest(count, large, inner_k, m) + -(-(large + (excess >> m)) // 32)
    return _Plan(k, inner_k, m, words)


def _width(largest: int) -> int:
    """Bits of a field for sizes up to `largest`."""
    return int(2 * largest).bit_length()


def _parameter(n: int, count: int) -> int:
    return min(rice_parameter(n - count, count), 31) if count else 0


def _longest(n: int, count: int, k: int, bits: int) -> int:
    """Words of the longest output of `coding.write_gaps` for `count` places below n."""
    return -(-count * (k + bits) // 32) + -(-(count + (n - count >> k)) // 32) if count else 0
