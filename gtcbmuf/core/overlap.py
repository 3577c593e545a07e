"""Tier 1 during the backward pass: an exchange for each slice of the model.

Back-propagation finishes the gradient from its end to its beginning. A separate thread exchanges
each finished slice with an exchange of `gtcbmuf.core.algorithm`. So the result has the same bits as
without overlap. The exchange has to add in rank order for that.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.core.algorithm import Exchange, State, Update
from gtcbmuf.core.checks import NotFiniteError, VectorCheck
from gtcbmuf.core.meter import Meter

#: Smallest number of parameters that is worth a separate exchange.
SMALLEST = 1 << 16


@dataclass(frozen=True)
class Slice:
    """Consecutive arrays of a model.

    Attributes:
        first, end: range of their parameters.
        shapes: shapes of the arrays.
    """

    first: int
    end: int
    shapes: tuple[tuple[int, ...], ...]


def cut(shapes: Shapes) -> list[Slice]:
    """Cut a model into slices. Only the first one may be shorter than SMALLEST.

    Examples:
        >>> [(part.first, part.end) for part in cut([(300, 300), (300,), (300, 9), (9,)])]
        [(0, 93009)]
        >>> [(part.first, part.end) for part in cut([(9, 300), (300,), (300, 300), (300,)])]
        [(0, 3000), (3000, 93300)]
    """
    slices: list[Slice] = []
    end = first = count_parameters(shapes)
    waiting: list[tuple[int, ...]] = []
    for number, shape in reversed(list(enumerate(shapes))):
        first -= math.prod(shape)
        waiting.insert(0, shape)
        if end - first >= SMALLEST or number == 0:
            slices.insert(0, Slice(first, end, tuple(waiting)))
            end, waiting = first, []
    return slices


@dataclass(frozen=True)
class SlicedUpdate:
    """Updates of the model's slices, each with its slice."""

    updates: list[tuple[slice, Update]]

    def add_to(self, vector: Vector, scale: float) -> None:
        """vector += scale * update."""
        for part, update in self.updates:
            update.add_to(vector[part], scale)


class Overlapped:
    """An exchange that starts with a slice as soon as its gradient is final.

    Args:
        slices: all slices of the model, in order.
        build: slice, meter -> its exchange. It must use a `PatientComm` of a communicator that
            nothing else uses at the same time.
        meter: counts. Waiting for unfinished exchanges counts as communication.
    """

    def __init__(
        self,
        slices: Sequence[Slice],
        build: Callable[[Slice, Meter], Exchange],
        meter: Meter | None = None,
    ) -> None:
        self._slices = [slice(part.first, part.end) for part in slices]
        self._check = VectorCheck("gradient", "step", slices[-1].end)
        self._beside = Meter()
        self._exchanges = [build(part, self._beside) for part in slices]
        self._meter = meter or Meter()
        self._thread = ThreadPoolExecutor(1, "exchange")
        self._pending: list[Future[Update]] = []  # from the last slice to the first

    def ready(self, gradient: Vector, first: int) -> None:
        """Start to exchange gradient[first:], which must not change until the exchange returns."""
        while len(self._pending) < len(self._slices):
            number = len(self._slices) - 1 - len(self._pending)
            part = self._slices[number]
            if part.start < first:
                break
            self._pending.append(self._thread.submit(self._exchanges[number], gradient[part]))

    def __call__(self, gradient: Vector) -> Update:
        gradient = self._check(gradient)
        self.ready(gradient, 0)
        updates: list[Update] = []
        pending, self._pending = self._pending, []
        with self._meter.time("communicate"):
            # In the order of their start: an exchange after an error may wait for ever.
            for part, result in zip(reversed(self._slices), pending, strict=True):
                try:
                    updates.insert(0, result.result())
                except NotFiniteError as error:
                    for other in pending:
                        other.cancel()
                    error.shift(part.start, self._slices[-1].stop)
                    raise
        self._count()
        return SlicedUpdate(list(zip(self._slices, updates, strict=True)))

    def _count(self) -> None:
        self._meter.updates_sent += self._beside.updates_sent
        self._meter.bytes_sent += self._beside.bytes_sent
        self._beside.reset()

    def forget(self) -> None:
        """Drop the residuals of all slices."""
        for exchange in self._exchanges:
            exchange.forget()

    def state(self) -> State:
        """The states of the slices, by number."""
        return {
            f"{number}.{name}": array
            for number, exchange in enumerate(self._exchanges)
            for name, array in exchange.state().items()
        }

    def restore(self, state: State) -> None:
        """Continue from a `state`."""
        for number, exchange in enumerate(self._exchanges):
            exchange.restore({name: state[f"{number}.{name}"] for name in exchange.state()})
