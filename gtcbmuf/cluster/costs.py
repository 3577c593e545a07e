"""A model of the time of a step, from the profile of a machine and its network. No MPI here.

    step = compute * (1 + stragglers) + encode + exchange + decode + filter / K

`gtcbmuf.cluster.traffic` models the collectives. Workers fill the hosts in rank order.
All times are seconds of one worker. Sizes are in bytes.
"""

import math
from dataclasses import astuple, dataclass, field, replace
from statistics import NormalDist

from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.cluster.placement import core_sharers, group_placement
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
#: Seconds that a barrier of a crowded host takes for each rank on a core: the rank falls asleep and
#: is woken up. Measured with 32 ranks on 2 cores (`gtcbmuf.mpi.host_barrier`).
WAKING = 12e-6


@dataclass(frozen=True)
class Method:
    """A method at a number of workers, with its settings.

    Attributes:
        workers: number of workers, N.
        group_size: workers in a group, M. It divides N.
        exchange: exchange within a group. A compressing exchange has a density.
        block_filter: block filter across the groups.
        optimizer_passes: passes over the model that the optimiser adds to those of plain SGD.

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
    optimizer_passes: int = 0

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
    """The parts of a step's time, in seconds.

    `exchange` includes the additions and the coding of its sums, and `filter` everything at a
    block's end, divided by the K steps of the block.
    """

    compute: float
    stragglers: float
    encode: float
    exchange: float
    decode: float
    filter: float

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


def work_seconds(work: Work, compute: Compute, n: int) -> float:
    """Compute the seconds of some work on a model of n parameters, with a core of its own."""
    return sum(amount * compute.cost(name, n) for name, amount in work.items())


def barrier_seconds(network: Network, ranks: float, crowding: int) -> float:
    """Compute the seconds of a barrier.

    Args:
        network: network of the cluster.
        ranks: its ranks, on one host.
        crowding: ranks that take turns on a core of the host. If there are several, a waiting rank
            sleeps.
    """
    if ranks <= 1:
        return 0.0
    if crowding > 1:
        return crowding * WAKING
    return math.ceil(math.log2(ranks)) * network.latency_within


def step_time(
    compute: Compute, network: Network, method: Method, *, shapes: Shapes, minibatch: int
) -> StepTime:
    """Model the expected time of a step, by parts.

    Args:
        compute: compute costs of a worker of the cluster.
        network: network of the cluster.
        method: the training method.
        shapes: shapes of the model's arrays.
        minibatch: frames per worker and step.

    Returns:
        Seconds of each part. The time of a block's end is divided by the K steps of the block.

    Examples:
        >>> from gtcbmuf.methods.dense import DenseSpec
        >>> compute = Compute(*12 * [1e-9], *11 * [(1e-10, 1e-9)])
        >>> network = Network(1e-6, 2e-5, 5e9, 1e9, workers_per_host=4, cores_per_host=4)
        >>> sizes = {"shapes": [(1000, 1000)], "minibatch": 128}
        >>> one = step_time(compute, network, Method(1, 1), **sizes)
        >>> eight = step_time(compute, network, Method(8, 8, DenseSpec()), **sizes)
        >>> one.exchange == 0 < eight.exchange
        True
    """
    n, group_size = count_parameters(shapes), method.group_size
    per_host = network.workers_per_host
    exchange, block_filter = method.exchange, method.block_filter
    crowding = core_sharers(network, method.workers)

    compute_time = compute.step + minibatch * (compute.frame + n * compute.frame_parameter)
    compute_time = crowding * (compute_time + n * compute.parameter)
    straggler_time = compute_time * straggler_delay(group_size, compute.deviation)

    def waiting(traffic: Traffic, ranks: float) -> float:
        barriers = traffic.barriers * barrier_seconds(network, ranks, crowding)
        return traffic.seconds(network) + barriers

    def working(work: Work, size: int = n) -> float:
        return crowding * work_seconds(work, compute, size)

    group, _ = _group(method, per_host)
    group_traffic = exchange_traffic(method, shapes, per_host)
    exchange_time = waiting(group_traffic, group.per_host) + working(group_traffic.work)
    if exchange.overlaps:
        exchange_time = not_hidden(exchange_time + group_traffic.rounds * POLL_DELAY, compute_time)

    encode_time = working(exchange.encoding(shapes))
    decode_time = working(exchange.adding(shapes, group_size))
    decode_time += working({"dense_parameter": method.optimizer_passes * n})

    # The groups wait for each other once per block. K steps deviate by sqrt(K) times as much.
    group_wait = compute_time * straggler_delay(method.groups, compute.deviation)
    group_wait *= math.sqrt(block_filter.period) if block_filter.connects else 0.0
    world, traffic = _world(method, per_host), block_traffic(method, n, per_host)
    block_wait = waiting(traffic, world.per_host)
    if block_filter.late_steps and group_wait + block_wait:
        step = compute_time + straggler_time + encode_time + exchange_time + decode_time
        hidden = min(1.0, block_filter.late_steps * step / (group_wait + block_wait))
        group_wait, block_wait = (1 - hidden) * group_wait, (1 - hidden) * block_wait
    slice_length = math.ceil(n / world.sharers)
    filter_time = (
        working(block_filter.encoding(n, group_size))
        + block_wait
        + working(traffic.work)
        + working(block_filter.filtering(slice_length), slice_length)
        + working(block_filter.adding(n))
    )
    return StepTime(
        compute=compute_time,
        stragglers=straggler_time + group_wait / block_filter.period,
        encode=encode_time,
        exchange=exchange_time,
        decode=decode_time,
        filter=filter_time / block_filter.period,
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


def exchange_traffic(method: Method, shapes: Shapes, per_host: int) -> Traffic:
    """Model the traffic of a group's exchange in a step.

    Args:
        method: the training method.
        shapes: shapes of the model's arrays.
        per_host: workers on a full host.
    """
    group, link_sharers = _group(method, per_host)
    slices = SLICES if method.exchange.overlaps else 1
    if method.exchange.overlaps:
        shapes = [(max(count_parameters(shapes) // slices, 1),)]
    sent = method.exchange.sent(shapes)
    traffic = collective_traffic(sent, group, method.group_size)
    return replace(traffic, link_bytes=link_sharers * traffic.link_bytes).times(slices)


def block_traffic(method: Method, n: int, per_host: int) -> Traffic:
    """Model the traffic of all workers at a block's end.

    Args:
        method: the training method.
        n: parameters of the model.
        per_host: workers on a full host.
    """
    sent = method.block_filter.sent(n)
    return collective_traffic(sent, _world(method, per_host), method.groups)


def link_bytes(method: Method, shapes: Shapes, per_host: int) -> float:
    """Model the bytes per step that leave a host by its link, averaged over a block.

    Args:
        method, shapes, per_host: as in `exchange_traffic`.
    """
    at_block_end = block_traffic(method, count_parameters(shapes), per_host).link_bytes
    in_step = exchange_traffic(method, shapes, per_host).link_bytes
    return in_step + at_block_end / method.block_filter.period


def _group(method: Method, per_host: int) -> tuple[Span, int]:
    """Find the group on the most hosts, and the number of groups that share a host's link."""
    return group_placement(method.groups, method.group_size, per_host)


def _world(method: Method, per_host: int) -> Span:
    """Place all workers on the hosts."""
    return group_placement(1, method.workers, per_host)[0]
