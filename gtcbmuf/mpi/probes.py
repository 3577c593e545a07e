"""Probes of the network: the time of messages between two ranks."""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from mpi4py import MPI


def find_partners(hosts: Sequence[str]) -> tuple[list[int], list[int]]:
    """Find ranks with which rank 0 can exchange messages.

    Args:
        hosts: host of each rank.

    Returns:
        Two lists. The first holds another rank on rank 0's host, if one exists. The second holds
        the first rank of each other host.

    Examples:
        >>> find_partners(["a", "a", "a", "b", "c"])
        ([1], [3, 4])
    """
    firsts = [hosts.index(host) for host in dict.fromkeys(hosts)]
    return [rank for rank in range(1, len(hosts)) if hosts[rank] == hosts[0]][:1], firsts[1:]


def time_one_way(world: MPI.Comm, other: int, size: int, rounds: int) -> float:
    """Time a message from rank 0 to another rank; collective.

    Args:
        world: all ranks.
        other: rank that receives the message and sends it back.
        size: size of the message in bytes.
        rounds: number of round trips. The result is their median.

    Returns:
        Seconds in one direction, on every rank.
    """
    message = np.zeros(size, np.uint8)

    def round_trip() -> None:
        if world.rank == 0:
            world.Send(message, other)
            world.Recv(message, other)
        elif world.rank == other:
            world.Recv(message, 0)
            world.Send(message, 0)

    return _median_seconds(world, round_trip, rounds) / 2


def time_both_ways(world: MPI.Comm, other: int, size: int, rounds: int) -> float:
    """Time two messages between rank 0 and another rank, sent at the same time; collective.

    Args:
        world, other, size, rounds: as in `time_one_way`.

    Returns:
        Seconds until both messages have arrived, on every rank.
    """
    outgoing, incoming = np.zeros(size, np.uint8), np.empty(size, np.uint8)

    def exchange() -> None:
        if world.rank in (0, other):
            partner = other - world.rank
            world.Sendrecv(outgoing, partner, recvbuf=incoming, source=partner)

    return _median_seconds(world, exchange, rounds)


def _median_seconds(world: MPI.Comm, call: Callable[[], None], rounds: int) -> float:
    times = []
    world.Barrier()
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    median: float = world.bcast(statistics.median(times))
    return median
