"""What ends or interrupts a run: signals, and what ranks agree on about once a second."""

import signal
import time
from types import FrameType

import numpy as np
from mpi4py import MPI


class StopSignals:
    """Remembers whether this process was asked to stop: by SIGUSR1, SIGTERM or SIGINT.

    A second SIGINT ends it at once. To be used in a `with` block.
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
    """Lets ranks agree, about once a second, on what any of them wants.

    Asked at every step; how many steps pass between two collectives follows from the time they
    take on rank 0. Collective.

    Args:
        world: the ranks.
        minutes: between two checkpoints; nothing for never.
    """

    def __init__(self, world: MPI.Comm, minutes: float | None) -> None:
        self._world, self._minutes = world, minutes
        self._left = self._interval = 1
        self._last = self._saved = time.monotonic()

    def __call__(self, received: int) -> tuple[int, bool]:
        """The signal that any rank received, and whether it is time for a checkpoint."""
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
        """Take note of a checkpoint."""
        self._saved = time.monotonic()
