"""The poll in which ranks agree on signals and on checkpoints by time, about once a second."""

import time

import numpy as np
from mpi4py import MPI


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
        self._steps_left = self._interval = 1
        self._last = self._last_checkpoint = time.monotonic()

    def __call__(self, number: int) -> tuple[int, bool]:
        """Return the signal that any rank received (0: none), and whether a checkpoint is due."""
        self._steps_left -= 1
        if self._steps_left:
            return 0, False
        now = time.monotonic()
        step = max((now - self._last) / self._interval, 1e-6)
        due = self._minutes is not None and now - self._last_checkpoint >= 60 * self._minutes
        root = self._world.rank == 0
        requests = np.array(
            [number, due if root else 0, min(max(int(1 / step), 1), 1000) if root else 0]
        )
        self._world.Allreduce(MPI.IN_PLACE, requests, MPI.MAX)
        self._steps_left = self._interval = int(requests[2])
        self._last = now
        return int(requests[0]), bool(requests[1])

    def record_checkpoint(self) -> None:
        """Record that a checkpoint was written."""
        self._last_checkpoint = time.monotonic()
