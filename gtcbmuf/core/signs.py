"""Sums of which only signs travel: to the worker that adds up a part, and back.

An exchange in two rounds, as in 1-bit SGD (Seide et al. 2014, section 3.3). Every worker owns a
part of the model. First, the workers send the owner of each part one bit for each of its
parameters, and two levels for each segment. The owner adds up the levels of all workers. Then it
sends the sum to all workers in the same form. So the bytes of a worker do not depend on the number
of workers.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Vector, Words
from gtcbmuf.base.shapes import Shapes, column_ends
from gtcbmuf.core import kernels, sign_kernels
from gtcbmuf.core.algorithm import State
from gtcbmuf.core.checks import check_share, check_target
from gtcbmuf.core.error_feedback import ErrorFeedback
from gtcbmuf.core.meter import Meter
from gtcbmuf.mpi.carried import per_process
from gtcbmuf.mpi.shared_memory import hosts_of

Levels = NDArray[np.float32]
#: Sets the levels (s, 2) of a vector's segments, which end at `ends` (s,).
FindLevels = Callable[[Vector, NDArray[np.int64], Levels], None]


class Layout:
    """Parts and segments of a flat vector, and the places of their signs and levels in messages.

    A message holds a part: the words of its signs, then two levels for each of its segments.

    Args:
        ends: ends of the vector's segments. The ends of the parts cut them further.
        parts: number of parts. All but the last ones have the same length, a multiple of 32.

    Attributes:
        ends: ends of all segments, (s,) int64.

    Examples:
        >>> layout = Layout([40, 100], 2)
        >>> layout.ends.tolist(), layout.bounds(1), layout.ends_of(1).tolist()
        ([40, 64, 100], (64, 100), [36])
    """

    def __init__(self, ends: Sequence[int], parts: int) -> None:
        self.size = ends[-1]
        words = -(-self.size // 32)
        self._words = -(-words // parts)
        self._starts = [min(32 * self._words * part, self.size) for part in range(parts + 1)]
        self.ends = np.unique(np.array([*ends, *self._starts[1:]], np.int64))
        owners = np.searchsorted(self._starts[1:], self.ends, side="left")
        firsts = np.searchsorted(owners, np.arange(parts))
        self._places = owners, np.arange(self.ends.size) - firsts[owners]
        self._segments = int(np.bincount(owners, minlength=parts).max())

    def bounds(self, part: int) -> tuple[int, int]:
        """Return the range of a part."""
        return self._starts[part], self._starts[part + 1]

    def ends_of(self, part: int) -> NDArray[np.int64]:
        """Return the ends of a part's segments, from the part's start."""
        first, end = self.bounds(part)
        ends: NDArray[np.int64] = self.ends[(self.ends > first) & (self.ends <= end)] - first
        return ends

    def messages(self) -> Words:
        """Return messages of zeros, one for each part."""
        return np.zeros((len(self._starts) - 1, self._words + 2 * self._segments), np.uint32)

    def write(self, messages: Words, words: Words, levels: Levels) -> None:
        """Write signs and levels of a whole vector to the messages of its parts."""
        signs = np.zeros((messages.shape[0], self._words), np.uint32)
        signs.reshape(-1)[: words.size] = words
        messages[:, : self._words] = signs
        self._levels(messages)[self._places] = levels

    def read(self, messages: Words) -> tuple[Words, Levels]:
        """Return signs and levels of a whole vector from the messages of its parts."""
        levels = self._levels(messages)[self._places]
        return messages[:, : self._words].reshape(-1), np.ascontiguousarray(levels)

    def split(self, message: Words, segments: int) -> tuple[Words, Levels]:
        """Return signs and levels of a message with a part of some segments, as views."""
        levels = message[self._words :].view(np.float32).reshape(-1, 2)
        return message[: self._words], levels[:segments]

    def _levels(self, messages: Words) -> Levels:
        """Return the levels in messages, (parts, segments, 2) float32, as a view."""
        shape = (messages.shape[0], self._segments, 2)
        return messages.view(np.float32)[:, self._words :].reshape(shape)


class SignUpdate:
    """The levels of every parameter's sign, from the messages of all parts."""

    def __init__(self, layout: Layout, messages: Words) -> None:
        self._layout, self._messages = layout, messages

    def add_to(self, vector: Vector, scale: float) -> None:
        """vector += scale * update."""
        check_target("the vector to add to", vector, self._layout.size)
        words, levels = self._layout.read(self._messages)
        sign_kernels.add_levels(words, self._layout.ends, levels, np.float32(scale), vector)


class SignSum:
    """Sums signs with levels over the workers of a group, each for a part of the model.

    Args:
        group: the workers.
        ends: ends of the vector's segments.
        meter: counts the bytes that leave this worker's host.

    Attributes:
        layout: parts and segments.
        total: sum of this worker's part, float32. A call adds to it.

    Examples:
        >>> sums = SignSum(MPI.COMM_SELF, [2])
        >>> plus_and_minus, levels = np.array([1], np.uint32), np.array([[-2, 3]], np.float32)
        >>> sums.scatter(plus_and_minus, levels)
        >>> sums.total.tolist()
        [3.0, -2.0]
    """

    def __init__(self, group: MPI.Comm, ends: Sequence[int], meter: Meter | None = None) -> None:
        self._group, self._meter = group, meter or Meter()
        self.layout = layout = Layout(ends, group.size)
        self._away = group.size - hosts_of(group).local.size  # workers on other hosts
        self._outgoing, self._incoming = layout.messages(), layout.messages()
        self._whole = per_process(group, lambda _: layout.messages())
        self.ends = layout.ends_of(group.rank)
        first, end = layout.bounds(group.rank)
        self.total = np.zeros(end - first, np.float32)

    def scatter(self, words: Words, levels: Levels) -> None:
        """Add this part of all workers' signs (n / 32,) and levels (s, 2) to the total; collective.

        The workers are added in rank order.
        """
        self.layout.write(self._outgoing, words, levels)
        self._group.Alltoall(self._outgoing, self._incoming)
        for message in self._incoming:
            part_words, part_levels = self.layout.split(message, self.ends.size)
            sign_kernels.add_levels(part_words, self.ends, part_levels, np.float32(1), self.total)
        self._meter.bytes_sent += self._away * self._outgoing[0].nbytes

    def gather(self, words: Words, levels: Levels) -> SignUpdate:
        """Send signs and levels of this worker's part to all workers; collective."""
        message = self._outgoing[0]
        own_words, own_levels = self.layout.split(message, self.ends.size)
        own_words[: words.size], own_levels[:] = words, levels
        self._group.Allgather(message, self._whole)
        self._meter.bytes_sent += message.nbytes if self._away else 0
        return SignUpdate(self.layout, self._whole)


def _signs(vector: Vector) -> Words:
    """Return the signs of a vector (n,), in n / 32 words, rounded up."""
    words = np.empty(-(-vector.size // 32), np.uint32)
    sign_kernels.find_signs(vector, words)
    return words


class SignExchange(ErrorFeedback):
    """residual += gradient; the levels of its signs move to a sum, whose signs are sent again.

    The owner of a part of the sum has a residual, too: what the levels of the sum lack. The ends of
    the parts cut the segments.

    Args:
        group: this worker's group.
        ends: ends of the model's segments, ascending to n.
        find_levels: sets the levels of segments: `sign_kernels.find_means` or `find_sizes`.
        meter: counts.
    """

    def __init__(
        self,
        group: MPI.Comm,
        ends: Sequence[int],
        find_levels: FindLevels,
        meter: Meter | None = None,
    ) -> None:
        super().__init__(group, ends[-1], meter)
        self._find_levels = find_levels
        self._sum = SignSum(group, ends, self._meter)

    def __call__(self, gradient: Vector) -> SignUpdate:
        with self._meter.time("encode"):
            kernels.add_scaled(self._check(gradient), np.float32(1), self._residual)
            self._check.require_finite(self._residual)
            signs = self._take(self._residual, self._sum.layout.ends)
        with self._meter.time("communicate"):
            self._sum.scatter(*signs)
            update = self._sum.gather(*self._take(self._sum.total, self._sum.ends))
        self._meter.updates_sent += self._residual.size
        return update

    def _take(self, vector: Vector, ends: NDArray[np.int64]) -> tuple[Words, Levels]:
        """Find signs and levels of a vector, and subtract them from it."""
        words, levels = _signs(vector), np.empty((ends.size, 2), np.float32)
        self._find_levels(vector, ends, levels)
        sign_kernels.add_levels(words, ends, levels, np.float32(-1), vector)
        return words, levels

    def forget(self) -> None:
        """Drop the residuals of this worker and of its part of the sum."""
        super().forget()
        self._sum.total[:] = 0

    def state(self) -> State:
        """The residual (n,), and that of this worker's part of the sum."""
        return {**super().state(), "of_sum": self._sum.total}


class OneBitExchange(SignExchange):
    """1-bit SGD (Seide et al., Interspeech 2014): two means for the signs of a column.

    A column has the weights that leave one input of a layer, as in CNTK. An array without columns,
    such as a layer's biases, is one column.

    Args:
        group: this worker's group.
        shapes: shapes of the model's arrays, in the order of the flat vector.
        meter: counts.

    Examples:
        >>> exchange, update = OneBitExchange(MPI.COMM_SELF, [(1, 4)]), np.zeros(4, np.float32)
        >>> exchange(np.array([1, 3, -2, -6], np.float32)).add_to(update, 1)
        >>> update.tolist(), exchange.state()["residual"].tolist()
        ([2.0, 2.0, -4.0, -4.0], [-1.0, 1.0, 2.0, -2.0])
    """

    def __init__(self, group: MPI.Comm, shapes: Shapes, meter: Meter | None = None) -> None:
        super().__init__(group, column_ends(shapes), sign_kernels.find_means, meter)


class EFSignExchange(SignExchange):
    """EF-signSGD (Karimireddy et al., ICML 2019, algorithm 2): the mean size for an array's signs.

    This is its distributed form, in which sums are compressed, too (Zheng et al., NeurIPS 2019,
    algorithm 2).

    Args:
        group, shapes, meter: as for `OneBitExchange`.

    Examples:
        >>> exchange, update = EFSignExchange(MPI.COMM_SELF, [(4,)]), np.zeros(4, np.float32)
        >>> exchange(np.array([1, 3, -2, -6], np.float32)).add_to(update, 1)
        >>> update.tolist(), exchange.state()["residual"].tolist()
        ([3.0, 3.0, -3.0, -3.0], [-2.0, 0.0, 1.0, -3.0])
    """

    def __init__(self, group: MPI.Comm, shapes: Shapes, meter: Meter | None = None) -> None:
        ends = list(itertools.accumulate(map(math.prod, shapes)))
        super().__init__(group, ends, sign_kernels.find_sizes, meter)


class MajorityExchange(ErrorFeedback):
    """signSGD with majority vote (Bernstein et al., ICLR 2019, algorithm 1).

    A worker sends the sign of every parameter's momentum, a running mean of its gradients. The
    update is the sign of most workers. Where as many are for 1 as for -1, it is 1 and -1 in turns,
    from parameter to parameter and from step to step.

    Args:
        group: this worker's group.
        parameters: n, below 2^31.
        momentum: from 0 to below 1. With 0, a worker sends the signs of its gradient.
        meter: counts.

    Examples:
        >>> exchange, update = MajorityExchange(MPI.COMM_SELF, 3, 0.0), np.zeros(3, np.float32)
        >>> exchange(np.array([5, -0.1, 2], np.float32)).add_to(update, 1)
        >>> update.tolist()
        [1.0, -1.0, 1.0]
    """

    def __init__(
        self, group: MPI.Comm, parameters: int, momentum: float, meter: Meter | None = None
    ) -> None:
        super().__init__(group, parameters, meter)  # the residual is the mean of the gradients
        self._momentum = np.float32(check_share("momentum", momentum))
        self._sum = SignSum(group, [parameters], self._meter)
        self._steps = np.zeros(1, np.int64)

    def __call__(self, gradient: Vector) -> SignUpdate:
        layout, total = self._sum.layout, self._sum.total
        with self._meter.time("encode"):
            kernels.decay(self._residual, self._momentum)
            share = np.float32(1) - self._momentum
            kernels.add_scaled(self._check(gradient), share, self._residual)
            self._check.require_finite(self._residual)
            signs = _signs(self._residual), self._levels(layout.ends)
        with self._meter.time("communicate"):
            total[:] = 0
            self._sum.scatter(*signs)
            turn = (layout.bounds(self._group.rank)[0] + int(self._steps[0])) % 2
            total[turn::2] += np.float32(0.5)
            total[1 - turn :: 2] -= np.float32(0.5)
            update = self._sum.gather(_signs(total), self._levels(self._sum.ends))
        self._steps += 1
        self._meter.updates_sent += self._residual.size
        return update

    @staticmethod
    def _levels(ends: NDArray[np.int64]) -> Levels:
        return np.tile(np.array([-1, 1], np.float32), (ends.size, 1))

    def state(self) -> State:
        """The momentum (n,), and the number of steps (1,)."""
        return {"momentum": self._residual, "steps": self._steps}
