"""The message of gradient threshold compression, as it travels.

Little-endian uint32 words. A header of four:

    0   0x47544300 | form         "GTC" and the form of the body
    1   n                         parameters of the model, 1 <= n < 2^31
    2   count                     parameters sent
    3   tau                       bits of a float32, finite and above 0

and a body in the form that is smaller: 1 (indices), one word `index << 1 | negative` per update,
ascending; or 2 (bits), 2 bits a parameter (0 not sent, 1 +tau, 3 -tau), 16 parameters a word. Bits
win above a density of 1/16, so a message never exceeds n / 4 bytes (rounded up to a word) and the
header.
"""

from dataclasses import dataclass

import numpy as np

from gtcbmuf import kernels
from gtcbmuf.kernels import Vector, Words

HEADER = 4
_MAGIC = 0x47544300
_INDICES, _BITS = 1, 2


class WireError(ValueError):
    """Words that are not a message for this model."""


@dataclass(frozen=True)
class Message:
    """Updates of one worker: +tau or -tau for each of `count` out of n parameters.

    Made by an `Encoder`, or by `parse`, which checks it.
    """

    tau: np.float32
    count: int
    form: int
    body: Words

    def add_to(self, vector: Vector, scale: float) -> None:
        """vector += scale * (the updates), in place; vector is (n,) float32."""
        step = np.float32(scale * self.tau)
        if self.form == _INDICES:
            kernels.add_indices(self.body, step, vector)
        else:
            kernels.add_bits(self.body, step, vector)


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
        self._crossings = np.zeros(-(-n // kernels.BLOCK), np.uint8)
        self._words = np.zeros(max_words(n) + 1, "<u4")  # a kernel uses one more as a scratch

    def encode(self, residual: Vector, gradient: Vector, tau: float) -> Words:
        """residual += gradient; take sign(residual) * tau from where |residual| >= tau.

        Args:
            residual: (n,) float32, in place.
            gradient: (n,) float32.
            tau: the threshold, finite and above 0.

        Returns:
            The message; its words are valid until the next call.
        """
        threshold = np.float32(tau)
        words = self._words
        count = kernels.accumulate(residual, gradient, threshold, self._crossings)
        form, size = _body(self._n, count)
        if form == _INDICES:
            kernels.take_indices(residual, threshold, self._crossings, words[HEADER:])
        else:
            kernels.take_bits(residual, threshold, words[HEADER : HEADER + size])
        words[:HEADER] = _MAGIC | form, self._n, count, threshold.view(np.uint32)
        return words[: HEADER + size]


def parse(words: Words, n: int) -> Message:
    """Check a message that came from outside.

    Args:
        words: uint32, the whole message; the result's body is a view of it.
        n: parameters of this model.

    Raises:
        WireError: not a message, of another version or model, or with an index, a count, an
            order or a code out of its bounds.
    """
    if words.size < HEADER:
        raise WireError(f"a message of {words.size} words is shorter than its header")
    magic, size, count = (int(word) for word in words[:3])
    tau = words[3:4].view("<f4")[0]
    form = magic ^ _MAGIC
    if form not in (_INDICES, _BITS):
        raise WireError(f"a message starts with {magic:#010x}: another format or version")
    if size != n:
        raise WireError(f"a message for {size} parameters reached a model of {n}")
    if not (np.isfinite(tau) and tau > 0):
        raise WireError(f"a message's tau is {tau}")
    body = words[HEADER:]
    if count > n or (form, body.size) != _body(n, count):
        raise WireError(
            f"a message with {count} updates of {n} parameters in form {form} has "
            f"{body.size} words after its header"
        )
    valid = kernels.are_indices(body, n) if form == _INDICES else kernels.are_bits(body, n, count)
    if not valid:
        raise WireError("a message names a parameter out of bounds, out of order or with no sign")
    return Message(tau, count, form, body)


def _body(n: int, count: int) -> tuple[int, int]:
    """Form and words of the body: the smaller one."""
    dense = -(-n // 16)
    return (_INDICES, count) if count <= dense else (_BITS, dense)
