"""Checkpoints, written and found by all ranks together; and the signals that ask for one."""

import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf import checkpoint
from gtcbmuf.errors import UserError
from gtcbmuf.storage import WRITE_ERRORS, reason
from gtcbmuf.topology import CollectiveError, agree, on_root

T = TypeVar("T")


class Checkpoints:
    """The checkpoints of a run.

    Args:
        world: the workers.
        folder: of the checkpoints.
        kept: how many of them, the newest.
    """

    def __init__(self, world: MPI.Comm, folder: Path, kept: int) -> None:
        self._world, self._folder, self._kept = world, folder, kept

    def save(
        self,
        step: int,
        state: checkpoint.State,
        own: Mapping[str, float],
        shared: Mapping[str, Any],
    ) -> str:
        """Write a checkpoint; return a line about it; collective.

        Args:
            step: of the whole run.
            state, own: this worker's arrays and numbers.
            shared: what all workers share; that of rank 0 counts.

        Raises:
            CollectiveError: on all ranks alike: it cannot be written. Earlier ones are as before.
        """
        world, rank = self._world, self._world.rank
        begin = time.perf_counter()
        part = on_root(world, lambda: _written(lambda: checkpoint.begin(self._folder, step)))
        try:
            digest = agree(
                world, lambda: _written(lambda: checkpoint.write_rank(part, rank, state, own))
            )
            hashes = world.gather(digest) or []
            path = on_root(
                world, lambda: _written(lambda: checkpoint.publish(part, shared, hashes))
            )
        finally:
            if rank == 0:
                checkpoint.prune(self._folder, self._kept)
        megabytes = sum(array.nbytes for array in state.values()) / 1e6
        largest = world.allreduce(megabytes, MPI.MAX)
        seconds = time.perf_counter() - begin
        return f"checkpoint {path}: {largest:.1f} MB a rank at most, {seconds:.2f} s"

    def load(
        self,
    ) -> tuple[checkpoint.Checkpoint, dict[str, NDArray[Any]], dict[str, float]] | None:
        """The newest checkpoint that is whole, with this worker's arrays and numbers; collective.

        Rank 0 tells of those that are not. Nothing, if there is none.
        """
        world = self._world
        paths: list[Path] = world.bcast(checkpoint.found(self._folder) if not world.rank else None)
        for path in paths:
            try:
                whole = on_root(world, partial(checkpoint.read, path))
            except CollectiveError as error:
                self._skip(error)
                continue
            if len(whole.hashes) != world.size:
                raise CollectiveError(
                    f"{path} was written by {len(whole.hashes)} workers, and this job has "
                    f"{world.size}: start as many, or take its weights alone: "
                    "--resume-weights RUN/model.h5"
                )
            try:
                state, own = agree(world, partial(checkpoint.read_rank, whole, world.rank))
            except CollectiveError as error:
                self._skip(error)
                continue
            return whole, state, own
        return None

    def _skip(self, error: CollectiveError) -> None:
        if self._world.rank == 0:
            print(f"gtcbmuf: {error}; looking for an earlier one", file=sys.stderr, flush=True)


def _written(do: Callable[[], T]) -> T:
    try:
        return do()
    except WRITE_ERRORS as error:
        raise UserError(f"a checkpoint cannot be written: {reason(error)}") from None


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
