"""The topology of the workers: groups and hosts."""

import operator
from collections.abc import Callable, Sequence

from mpi4py import MPI

from gtcbmuf.base import jit
from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.kernel_cache import take_fault
from gtcbmuf.base.output import warn
from gtcbmuf.base.tables import markdown
from gtcbmuf.mpi.hosts import host_of_rank
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.shared_memory import free, hosts_with_shared_memory, set_hosts


class Topology:
    """Groups of consecutive ranks, and the hosts of all ranks.

    The constructor compiles the kernels. One rank of each host compiles before the others, so that
    Numba's cache has one writer.

    Args:
        world: communicator of all N workers. The topology duplicates it, so that its messages never
            meet messages of the caller.
        group_size: number of workers per group, M, which must divide N.
        hosts: host of each rank; by default, the ranks that share memory are on one host. Sums are
            computed on every host first, then between the hosts. Their bits are always the same.

    Attributes:
        world: the duplicate, with N workers.
        group: communicator of this worker's group, with M workers.
        groups: number of groups, G.

    Raises:
        ValueError: the group size is no integer that divides the number of workers, or there is not
            one host for each rank.

    Examples:
        >>> topology = Topology(MPI.COMM_SELF, group_size=1)
        >>> topology.group.size, topology.groups
        (1, 1)
        >>> topology.free()
    """

    def __init__(
        self, world: MPI.Comm, group_size: int, hosts: Sequence[str] | None = None
    ) -> None:
        if isinstance(group_size, bool) or not hasattr(group_size, "__index__"):
            raise ValueError(f"group size {group_size!r}: expected an integer")
        group_size = operator.index(group_size)  # also NumPy's integers
        if group_size < 1 or world.size % group_size:
            raise ValueError(f"group size {group_size} does not divide {world.size} workers")
        if hosts is not None and len(hosts) != world.size:
            raise ValueError(f"{len(hosts)} hosts for {world.size} workers; expected one for each")
        self.world = world.Dup()
        compile_in_turn(self.world)
        if hosts is not None:
            set_hosts(self.world, hosts)
        hosts, first = hosts_with_shared_memory(self.world), world.rank // group_size * group_size
        self.group = self.world.Split(first, self.world.rank)
        set_hosts(self.group, hosts[first : first + group_size])
        self.groups = world.size // group_size

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
        for comm in (self.group, self.world):
            free(comm)


def describe_groups(hosts: Sequence[str], group_size: int) -> str:
    """Format a table of the groups with their workers and hosts.

    Args:
        hosts: host of each rank.
        group_size: number of workers per group, M.

    Examples:
        >>> print(describe_groups(["a", "a", "b", "b"], group_size=2))
        workers: 4; hosts: 2; groups: 2 of 2
        <BLANKLINE>
        | group | workers |
        | ----- | ------: |
        | 0     |  a: 0-1 |
        | 1     |  b: 2-3 |
    """
    rows: list[list[str]] = []
    spanning = 0
    for first in range(0, len(hosts), group_size):
        ranks_of_host: dict[str, list[int]] = {}
        for rank in range(first, first + group_size):
            ranks_of_host.setdefault(hosts[rank], []).append(rank)
        spanning += len(ranks_of_host) > 1
        cells = (f"{host}: {_format_ranks(ranks)}" for host, ranks in ranks_of_host.items())
        rows.append([str(len(rows)), ", ".join(cells)])
    text = (
        f"workers: {len(hosts)}; hosts: {len(set(hosts))}; groups: {len(rows)} of {group_size}\n\n"
        + markdown(["group", "workers"], rows)
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
