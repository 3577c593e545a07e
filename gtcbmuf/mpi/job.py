"""Jobs that end on all of their ranks, and agreement between the ranks."""

import hashlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mpi4py import MPI

from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.output import StdoutError, warn
from gtcbmuf.mpi import launcher

#: Seconds that a failed rank waits for lower ranks, so that the lowest one that fails reports and
#: ends the job: for any, and for each.
_HEAD_START, _PRECEDENCE = 0.3, 0.02
T = TypeVar("T")


class CollectiveError(Exception):
    """An error that all workers raise together, so that one worker can report it.

    Attributes:
        status: exit status of the job.
    """

    status = 2


def agree(comm: MPI.Comm, do: Callable[[], T]) -> T:
    """Call a function that can fail on any worker. If it fails on one, fail on all.

    Raises:
        CollectiveError: on all workers, with the message of the lowest rank with a UserError.
    """
    result: list[T] = []
    fault: str | None = None
    try:
        result.append(do())
    except UserError as error:
        fault = str(error)
    faults = [fault for fault in comm.allgather(fault) if fault is not None]
    if faults:
        raise CollectiveError(faults[0])
    return result[0]


def on_root(comm: MPI.Comm, do: Callable[[], T]) -> T:
    """Call a function on rank 0 and return its result on all ranks. If it fails, fail on all.

    Raises:
        CollectiveError: on all workers, with the message of the UserError on rank 0.
    """
    return comm.bcast(agree(comm, lambda: do() if comm.rank == 0 else None))  # type: ignore[no-any-return]


@contextmanager
def job(world: MPI.Comm | None = None) -> Iterator[MPI.Comm]:
    """Run the body of a job. If it fails on one rank, the job ends on all ranks.

    Rank 0 prints an error that all workers share, in one line. Any other error ends the job at
    once. If several ranks fail, the lowest of them has time to print its error.

    Args:
        world: communicator of the workers; by default all ranks of the job. Then the launcher and
            the MPI library must belong together.

    Yields:
        The communicator of the workers.

    Examples:
        >>> with job() as world:
        ...     world.size
        1
    """
    if world is None:
        try:
            world = launcher.start()
        except UserError as error:
            if launcher.rank() == 0:
                warn(f"gtcbmuf: {error}")
            raise SystemExit(error.status) from None
    try:
        yield world
    except CollectiveError as error:
        if world.rank == 0:
            warn(f"gtcbmuf: {error}")
        sys.exit(error.status)
    except KeyboardInterrupt:
        world.Abort(130)
    except SystemExit as error:
        if not error.code or world.size == 1:
            raise
        status = error.code
        if not isinstance(status, int):
            warn(str(status))
            launcher.wait_until_read()
            status = 1
        world.Abort(status)
    except UserError as error:
        _wait_for_lower_ranks(world.rank)
        warn(f"gtcbmuf: {error}")
        launcher.wait_until_read()
        world.Abort(error.status)
    except BaseException as error:
        if isinstance(error, BrokenPipeError | StdoutError) and world.size == 1:
            raise  # the reader of the output, such as `head`, has seen enough, or the disk is full
        _wait_for_lower_ranks(world.rank)
        warn(f"gtcbmuf: rank {world.rank} of {world.size} failed:\n{traceback.format_exc()}")
        launcher.wait_until_read()
        world.Abort(1)


class ReplicaError(CollectiveError):
    """Workers that must hold the same bits hold different ones."""

    status = 1


def check_replicas(
    comm: MPI.Comm, vector: Vector, what: str, group_size: int | None = None
) -> None:
    """Compare the replicas of all workers by their hashes; collective.

    Args:
        comm: communicator of the workers.
        vector: this worker's replica.
        what: name of the replicas, for the message.
        group_size: number of consecutive ranks whose replicas must be equal; by default all ranks.

    Raises:
        ReplicaError: on all workers of `comm`, if replicas differ. It names the ranks that differ
            from the first rank of their group.
    """
    digests = comm.allgather(hashlib.sha256(vector.data).digest())
    size = group_size or comm.size
    ranks = [rank for rank, digest in enumerate(digests) if digest != digests[rank // size * size]]
    if ranks:
        first = "rank 0" if size == comm.size else "the first rank of their group"
        raise ReplicaError(
            f"{what}: the replicas of ranks {ranks} of {comm.size} differ from that of {first}"
        )


def _wait_for_lower_ranks(rank: int) -> None:
    time.sleep(_HEAD_START + _PRECEDENCE * rank if rank else 0)
