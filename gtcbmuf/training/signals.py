"""Signals that stop a run, and the poll in which ranks agree on them about once a second."""

import signal
import time
from types import FrameType

import numpy as np
from mpi4py import MPI


class StopSignals:
    """Remembers whether SIGUSR1, SIGTERM or SIGINT asked this process to stop.

    A second SIGINT ends the process at once. Use an object of this class in a `with` statement.
    """

    def __init__(self) -> None:
        #: Number of the first signal; 0 if there was none.
        self.received = 0

    def __enter__(self) -> "StopSignals":
        kinds = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
        self._before = {kind: signal.signal(kind, self._note) for kind in kinds}
        return self

    def __exit__(self, *_: object) -> None:
        for kind, before in self._before.items():
            signal.signal(kind, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or number


class Poll:
    """Lets ranks agree on the requests of any rank, about once a second. Collective.

    Call it at every step. The time of a step on rank 0 sets the number of steps between two
    collectives.

    Args:
        world: communicator of the ranks.
        minutes: minutes between two checkpoints; None for no checkpoints by time.
    """

    def __init__(self, world: MPI.Comm, minutes: float | None) -> None:
        self._world, self._minutes = world, minutes
        self._left = self._interval = 1
        self._last = self._saved = time.monotonic()

    def __call__(self, received: int) -> tuple[int, bool]:
        """Return the signal that any rank received (0: none), and whether a checkpoint is due."""
        self._left -= 1
        if self._left:
            return 0, False
        now = time.monotonic()
        step = max((now - self._last) / self._interval, 1e-6)
        due = self._minutes is not None and now - self._saved >= 60 * self._minutes
        root = self._world.rank == 0
        wishes = np.array(
            [received, due if root else 0, min(max(int(1 / step), 1), 1000) if root else 0]
        )
        self._world.Allreduce(MPI.IN_PLACE, wishes, MPI.MAX)
        self._left = self._interval = int(wishes[2])
        self._last = now
        return int(wishes[0]), bool(wishes[1])

    def saved(self) -> None:
        """Record that a checkpoint was written."""
        self._saved = time.monotonic()
