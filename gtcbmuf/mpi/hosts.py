"""The hosts of the ranks: their names, their cores, and ranks in their order."""

import os
from collections import Counter
from collections.abc import Sequence

from mpi4py import MPI


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
