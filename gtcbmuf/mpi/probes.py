"""Measures messages between ranks: latency and bandwidth."""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from mpi4py import MPI


def partners(hosts: Sequence[str]) -> tuple[list[int], list[int]]:
    """Whom rank 0 can measure with: a neighbour on its host, if any, and a rank of each other host.

    Args:
        hosts: of every rank.
    """
    firsts = [hosts.index(host) for host in dict.fromkeys(hosts)]
    return [rank for rank in range(1, len(hosts)) if hosts[rank] == hosts[0]][:1], firsts[1:]


def one_way(world: MPI.Comm, other: int, size: int, rounds: int) -> float:
    """Seconds that a message takes from rank 0 to another, the median; collective.

    Args:
        world: all ranks.
        other: rank that the message goes to, and comes back from.
        size: bytes.
        rounds: there and back.
    """
    message = np.zeros(size, np.uint8)

    def there_and_back() -> None:
        if world.rank == 0:
            world.Send(message, other)
            world.Recv(message, other)
        elif world.rank == other:
            world.Recv(message, 0)
            world.Send(message, 0)

    return _median_seconds(world, there_and_back, rounds) / 2


def both_ways(world: MPI.Comm, other: int, size: int, rounds: int) -> float:
    """Seconds in which rank 0 and another send each other a message at once; as `one_way`."""
    sent, received = np.zeros(size, np.uint8), np.empty(size, np.uint8)

    def exchange() -> None:
        if world.rank in (0, other):
            partner = other - world.rank
            world.Sendrecv(sent, partner, recvbuf=received, source=partner)

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
