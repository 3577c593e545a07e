"""The world of workers: who is in which group, who leads, and what they agree on.

The only module that splits communicators. It needs `mpi4py` and whatever MPI it was started with.
"""

import os
from collections.abc import Callable, Sequence

from mpi4py import MPI

from gtcbmuf.base import jit
from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.tables import markdown
from gtcbmuf.mpi.job import check_replicas


class Topology:
    """Groups of consecutive ranks, and the communicators across them.

    Kernels are compiled on the way, one rank of a host before the others, so that Numba's cache
    has one writer.

    Args:
        world: all N workers; it is duplicated, so that no message of ours meets one of yours.
        group_size: M, which must divide N.

    Attributes:
        world: (N workers) the duplicate.
        group: (M workers) this worker's group.
        peers: (G = N / M workers) those with the same rank in every group; the leaders are the
            peers with rank 0.
        groups: G.

    Raises:
        ValueError: the group size is no divisor of the number of workers.

    Example:
        >>> topology = Topology(MPI.COMM_SELF, group_size=1)
        >>> topology.group.size, topology.groups
        (1, 1)
        >>> topology.free()
    """

    def __init__(self, world: MPI.Comm, group_size: int) -> None:
        if not isinstance(group_size, int) or group_size < 1 or world.size % group_size:
            raise ValueError(f"group size {group_size} does not divide {world.size} workers")
        self.world = world.Dup()
        compile_in_turn(self.world)
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


def describe_groups(hosts: Sequence[str], group_size: int) -> str:
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


def compile_in_turn(world: MPI.Comm) -> None:
    """Compile the kernels of the modules that are imported; collective."""
    if world.allreduce(jit.has_pending(), MPI.LOR):
        in_turn(world, jit.compile_kernels)


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
