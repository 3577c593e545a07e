"""The message of gradient threshold compression, as it travels.

Little-endian uint32 words. A header of four:

    0   0x47544300 | form         "GTC" and the form of the body
    1   n                         parameters of the model, 1 <= n < 2^31
    2   count                     updates: parameters sent
    3   tau                       bits of a float32, finite and above 0

and a body. Sparse, up to a density of 1/16, it is Golomb-Rice coded (Golomb 1966; Rice 1979):
from one sent index to the next there is a gap of parameters that are not sent, of which it takes
the quotient by 2^k and the remainder. First come all remainders, each as a field of k + 1 bits with
the sign (1: -tau) as the lowest one; the fields fill words from the lowest bit up, and zeros the
rest of the last word. Then come all quotients in unary, in words of their own: for each as many
zeros, and a one. The form is k. A body of updates at random places is within 2 % of their entropy.

Dense, it has 2 bits a parameter (0 not sent, 1 +tau, 3 -tau), 16 parameters a word, and the form
is 31. It is larger, but takes the same short time however many updates there are.

n and count decide the form and k, so that a message never exceeds n / 4 bytes (rounded up to a
word) and the header.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gtcbmuf import kernels
from gtcbmuf.kernels import Vector, Words

HEADER = 4
_MAGIC = 0x47544300
_DENSE = 31


class WireError(ValueError):
    """Words that are not a message for this model."""


@dataclass(frozen=True)
class Message:
    """Updates of one worker: +tau or -tau for each of `count` out of n parameters.

    Attributes:
        tau: the threshold that was sent.
        count: updates.
        dense: whether `body` has 2 bits a parameter.
        body: that, or a word `index << 1 | negative` per update, ascending.
    """

    tau: np.float32
    count: int
    dense: bool
    body: Words

    def add_to(self, vector: Vector, scale: float) -> None:
        """vector += scale * (the updates), in place; vector is (n,) float32."""
        step = np.float32(scale * self.tau)
        add = kernels.add_bits if self.dense else kernels.add_updates
        add(self.body, step, vector)


def max_words(n: int) -> int:
    """Words of the longest message for n parameters, header included."""
    return HEADER + -(-n // 16)


class Encoder:
    """Thresholds a residual into messages, in buffers that are made once.

    Args:
        n: number of parameters, 1 <= n < 2^31.
    """

    def __init__(self, n: int) -> None:
        if not 1 <= n < 2**31:
            raise ValueError(f"{n} parameters: a message is for 1 to 2^31 - 1")
        self._n = n
        self._updates = np.zeros(n // 16 + kernels.BLOCK, np.uint32)
        self._words = np.zeros(max_words(n), "<u4")

    def encode(self, residual: Vector, gradient: Vector, tau: float) -> Words:
        """residual += gradient; take sign(residual) * tau from where |residual| >= tau.

        Args:
            residual: (n,) float32, in place.
            gradient: (n,) float32.
            tau: the threshold, finite and above 0.

        Returns:
            The message; its words are valid until the next call.
        """
        n, threshold = self._n, np.float32(tau)
        words, body = self._words, self._words[HEADER:]
        taken, end = kernels.take(residual, gradient, threshold, self._updates)
        updates = self._updates[:taken]
        form = _form(n, taken)
        if form == _DENSE:
            body[: -(-end // 16)] = 0
            kernels.set_bits(updates, body)
            count = taken + kernels.take_bits(residual, gradient, threshold, end, body)
            size = body.size
        else:
            count, size = taken, kernels.pack(updates, form, body)
        words[:HEADER] = _MAGIC | form, n, count, threshold.view(np.uint32)
        return words[: HEADER + size]


def parse(words: Words, n: int) -> Message:
    """Check and decode a message that came from outside.

    Args:
        words: uint32, the whole message; the body of a dense result is a view of it.
        n: parameters of this model.

    Raises:
        WireError: not a message, of another version or model, or with an index, a count or a code
            out of its bounds.
    """
    if words.size < HEADER:
        raise WireError(f"a message of {words.size} words is shorter than its header")
    magic, size, count = (int(word) for word in words[:3])
    tau = words[3:4].view("<f4")[0]
    form = magic ^ _MAGIC
    if not 0 <= form <= _DENSE:
        raise WireError(f"a message starts with {magic:#010x}: another format or version")
    if size != n:
        raise WireError(f"a message for {size} parameters reached a model of {n}")
    if not (np.isfinite(tau) and tau > 0):
        raise WireError(f"a message's tau is {tau}")
    body = words[HEADER:]
    if count > n or form != _form(n, count):
        raise WireError(f"a message has {count} updates of {n} parameters in form {form}")
    if form == _DENSE:
        if body.size != -(-n // 16) or not kernels.are_bits(body, n, count):
            raise WireError(f"a dense message of {words.size} words is none of {count} updates")
        return Message(tau, count, True, body)
    # No more memory than the message has words for.
    updates = np.empty(min(count, 32 * body.size), np.uint32)
    if updates.size != count or not kernels.unpack(body, form, n, updates):
        raise WireError(f"a message of {words.size} words is none of {count} updates below {n}")
    return Message(tau, count, False, updates)


def parse_all(messages: Sequence[Words], n: int) -> list[Message]:
    """`parse` the messages of all ranks, in rank order.

    Raises:
        WireError: names the first rank whose message is none.
    """
    parsed = []
    for rank, words in enumerate(messages):
        try:
            parsed.append(parse(words, n))
        except WireError as error:
            raise WireError(f"from rank {rank}: {error}") from None
    return parsed


def _form(n: int, count: int) -> int:
    """k, or _DENSE where that is smaller or denser than 1/16."""
    k = rice_parameter(n, count)
    longest = -(-count * (k + 1) // 32) - (-(count + (n >> k)) // 32) if count else 0
    return k if 16 * count <= n and longest <= -(-n // 16) else _DENSE


def rice_parameter(n: int, count: int) -> int:
    """k that suits `count` updates of n parameters.

    For gaps at random the best k is the logarithm to base 2 of 0.962 n / count, rounded down:
    0.962 is twice that of the golden ratio to base e (Kiely, IPN Progress Report 42-159, 2004).
    In integers, so that all hosts agree.
    """
    k = (246 * n // (256 * max(count, 1))).bit_length() - 1
    return max(min(k, 30), 0)
