"""Tier 1 while the gradient is still being computed: an exchange for each slice of the model.

Back-propagation finishes the gradient from its end to its beginning. What is final is exchanged by
a thread of its own, slice after slice, with the exchanges of `gtcbmuf.algorithm` as they are; so
the result has the same bits as without (a dense one's, added in rank order).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from gtcbmuf.algorithm import Exchange, GTCExchange, State, Update, Vector
from gtcbmuf.meter import Meter

#: Parameters that are worth an exchange of their own.
SMALLEST = 1 << 16


def cut(starts: Sequence[int]) -> list[tuple[int, int]]:
    """Slices (first, end) of a model, in order, none shorter than SMALLEST but the first.

    Args:
        starts: where layers begin, ascending from 0, and where the last one ends.
    """
    *begins, end = starts
    slices = []
    for begin in reversed(begins):
        if end - begin >= SMALLEST or begin == 0:
            slices.append((begin, end))
            end = begin
    return slices[::-1]


@dataclass(frozen=True)
class SlicedUpdate:
    """Updates of slices of the model, each with its slice."""

    updates: list[tuple[slice, Update]]

    def add_to(self, vector: Vector, scale: float) -> None:
        """vector += scale * update."""
        for part, update in self.updates:
            update.add_to(vector[part], scale)


class Overlapped:
    """An exchange that begins with a slice as soon as its gradient is final.

    Args:
        slices: (first, end) of each, in order, that make up the model.
        make: parameters of a slice, and a meter -> its exchange; it must use a `PatientComm` of
            a communicator that nothing else uses meanwhile.
        meter: counts; waiting for what is not through counts as communicating.
    """

    def __init__(
        self,
        slices: Sequence[tuple[int, int]],
        make: Callable[[int, Meter], Exchange],
        meter: Meter | None = None,
    ) -> None:
        self._slices = [slice(first, end) for first, end in slices]
        self._beside = Meter()
        self._exchanges = [make(end - first, self._beside) for first, end in slices]
        self._meter = meter or Meter()
        self._thread = ThreadPoolExecutor(1, "exchange")
        self._pending: list[Future[Update]] = []  # from the last slice to the first

    def ready(self, gradient: Vector, first: int) -> None:
        """Take note that gradient[first:] is final, and will not change before the exchange."""
        while len(self._pending) < len(self._slices):
            number = len(self._slices) - 1 - len(self._pending)
            part = self._slices[number]
            if part.start < first:
                break
            self._pending.append(self._thread.submit(self._exchanges[number], gradient[part]))

    def __call__(self, gradient: Vector) -> Update:
        self.ready(gradient, 0)
        with self._meter.time("communicate"):
            updates = [pending.result() for pending in reversed(self._pending)]
        self._pending.clear()
        self._count()
        return SlicedUpdate(list(zip(self._slices, updates, strict=True)))

    def flush(self) -> Update:
        """Exchange all that GTC has not sent yet, densely; collective in the group."""
        gtc = [exchange for exchange in self._exchanges if isinstance(exchange, GTCExchange)]
        with self._meter.time("communicate"):
            flushed = [exchange.flush() for exchange in gtc]
        self._count()
        return SlicedUpdate(list(zip(self._slices, flushed, strict=True)))

    def _count(self) -> None:
        self._meter.updates_sent += self._beside.updates_sent
        self._meter.bytes_sent += self._beside.bytes_sent
        self._beside.reset()

    def forget(self) -> None:
        """Drop what has not been sent yet."""
        for exchange in self._exchanges:
            exchange.forget()

    def state(self) -> State:
        """Those of the slices, by number."""
        return {
            f"{number}.{name}": array
            for number, exchange in enumerate(self._exchanges)
            for name, array in exchange.state().items()
        }

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        for number, exchange in enumerate(self._exchanges):
            exchange.restore({name: state[f"{number}.{name}"] for name in exchange.state()})
