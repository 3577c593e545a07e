"""A job of many ranks that ends on all of them, and what its ranks agree on."""

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
from gtcbmuf.mpi import launcher

#: Seconds that a rank leaves each lower one to end the job.
_PRECEDENCE = 0.02
T = TypeVar("T")


class CollectiveError(Exception):
    """An error that every worker raises alike, so that one of them can tell of it.

    Attributes:
        status: what the job ends with.
    """

    status = 2


def agree(comm: MPI.Comm, do: Callable[[], T]) -> T:
    """Do something that can fail on any worker; if it did on one, fail on all.

    Raises:
        CollectiveError: on all workers, with the words of the lowest rank that had a UserError.
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
    """Do something on rank 0 and give everyone the result; if it failed, fail on all.

    Raises:
        CollectiveError: on all workers, with the words of the UserError on rank 0.
    """
    return comm.bcast(agree(comm, lambda: do() if comm.rank == 0 else None))  # type: ignore[no-any-return]


@contextmanager
def job(world: MPI.Comm | None = None) -> Iterator[MPI.Comm]:
    """Run a job's body so that it ends on all ranks, whatever happens on one.

    An error that all workers share is printed by rank 0 in one line. Any other ends the job at
    once, and where several ranks have one, the lowest of them has the time to print its own.

    Args:
        world: the workers; by default all ranks of the job, whose launcher and MPI library must
            belong together.

    Yields:
        The workers.

    Example:
        >>> with job() as world:
        ...     world.size
        1
    """
    if world is None:
        try:
            world = launcher.start()
        except UserError as error:
            if launcher.rank() == 0:
                print(f"gtcbmuf: {error}", file=sys.stderr, flush=True)
            raise SystemExit(error.status) from None
    try:
        yield world
    except CollectiveError as error:
        if world.rank == 0:
            print(f"gtcbmuf: {error}", file=sys.stderr, flush=True)
        sys.exit(error.status)
    except KeyboardInterrupt:
        world.Abort(130)
    except UserError as error:
        time.sleep(_PRECEDENCE * world.rank)
        print(f"gtcbmuf: {error}", file=sys.stderr, flush=True)
        launcher.wait_until_read()
        world.Abort(error.status)
    except BaseException as error:
        if isinstance(error, BrokenPipeError) and world.size == 1:
            raise  # whoever read what this prints has seen enough
        time.sleep(_PRECEDENCE * world.rank)
        print(f"gtcbmuf: rank {world.rank} of {world.size} failed:", file=sys.stderr)
        traceback.print_exc()
        sys.stderr.flush()
        launcher.wait_until_read()
        world.Abort(1)


class ReplicaError(CollectiveError):
    """Workers that must hold the same bits do not."""

    status = 1


def check_replicas(
    comm: MPI.Comm, vector: Vector, what: str, group_size: int | None = None
) -> None:
    """Compare a hash of every worker's vector; collective.

    Args:
        comm: the workers.
        vector: this one's.
        what: the replicas that they hold.
        group_size: of consecutive ranks that must be equal; by default all.

    Raises:
        ReplicaError: on all workers of comm, naming the ranks that differ from the first of their
            group.
    """
    digests = comm.allgather(hashlib.sha256(vector.data).digest())
    size = group_size or comm.size
    differ = [rank for rank, digest in enumerate(digests) if digest != digests[rank // size * size]]
    if differ:
        first = "rank 0" if size == comm.size else f"the first of their {size}"
        raise ReplicaError(
            f"{what}: the replicas of ranks {differ} of {comm.size} differ from that of {first}"
        )
