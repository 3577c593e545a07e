"""Places of workers on hosts and cores. Workers fill the hosts in rank order. No MPI here."""

import math
from collections import Counter
from functools import cache

from gtcbmuf.cluster.profile import Network
from gtcbmuf.cluster.traffic import Span


def host_count(workers: int, per_host: int) -> int:
    """Compute the number of hosts for some workers, with `per_host` workers on a full host."""
    return -(-workers // per_host)


def group_sizes(workers: int) -> list[int]:
    """List the group sizes M that a hybrid of N workers can have, in ascending order.

    These are the divisors of N except 1 and N. Groups of 1 are bmuf, and one group of N is gtc.

    Examples:
        >>> group_sizes(12)
        [2, 3, 4, 6]
    """
    small = [m for m in range(2, math.isqrt(workers) + 1) if workers % m == 0]
    return sorted({*small, *(workers // m for m in small)})


def core_sharers(network: Network, workers: int) -> int:
    """Count the workers that take turns on a core, where the most do: a step waits for them.

    Args:
        network: network of the cluster.
        workers: number of workers, N.
    """
    on_full_host = min(workers, network.workers_per_host)
    return max(1, math.ceil(on_full_host / network.cores_per_host - 1e-9))


@cache
def group_placement(groups: int, m: int, per_host: int) -> tuple[Span, int]:
    """Place groups of consecutive ranks on the hosts.

    If neither m divides per_host nor per_host divides m, some groups straddle hosts. A host may
    then hold the end of one group and the start of the next.

    Args:
        groups: number of groups, G.
        m: workers in a group.
        per_host: workers on a full host.

    Returns:
        The group on the most hosts, with the fewest lanes of any; and the largest number of groups
        that share a host's link, at least 1.
    """
    widest, lanes, links = 1, m, Counter[int]()
    # The placement repeats after lcm(m, per_host) ranks.
    for group in range(min(groups, per_host // math.gcd(m, per_host))):
        first, last = group * m, group * m + m - 1
        first_host, last_host = first // per_host, last // per_host
        if last_host > first_host:
            widest = max(widest, last_host - first_host + 1)
            lanes = min(lanes, per_host - first % per_host, last % per_host + 1)
            links.update((first_host, last_host))
    return Span(m, widest, lanes), max(links.values(), default=1)
