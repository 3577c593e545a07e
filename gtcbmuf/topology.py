"""The world of workers: who is in which group, who leads, and what they agree on.

The only module that splits communicators. It needs `mpi4py` and whatever MPI it was started with.
"""

import hashlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf import launcher
from gtcbmuf.errors import UserError
from gtcbmuf.tables import markdown

#: Seconds that a rank leaves each lower one to end the job.
_PRECEDENCE = 0.02

T = TypeVar("T")
Vector = NDArray[np.float32]


class Topology:
    """Groups of consecutive ranks, and the communicators across them.

    Args:
        world: all N workers; it is duplicated, so that no message of ours meets one of yours.
        group_size: M, which must divide N.

    Attributes:
        world: (N workers) the duplicate.
        group: (M workers) this worker's group.
        peers: (G = N / M workers) those with the same rank in every group; the leaders are the
            peers with rank 0.
        groups: G.
    """

    def __init__(self, world: MPI.Comm, group_size: int) -> None:
        if group_size < 1 or world.size % group_size:
            raise ValueError(f"group size {group_size} does not divide {world.size} workers")
        self.world = world.Dup()
        self.group = self.world.Split(self.world.rank // group_size, self.world.rank)
        self.groups = world.size // group_size
        self.peers = self.world.Split(self.group.rank, self.world.rank)

    def broadcast(self, vector: Vector) -> None:
        """Give every worker the bits of world rank 0, and make sure that they arrived; collective.

        Raises:
            ReplicaError: they did not.
        """
        self.world.Bcast(vector)
        check_replicas(self.world, vector, "initial model")

    def free(self) -> None:
        """Give the communicators back; collective."""
        for comm in (self.peers, self.group, self.world):
            comm.Free()


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
def job(world: MPI.Comm) -> Iterator[None]:
    """Run a job's body so that it ends on all ranks, whatever happens on one.

    An error that all workers share is told by rank 0 in one line; any other ends the job at once,
    and where several ranks have one, the lowest of them has the time to tell of its own.
    """
    try:
        yield
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


def host_of_rank(world: MPI.Comm) -> list[str]:
    """The name of each rank's host; collective."""
    return world.allgather(MPI.Get_processor_name())


def cores_of_hosts(world: MPI.Comm, hosts: Sequence[str]) -> dict[str, int]:
    """Of each host, how many cores its ranks together may run on; collective.

    Each rank by itself may be bound to one of them. `hosts` are those of each rank.
    """
    cores: dict[str, set[int]] = {}
    for host, allowed in zip(hosts, world.allgather(os.sched_getaffinity(0)), strict=True):
        cores.setdefault(host, set()).update(allowed)
    return {host: len(its) for host, its in cores.items()}


def by_host(world: MPI.Comm, hosts: Sequence[str]) -> MPI.Comm:
    """The same workers, numbered so that those of a host follow each other; collective.

    Rank 0 stays so, and so does the order of a host's ranks. `hosts` are those of each rank.
    """
    order = sorted(range(world.size), key=lambda rank: (hosts.index(hosts[rank]), rank))
    return world.Split(0, order.index(world.rank))


def describe(hosts: Sequence[str], group_size: int) -> str:
    """Which workers form which group, on which hosts: a table.

    Args:
        hosts: of each rank.
        group_size: M.
    """
    rows: list[list[str]] = []
    spanning = 0
    for first in range(0, len(hosts), group_size):
        ranks: dict[str, list[int]] = {}
        for rank in range(first, first + group_size):
            ranks.setdefault(hosts[rank], []).append(rank)
        spanning += len(ranks) > 1
        cells = (f"{host}: {_numbers(some)}" for host, some in ranks.items())
        rows.append([str(len(rows)), str(first), ", ".join(cells)])
    text = (
        f"workers: {len(hosts)}; hosts: {len(set(hosts))}; groups: {len(rows)} of {group_size}\n\n"
        + markdown(["group", "leader", "workers"], rows)
    )
    if spanning:
        text += (
            f"\n\n{spanning} of {len(rows)} groups span hosts: their gradients cross the network "
            'at every step; topology.group_size = "node" makes each host a group'
        )
    return text


def _numbers(ranks: Sequence[int]) -> str:
    """In few characters: 0-7, or 0 2 4 6."""
    if len(ranks) > 1 and ranks[-1] - ranks[0] == len(ranks) - 1:
        return f"{ranks[0]}-{ranks[-1]}"
    return " ".join(map(str, ranks))


def is_first_of_host(world: MPI.Comm) -> bool:
    """Whether no lower rank shares this one's host; collective."""
    host = world.Split_type(MPI.COMM_TYPE_SHARED, world.rank)
    first: bool = host.rank == 0
    host.Free()
    return first


def in_turn(world: MPI.Comm, do: Callable[[], None]) -> None:
    """Do something on rank 0, then on one rank of every host, then on all the others.

    For what fills a cache that is not safe for several writers: whether hosts share its folder
    or not, each host's processors have one writer.
    """
    first = is_first_of_host(world)
    turns = 0 if world.rank == 0 else 1 if first else 2
    for turn in range(3):
        if turn == turns:
            do()
        world.Barrier()


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
