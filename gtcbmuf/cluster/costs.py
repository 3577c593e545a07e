"""A model of the time of a step, from the profile of a machine and its network. No MPI here.

    step = compute * (1 + stragglers) + encode + exchange + decode + (filter + broadcast) / K

`gtcbmuf.cluster.traffic` models the collectives. Workers fill the hosts in rank order.
All times are seconds of one worker. Sizes are in bytes.
"""

import math
from collections import Counter
from dataclasses import astuple, dataclass, field, replace
from functools import cache
from statistics import NormalDist

from gtcbmuf.cluster.profile import Compute, Network
from gtcbmuf.cluster.traffic import Span, Traffic, collective_traffic
from gtcbmuf.config.schema import join_labels
from gtcbmuf.methods.declaration import ExchangeSpec, FilterSpec, Work
from gtcbmuf.methods.none import NoExchangeSpec, NoFilterSpec

#: Slices of an overlapped exchange. A plan knows no layers, so it assumes eight of equal size.
SLICES = 8
#: Mean seconds that a message waits behind the backward pass until its receiver polls MPI: half of
#: the pause between two polls (`gtcbmuf.mpi.collectives.PAUSE`).
POLL_DELAY = 0.00015


@dataclass(frozen=True)
class Method:
    """A method at a number of workers, with its settings.

    Attributes:
        workers: number of workers, N.
        group_size: workers in a group, M. It divides N.
        exchange: exchange within a group. A compressing exchange has a density.
        block_filter: block filter across the groups.

    Examples:
        >>> from gtcbmuf.methods.bmuf import BMUFSpec
        >>> from gtcbmuf.methods.gtc import GTCSpec
        >>> method = Method(32, 8, GTCSpec(density=0.001), BMUFSpec(period=50))
        >>> method.name, method.groups
        ('gtc-bmuf', 4)
    """

    workers: int
    group_size: int
    exchange: ExchangeSpec = field(default_factory=NoExchangeSpec)
    block_filter: FilterSpec = field(default_factory=NoFilterSpec)

    @property
    def groups(self) -> int:
        """Number of groups, G = N / M."""
        return self.workers // self.group_size

    @property
    def name(self) -> str:
        """Name of the method, such as "gtc-bmuf"."""
        return join_labels(self.exchange, self.block_filter)


@dataclass(frozen=True)
class StepTime:
    """The parts of a step's time, in seconds. `exchange` includes the additions of its sums."""

    compute: float
    stragglers: float
    encode: float
    exchange: float
    decode: float
    filter: float
    broadcast: float

    @property
    def sum(self) -> float:
        """Seconds of the whole step."""
        return float(sum(astuple(self)))


def straggler_delay(ranks: int, deviation: float) -> float:
    """Model the expected delay of the slowest rank, as a share of the mean time.

    The delay is the deviation times the expected maximum of N standard normal variables. Blom
    (1958) approximates that maximum by the quantile at (N - 3/8) / (N + 1/4).

    Args:
        ranks: number of ranks, N.
        deviation: standard deviation of a rank's time, as a share of the mean.
    """
    if ranks == 1:
        return 0.0
    return deviation * NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))


def work_seconds(work: Work, compute: Compute) -> float:
    """Compute the seconds of some work for a worker with a core of its own."""
    return sum(amount * float(getattr(compute, name)) for name, amount in work.items())


def step_time(
    compute: Compute, network: Network, method: Method, *, parameters: int, minibatch: int
) -> StepTime:
    """Model the expected time of a step, by parts.

    Args:
        compute: compute costs of a worker of the cluster.
        network: network of the cluster.
        method: the training method.
        parameters: parameters of the model, n.
        minibatch: frames per worker and step.

    Returns:
        Seconds of each part. The time of a block's end is divided by the K steps of the block.

    Examples:
        >>> from gtcbmuf.methods.dense import DenseSpec
        >>> costs = dict.fromkeys(Compute.__struct_fields__, 1e-9)
        >>> network = Network(1e-6, 2e-5, 5e9, 1e9, workers_per_host=4, cores_per_host=4)
        >>> sizes = {"parameters": 1_000_000, "minibatch": 128}
        >>> one = step_time(Compute(**costs), network, Method(1, 1), **sizes)
        >>> eight = step_time(Compute(**costs), network, Method(8, 8, DenseSpec()), **sizes)
        >>> one.exchange == 0 < eight.exchange
        True
    """
    n, group_size, per_host = parameters, method.group_size, network.workers_per_host
    exchange, block_filter = method.exchange, method.block_filter
    crowding = max(1.0, min(method.workers, per_host) / network.cores_per_host)

    compute_time = compute.step + minibatch * (compute.frame + n * compute.frame_parameter)
    compute_time = crowding * (compute_time + n * compute.parameter)
    straggler_time = compute_time * straggler_delay(group_size, compute.deviation)
    if block_filter.connects:
        # The groups wait for each other once per block. K steps deviate by sqrt(K) times as much.
        delay = compute_time * straggler_delay(method.groups, compute.deviation)
        straggler_time += delay / math.sqrt(block_filter.period)

    encode_time = crowding * work_seconds(exchange.encoding(n), compute)
    decode_time = crowding * work_seconds(exchange.adding(n, group_size), compute)

    def seconds(traffic: Traffic) -> float:
        return traffic.seconds(network) + crowding * traffic.additions * compute.sum_parameter

    group_traffic = exchange_traffic(method, n, per_host)
    exchange_time = seconds(group_traffic)
    if exchange.overlaps:
        exchange_time = not_hidden(exchange_time + group_traffic.rounds * POLL_DELAY, compute_time)

    leader_traffic, broadcast_traffic = block_traffic(method, n, per_host)
    leader_parameters = n / method.groups / block_filter.leaders(group_size)
    update = crowding * leader_parameters * work_seconds(block_filter.filtering(1), compute)
    filter_time = (seconds(leader_traffic) + update) / block_filter.period
    broadcast_time = seconds(broadcast_traffic) / block_filter.period
    return StepTime(
        compute_time,
        straggler_time,
        encode_time,
        exchange_time,
        decode_time,
        filter_time,
        broadcast_time,
    )


def not_hidden(exchange: float, compute: float) -> float:
    """Model the part of an overlapped exchange that the backward pass does not hide.

    The backward pass takes two thirds of the matrix products. It finishes the gradient in SLICES
    slices, from the last layer to the first. The slices are exchanged in that order. So a worker
    waits at least for the exchange of the last slice, which starts at the end of the pass. It waits
    longer if the exchanges take longer than the rest of the pass after the first slice.

    Args:
        exchange: seconds of the whole exchange.
        compute: seconds of the forward and the backward pass.

    Returns:
        Seconds that a worker waits after its backward pass.
    """
    return max(exchange - (1 - 1 / SLICES) * 2 / 3 * compute, exchange / SLICES)


def exchange_traffic(method: Method, n: int, per_host: int) -> Traffic:
    """Model the traffic of a group's exchange in a step.

    Args:
        method: the training method.
        n: parameters of the model.
        per_host: workers on a full host.
    """
    group, link_sharers = _group(method, per_host)
    slices = SLICES if method.exchange.overlaps else 1
    traffic = collective_traffic(method.exchange.sent(max(n // slices, 1)), group)
    return replace(traffic, link_bytes=link_sharers * traffic.link_bytes).times(slices)


def block_traffic(method: Method, n: int, per_host: int) -> tuple[Traffic, Traffic]:
    """Model the traffic at a block's end: first among the leaders, then within each group.

    Args:
        method, n, per_host: as in `exchange_traffic`.

    Returns:
        The traffic among the leaders, and the traffic within a group.
    """
    group, link_sharers = _group(method, per_host)
    block_filter, groups = method.block_filter, method.groups
    peers = Span(groups, min(groups, host_count(method.workers, per_host)))
    among_leaders = collective_traffic(block_filter.summed(n, method.group_size), peers)
    # A host's link carries the traffic of all leaders of a group on that host.
    leaders = min(block_filter.leaders(method.group_size), per_host)
    within_group = collective_traffic(block_filter.spread(n, method.group_size), group)
    return (
        replace(among_leaders, link_bytes=leaders * among_leaders.link_bytes),
        replace(within_group, link_bytes=link_sharers * within_group.link_bytes),
    )


def link_bytes(method: Method, n: int, per_host: int) -> float:
    """Model the bytes per step that leave a host by its link, averaged over a block.

    Args:
        method, n, per_host: as in `exchange_traffic`.
    """
    at_block_end = sum(part.link_bytes for part in block_traffic(method, n, per_host))
    in_step = exchange_traffic(method, n, per_host).link_bytes
    return in_step + at_block_end / method.block_filter.period


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


def _group(method: Method, per_host: int) -> tuple[Span, int]:
    """Find the group on the most hosts, and the number of groups that share a host's link."""
    m = method.group_size
    hosts, link_sharers = group_placement(method.workers // m, m, per_host)
    return Span(m, hosts), link_sharers


@cache
def group_placement(groups: int, m: int, per_host: int) -> tuple[int, int]:
    """Place groups of consecutive ranks on the hosts.

    If neither m divides per_host nor per_host divides m, some groups straddle hosts. A host may
    then hold the end of one group and the start of the next.

    Args:
        groups: number of groups, G.
        m: workers in a group.
        per_host: workers on a full host.

    Returns:
        Number of hosts of the widest group, and the largest number of groups that share a host's
        link. The latter is at least 1.
    """
    widest, links = 1, Counter[int]()
    # The placement repeats after lcm(m, per_host) ranks.
    for group in range(min(groups, per_host // math.gcd(m, per_host))):
        first, last = group * m // per_host, (group * m + m - 1) // per_host
        widest = max(widest, last - first + 1)
        if last > first:
            links.update((first, last))
    return widest, max(links.values(), default=1)
