"""The topology of the workers: groups, peers, leaders and hosts.

This is the only module that splits communicators.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence

from mpi4py import MPI

from gtcbmuf.base import jit
from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.kernel_cache import take_fault
from gtcbmuf.base.output import warn
from gtcbmuf.base.tables import markdown
from gtcbmuf.mpi.job import check_replicas


class Topology:
    """Groups of consecutive ranks, and the communicators across them.

    The constructor compiles the kernels. One rank of each host compiles before the others, so that
    Numba's cache has one writer.

    Args:
        world: communicator of all N workers. The topology duplicates it, so that its messages never
            meet messages of the caller.
        group_size: number of workers per group, M, which must divide N.

    Attributes:
        world: the duplicate, with N workers.
        group: communicator of this worker's group, with M workers.
        peers: communicator of the workers with this worker's rank in each group, with G = N / M
            workers. The leaders are the workers with rank 0 in their group.
        groups: number of groups, G.

    Raises:
        ValueError: the group size does not divide the number of workers.

    Examples:
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
        """Copy the vector of world rank 0 to every worker, and compare the copies; collective.

        Args:
            vector: (n,) float32, overwritten on all ranks except 0.

        Raises:
            ReplicaError: on all workers, if a copy differs.
        """
        self.world.Bcast(vector)
        check_replicas(self.world, vector, "initial model")

    def free(self) -> None:
        """Free the communicators; collective."""
        for comm in (self.peers, self.group, self.world):
            comm.Free()


def host_of_rank(world: MPI.Comm) -> list[str]:
    """Return the name of each rank's host, in rank order; collective.

    Ranks are on one host if they share memory and the name of their host. So two nodes that are
    both called "localhost" are two hosts. `name_hosts` numbers them.
    """
    shared = world.Split_type(MPI.COMM_TYPE_SHARED, world.rank)
    host = (MPI.Get_processor_name(), shared.bcast(world.rank))
    shared.Free()
    return name_hosts(world.allgather(host))


def name_hosts(hosts: Sequence[tuple[str, int]]) -> list[str]:
    """Number the hosts that have the name of another host.

    Args:
        hosts: name of each rank's host, and a number that ranks with shared memory have in common.

    Returns:
        A name for each rank. Ranks have the same name only if they have the same host.

    Examples:
        >>> name_hosts([("node1", 0), ("localhost", 1), ("localhost", 1), ("localhost", 3)])
        ['node1', 'localhost#1', 'localhost#1', 'localhost#2']
    """
    names = Counter(name for name, _ in dict.fromkeys(hosts))
    numbers: Counter[str] = Counter()
    unique: dict[tuple[str, int], str] = {}
    for name, memory in dict.fromkeys(hosts):
        numbers[name] += 1
        unique[name, memory] = name if names[name] == 1 else f"{name}#{numbers[name]}"
    return [unique[host] for host in hosts]


def cores_of_hosts(world: MPI.Comm, hosts: Sequence[str]) -> dict[str, int]:
    """Count the cores on which the ranks of each host may run; collective.

    A launcher may bind each rank to one core. So the function joins the core sets of all ranks of a
    host.

    Args:
        world: all ranks.
        hosts: host of each rank.

    Returns:
        The number of cores of each host.
    """
    cores_of_host: dict[str, set[int]] = {}
    for host, affinity in zip(hosts, world.allgather(os.sched_getaffinity(0)), strict=True):
        cores_of_host.setdefault(host, set()).update(affinity)
    return {host: len(cores) for host, cores in cores_of_host.items()}


def by_host(world: MPI.Comm, hosts: Sequence[str]) -> MPI.Comm:
    """Renumber the workers so that the workers of a host have consecutive ranks; collective.

    Rank 0 remains rank 0. The ranks of a host keep their order.

    Args:
        world: all workers.
        hosts: host of each rank.

    Returns:
        A new communicator of the same workers.
    """
    order = sorted(range(world.size), key=lambda rank: (hosts.index(hosts[rank]), rank))
    return world.Split(0, order.index(world.rank))


def describe_groups(hosts: Sequence[str], group_size: int) -> str:
    """Format a table of the groups with their leaders, workers and hosts.

    Args:
        hosts: host of each rank.
        group_size: number of workers per group, M.

    Examples:
        >>> print(describe_groups(["a", "a", "b", "b"], group_size=2))
        workers: 4; hosts: 2; groups: 2 of 2
        <BLANKLINE>
        | group | leader | workers |
        | ----- | -----: | ------: |
        | 0     |      0 |  a: 0-1 |
        | 1     |      2 |  b: 2-3 |
    """
    rows: list[list[str]] = []
    spanning = 0
    for first in range(0, len(hosts), group_size):
        ranks_of_host: dict[str, list[int]] = {}
        for rank in range(first, first + group_size):
            ranks_of_host.setdefault(hosts[rank], []).append(rank)
        spanning += len(ranks_of_host) > 1
        cells = (f"{host}: {_format_ranks(ranks)}" for host, ranks in ranks_of_host.items())
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


def _format_ranks(ranks: Sequence[int]) -> str:
    """Format a short list of ranks, such as "0-7" or "0 2 4 6"."""
    if len(ranks) > 1 and ranks[-1] - ranks[0] == len(ranks) - 1:
        return f"{ranks[0]}-{ranks[-1]}"
    return " ".join(map(str, ranks))


def is_first_of_host(world: MPI.Comm) -> bool:
    """Return whether this rank is the lowest on its host; collective."""
    hosts = host_of_rank(world)
    return hosts.index(hosts[world.rank]) == world.rank


def compile_in_turn(world: MPI.Comm) -> None:
    """Compile the kernels of all imported modules, or load them from the cache; collective.

    Rank 0 prints a line if the cache of a rank cannot be used.
    """
    if not world.allreduce(jit.has_pending(), MPI.LOR):
        return
    in_turn(world, jit.compile_kernels)
    faults = world.gather((MPI.Get_processor_name(), take_fault())) or []
    lines = [f"{host}: {fault}" for host, fault in faults if fault]
    if lines:
        warn(lines[0])


def in_turn(world: MPI.Comm, do: Callable[[], None]) -> None:
    """Call a function on rank 0, then on one rank per other host, then on the rest; collective.

    Use it to fill a cache that is not safe for several writers. The cache has one writer per host,
    whether or not the hosts share its folder.

    Args:
        world: all ranks.
        do: function to call.
    """
    is_first = is_first_of_host(world)
    own_turn = 0 if world.rank == 0 else 1 if is_first else 2
    for turn in range(3):
        if turn == own_turn:
            do()
        world.Barrier()
