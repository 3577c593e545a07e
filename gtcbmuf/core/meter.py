"""Counts the work of a worker in an epoch: seconds by part, bytes, updates."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

PARTS = ("read", "compute", "encode", "communicate", "decode", "filter")


class Meter:
    """Counts of one worker since `reset`. Both tiers and the worker share one meter.

    Attributes:
        seconds: seconds of each part of PARTS.
        bytes_sent: payload that this worker handed to MPI for workers of other hosts, in both
            tiers. Forwarding inside a collective does not count.
        part: the part that is being timed; empty between parts.
        updates_sent: parameters whose update was sent to the group, summed over the steps.

    Examples:
        >>> import numpy as np
        >>> from mpi4py import MPI
        >>> from gtcbmuf import GTCExchange
        >>> exchange = GTCExchange(MPI.COMM_SELF, 100, 1.0, meter := Meter())
        >>> update = exchange(np.linspace(0, 2, 100, dtype=np.float32))
        >>> meter.updates_sent, meter.bytes_sent  # no bytes: there are no other workers
        (50, 0)
    """

    def __init__(self) -> None:
        self.part = ""
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        self._within = 0.0  # seconds of the `with` statements that ended
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.bytes_sent = 0
        self.updates_sent = 0

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Add the seconds of a `with` statement to a part, without nested `with` statements."""
        begin, before = time.perf_counter(), self._within
        outer, self.part = self.part, part
        try:
            yield
        finally:
            self.part = outer
            seconds = time.perf_counter() - begin
            self.seconds[part] += seconds - (self._within - before)
            self._within = before + seconds

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Count nothing in a `with` statement, such as the sums of an evaluation."""
        before = self.state()
        try:
            yield
        finally:
            self.restore(before)

    def state(self) -> dict[str, float]:
        """The counts by name."""
        counts = {"bytes_sent": self.bytes_sent, "updates_sent": self.updates_sent}
        return {**self.seconds, **counts}

    def restore(self, state: dict[str, float]) -> None:
        """Continue from a `state`."""
        self.seconds = {part: float(state[part]) for part in PARTS}
        self.bytes_sent, self.updates_sent = int(state["bytes_sent"]), int(state["updates_sent"])
