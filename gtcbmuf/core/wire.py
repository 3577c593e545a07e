"""The message format of gradient threshold compression.

Little-endian uint32 words. A header of four:

    0   0x47544300 | backlog | form    "GTC", 0x80 for a backlog, and the form of the body
    1   n                              parameters of the model, 1 <= n < 2^31
    2   count                          updates: parameters sent
    3   tau                            bits of a float32, finite and above 0

and a body in one of two forms. A worker has a backlog if most of the parameters that it sent could
be sent again: their residuals still reach tau.

Sparse, up to a density of 1/16: Golomb-Rice codes (Golomb 1966; Rice 1979) of the gaps. A gap is
the number of unsent parameters between two sent ones. It is divided by 2^k. First come all
remainders, each in a field of k + 1 bits with the sign (1: -tau) as the lowest bit. The fields fill
words from the lowest bit up; zeros fill the last word. Then, from a new word, come all quotients in
unary: a quotient of q is q zeros and a one. The form is k. A body of updates at random places is
within 2 % of their entropy.

Dense: 2 bits per parameter (0 not sent, 1 +tau, 3 -tau), 16 parameters per word. The form is 31.
The body is larger, but takes the same short time for any number of updates.

n and count decide the form and k, so that a message never exceeds n / 4 bytes (rounded up to a
word) and the header.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Vector, Words
from gtcbmuf.core import kernels
from gtcbmuf.core.kernels import BACKLOG, DENSE, MAGIC

#: Words of a header.
HEADER = kernels.HEADER


class WireError(ValueError):
    """The words are no message for this model."""


def max_words(n: int) -> int:
    """Number of words of the longest message for n parameters, with the header."""
    return HEADER + -(-n // 16)


def expected_bytes(n: int, density: float) -> float:
    """Expected bytes of a message for n parameters, with updates at random places.

    A gap's quotient by 2^k has the mean q / (1 - q) with q = (1 - density)^(2^k). It takes one bit
    more than its value, and the field of the remainder takes k + 1 bits (Golomb 1966).
    """
    header = 4.0 * HEADER
    if density == 0:
        return header
    if density > 1 / 16:
        return header + n / 4
    k = kernels.rice_parameter(n, round(n * density))
    quotient = 1 / math.expm1(-(2**k) * math.log1p(-density))
    return header + n * density * (k + 2 + quotient) / 8


class Encoder:
    """Thresholds a residual into messages. It allocates its buffers once.

    Args:
        n: number of parameters, 1 <= n < 2^31.
        tells_backlog: whether messages tell of a backlog.
    """

    def __init__(self, n: int, *, tells_backlog: bool = False) -> None:
        if not 1 <= n < 2**31:
            raise ValueError(f"{n} parameters: a message is for 1 to 2^31 - 1")
        self._n, self._tells_backlog = n, tells_backlog
        self._updates = np.zeros(n // 16 + kernels.MASK_BITS, np.uint32)
        self._words = np.zeros(max_words(n), "<u4")

    def encode(self, residual: Vector, gradient: Vector, tau: float) -> Words:
        """residual += gradient; move sign(residual) * tau to a message where |residual| >= tau.

        Args:
            residual: (n,) float32, changed in place.
            gradient: (n,) float32.
            tau: the threshold, finite and above 0.

        Returns:
            The message; its words are valid until the next call.

        Raises:
            FloatingPointError: residual + gradient is not finite; a part of it was added.
        """
        n, threshold = self._n, np.float32(tau)
        words, body = self._words, self._words[HEADER:]
        taken, end = kernels.take(residual, gradient, threshold, self._updates)
        if taken == kernels.NOT_FINITE:
            raise FloatingPointError
        updates = self._updates[:taken]
        form = kernels.form_of(n, taken)
        if form == DENSE:
            body[: -(-end // 16)] = 0
            kernels.set_bits(updates, body)
            rest = kernels.take_bits(residual, gradient, threshold, end, body)
            if rest == kernels.NOT_FINITE:
                raise FloatingPointError
            count = taken + rest
            size = body.size
        else:
            count, size = taken, kernels.pack(updates, form, body)
        backlog = self._tells_backlog and 2 * kernels.count_reaching(residual, threshold) > count
        words[:HEADER] = MAGIC | BACKLOG * backlog | form, n, count, threshold.view(np.uint32)
        return words[: HEADER + size]


class Decoder:
    """Checks messages from outside, and adds their updates.

    Args:
        n: number of parameters.

    Attributes:
        parameters: n.
    """

    def __init__(self, n: int) -> None:
        self.parameters = n
        self._scratch = np.zeros(n // 16 + 1, np.uint32)

    def add(self, words: Words, scale: float, vector: Vector) -> None:
        """vector += scale * (the updates of a message), in place.

        Args:
            words: uint32, the whole message.
            scale: factor of the updates.
            vector: (n,) float32; unchanged after an error.

        Raises:
            WireError: the words are no message, or a message of another version or model, or an
                index, a count or a code is out of its bounds.
        """
        fault = kernels.add_message(words, np.float32(scale), self._scratch, vector)
        if fault:
            raise WireError(self._told(fault, words))

    def add_all(self, rows: NDArray[np.uint32], scale: float, vector: Vector) -> None:
        """Add the messages of all ranks in rank order, as `add` does.

        Args:
            rows: (ranks, w) uint32: for each rank the number of its words, and the words.
            scale: factor of the updates.
            vector: (n,) float32; has the updates of lower ranks after an error.

        Raises:
            WireError: names the first rank with an invalid message.
        """
        rank, fault = kernels.add_messages(rows, np.float32(scale), self._scratch, vector)
        if fault:
            words = rows[rank, 1 : 1 + rows[rank, 0]]
            raise WireError(f"from rank {rank}: {self._told(fault, words)}")

    def _told(self, fault: int, words: Words) -> str:
        if fault == kernels.SHORT:
            return f"a message of {words.size} words is shorter than its header"
        magic, n, count = (int(word) for word in words[:3])
        form = (magic ^ MAGIC) & ~BACKLOG
        match fault:
            case kernels.FOREIGN:
                return f"a message starts with {magic:#010x}: another format or version"
            case kernels.OTHER_MODEL:
                return f"a message for {n} parameters reached a model of {self.parameters}"
            case kernels.BAD_TAU:
                return f"a message's tau is {words[3:4].view('<f4')[0]}"
            case kernels.BAD_FORM:
                return f"a message has {count} updates of {n} parameters in form {form}"
        return f"a message of {words.size} words is none of {count} updates below {n}"


def counts(rows: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Number of updates in each message's header: (ranks,), of rows as in `Decoder.add_all`."""
    return rows[:, 3]


def backlogs(rows: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Whether each message tells of a backlog: (ranks,), of rows as in `Decoder.add_all`."""
    return (rows[:, 1] & BACKLOG).astype(np.bool_)
