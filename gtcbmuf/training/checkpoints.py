"""Checkpoints that all ranks write and read together."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import reading, reason
from gtcbmuf.base.output import warn
from gtcbmuf.mpi.job import CollectiveError, agree, on_root
from gtcbmuf.training.checkpoint_files import (
    Checkpoint,
    State,
    begin_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    publish_checkpoint,
    read_checkpoint,
    read_rank,
    write_rank,
)

T = TypeVar("T")


@dataclass(frozen=True)
class LoadedCheckpoint:
    """The content of a checkpoint for one worker.

    Attributes:
        checkpoint: data that all workers share.
        state, numbers: this worker's arrays and numbers.
    """

    checkpoint: Checkpoint
    state: dict[str, NDArray[Any]]
    numbers: dict[str, float]


class Checkpoints:
    """The checkpoints of a run.

    Args:
        world: communicator of the workers.
        folder: folder of all checkpoints.
        keep: number of checkpoints to keep. The newest are kept.
    """

    def __init__(self, world: MPI.Comm, folder: Path, keep: int) -> None:
        self._world, self._folder, self._keep = world, folder, keep

    def save(
        self,
        step: int,
        state: State,
        numbers: Mapping[str, float],
        shared: Mapping[str, Any],
    ) -> str:
        """Write a checkpoint and return a line about it. Collective.

        Args:
            step: number of steps since the start of the run.
            state, numbers: this worker's arrays and numbers.
            shared: data that all workers share. The value on rank 0 is used.

        Raises:
            CollectiveError: the checkpoint cannot be written. Raised on all ranks alike. Earlier
                checkpoints remain unchanged.
        """
        world, rank = self._world, self._world.rank
        begin = time.perf_counter()
        part = on_root(world, lambda: self._write(lambda: begin_checkpoint(self._folder, step)))
        try:
            digest = agree(
                world, lambda: self._write(lambda: write_rank(part, rank, state, numbers))
            )
            hashes = world.gather(digest) or []
            path = on_root(
                world, lambda: self._write(lambda: publish_checkpoint(part, shared, hashes))
            )
        finally:
            if rank == 0:
                prune_checkpoints(self._folder, self._keep)
        megabytes = sum(array.nbytes for array in state.values()) / 1e6
        largest = world.allreduce(megabytes, MPI.MAX)
        seconds = time.perf_counter() - begin
        return f"checkpoint {path}: {largest:.1f} MB per rank at most, {seconds:.2f} s"

    def load(self) -> LoadedCheckpoint | None:
        """Read the newest usable checkpoint, with this worker's arrays and numbers. Collective.

        Rank 0 reports newer checkpoints that cannot be used. Return None if there is no checkpoint.

        Raises:
            CollectiveError: the folder cannot be read, or no checkpoint can be used, or the newest
                usable one is of another number of workers. Raised on all ranks alike.
        """
        world, faults = self._world, []
        for path in on_root(world, self._list):
            try:
                checkpoint = on_root(world, partial(read_checkpoint, path))
            except CollectiveError as error:
                faults.append(str(error))
                continue
            if len(checkpoint.hashes) != world.size:
                raise CollectiveError(
                    f"{path} was written by {len(checkpoint.hashes)} workers, but this job has "
                    f"{world.size}; start {len(checkpoint.hashes)}, or begin with the weights of a "
                    "finished run: --resume-weights RUN/model.h5"
                )
            try:
                state, numbers = agree(world, partial(read_rank, checkpoint, world.rank))
            except CollectiveError as error:
                faults.append(str(error))
                continue
            if world.rank == 0:
                for fault in faults:
                    warn(f"gtcbmuf: {fault}; continuing from an earlier checkpoint")
            return LoadedCheckpoint(checkpoint, state, numbers)
        if faults:
            raise CollectiveError(
                f"{'; '.join(faults)}; there is no other checkpoint; to begin anew, omit --resume"
            )
        return None

    def _list(self) -> list[Path]:
        with reading(self._folder):
            return list_checkpoints(self._folder)

    def _write(self, do: Callable[[], T]) -> T:
        try:
            return do()
        except OSError as error:
            raise UserError(
                f"{self._folder}: a checkpoint cannot be written: {reason(error)}"
            ) from None
