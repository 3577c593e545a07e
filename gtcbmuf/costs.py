"""What a step costs: a model of its time, from what a machine and its network can do. No MPI here.

    step = compute * (1 + stragglers) + encode + exchange + decode + (filter + broadcast) / K

Messages cost what Hockney (1994) says: a latency, and their bytes over the bandwidth. What MPI's
collectives send, and in how many messages one after the other, follows Thakur, Rabenseifner and
Gropp, "Optimization of collective communication operations in MPICH" (2005), here TRG. Ranks of a
host share its link; a link carries as much both ways at once.

All times are in seconds, sizes in bytes, bandwidths in bytes a second, and of one worker.
"""

import math
from dataclasses import astuple, dataclass
from statistics import NormalDist

from gtcbmuf import wire
from gtcbmuf.cluster import Compute, Network

#: Bytes of all messages together from which MPICH's allgather is a ring (TRG section 4.1).
_RING = 512 << 10
_FLOAT = 4


@dataclass(frozen=True)
class Method:
    """How it is trained.

    Attributes:
        workers: N.
        group_size: M, which divides N.
        density: of what a worker sends in its group; None if it sends all of it, as floats.
        period: K steps of a block; None without a block filter.
        sharded: every worker of a group is the leader for a part of the model.
        overlap: the group exchanges gradients while the backward pass goes on.
    """

    workers: int
    group_size: int
    density: float | None = None
    period: int | None = None
    sharded: bool = False
    overlap: bool = False


@dataclass(frozen=True)
class StepTime:
    """The parts of a step's time; `sum` of them is the step."""

    compute: float
    stragglers: float
    encode: float
    exchange: float
    decode: float
    filter: float
    broadcast: float

    @property
    def sum(self) -> float:
        """The whole step."""
        return float(sum(astuple(self)))


@dataclass(frozen=True)
class Span:
    """Ranks that communicate.

    Attributes:
        ranks: all of them.
        hosts: that they are on, evenly.
    """

    ranks: int
    hosts: int

    @property
    def per_host(self) -> float:
        """Ranks of a host."""
        return self.ranks / self.hosts


@dataclass(frozen=True)
class Traffic:
    """What a collective moves.

    Attributes:
        messages_within, messages_across: one after the other, within a host, and between two.
        copied: bytes that a rank of a host gets from others.
        sent: bytes that leave a host by its link.
    """

    messages_within: float
    copied: float
    messages_across: float
    sent: float

    def seconds(self, network: Network) -> float:
        """The time it takes."""
        within = self.messages_within * network.latency_within
        across = self.messages_across * network.latency_across
        copies = self.copied / network.bandwidth_within
        return within + copies + across + self.sent / network.bandwidth_across


_NOTHING = Traffic(0, 0, 0, 0)


def message_bytes(n: int, density: float) -> float:
    """Expected bytes of a message; see `gtcbmuf.wire` for its forms.

    A gap's quotient by 2^k has the mean q / (1 - q) with q = (1 - density)^(2^k), and takes that
    many bits and one; the field beside it k + 1 (Golomb 1966).
    """
    header = 4.0 * wire.HEADER
    if density == 0:
        return header
    if density > 1 / 16:
        return header + n / 4
    k = wire.rice_parameter(n, round(n * density))
    q: float = (1 - density) ** (2**k)
    return header + n * density * (k + 2 + q / (1 - q)) / 8


def slowest(ranks: int, deviation: float) -> float:
    """How much longer the slowest takes than the mean, as a share of the mean.

    The expected maximum of N standard normals, after Blom (1958): the quantile at
    (N - 3/8) / (N + 1/4).
    """
    if ranks == 1:
        return 0.0
    return deviation * NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))


def allgather(span: Span, size: float) -> Traffic:
    """Every rank gets `size` bytes of each.

    Recursive doubling, in log2 p messages one after the other, and from 512 kB in all on a ring, in
    p - 1 (TRG section 4.1). In a ring one rank of a host sends to another host, (p - 1) size in
    all; in recursive doubling every rank does, what its own host has by then, until each has what
    the other hosts began with.
    """
    p, hosts, per_host = span.ranks, span.hosts, span.per_host
    if p * size > _RING and hosts > 1:
        return Traffic(0, (p - 1) * size, p - 1, (p - 1) * size)
    sent = per_host * (p - per_host) * size
    messages = p - 1 if p * size > _RING else math.log2(per_host)
    return Traffic(messages, (p - 1) * size, math.log2(hosts), sent)


def allreduce(span: Span, size: float) -> Traffic:
    """Every rank gets the sum of `size` bytes of each.

    Rabenseifner's, between one rank of each host: 2 log2 h messages, 2 (h - 1)/h size; hosts beyond
    a power of two first give all they have to one of the others, and get the sum at the end (TRG
    section 4.5). Before it the ranks of a host are summed, and after it told, in the same way.
    """
    hosts, per_host = span.hosts, span.per_host
    most = 2 ** (hosts.bit_length() - 1)
    beyond = 2 if hosts > most else 0
    return Traffic(
        2 * math.log2(per_host),
        4 * (per_host - 1) / per_host * size,
        2 * math.log2(most) + beyond,
        (2 * (most - 1) / most + beyond) * size,
    )


def broadcast(span: Span, size: float) -> Traffic:
    """One rank gives `size` bytes to all.

    Scatter and ring between hosts, log2 h + h - 1 messages, 2 (h - 1)/h size (TRG section 4.3), and
    within each a copy.
    """
    hosts, per_host = span.hosts, span.per_host
    copied = size if per_host > 1 else 0.0
    messages = math.log2(hosts) + hosts - 1
    return Traffic(math.log2(per_host), copied, messages, 2 * (hosts - 1) / hosts * size)


def rank_order_sum(span: Span, size: float) -> Traffic:
    """Every rank gets the sum, added in rank order (`gtcbmuf.collectives.RankOrderSum`).

    First every rank sends each other its part, so that per_host (p - per_host)/p of `size` leave a
    host; then the sums of the parts go round in a ring, of which (p - 1)/p leave it.
    """
    p, hosts, per_host = span.ranks, span.hosts, span.per_host
    sent = (per_host * (p - per_host) + p - 1) / p * size if hosts > 1 else 0.0
    copied = 2 * (p - 1) / p * size
    return Traffic(2 * (per_host - 1), copied, 2 * (p - per_host), sent)


def step_time(
    compute: Compute, network: Network, method: Method, *, parameters: int, minibatch: int
) -> StepTime:
    """The expected time of a step, by parts.

    Args:
        compute, network: the cluster.
        method: how it trains.
        parameters: n of the model.
        minibatch: frames of a worker in a step.
    """
    n = parameters
    workers, groups = method.workers, method.workers // method.group_size
    hosts = -(-workers // network.workers_per_host)
    crowding = max(1.0, workers / hosts / network.cores_per_host)

    alone = compute.step + minibatch * (compute.frame + n * compute.frame_parameter)
    alone = crowding * (alone + n * compute.parameter)
    stragglers = alone * slowest(method.group_size, compute.deviation)
    if method.period:
        # The groups wait for each other once a block, whose deviation is sqrt(K) times a step's.
        stragglers += alone * slowest(groups, compute.deviation) / math.sqrt(method.period)

    encode = 0.0
    decode = crowding * n * compute.dense_parameter
    if method.density is not None:
        updates = n * method.density
        dense = method.density > 1 / 16
        encode = crowding * (n * compute.encode_parameter + updates * compute.encode_update)
        body = n * compute.decode_bits if dense else updates * compute.decode_update
        decode = crowding * method.group_size * (compute.decode_message + body)
    exchange = exchange_traffic(method, n, hosts).seconds(network)
    if method.overlap:
        exchange = not_hidden(exchange, alone)

    filtered = told = 0.0
    if method.period:
        leaders = method.group_size if method.sharded else 1
        own = groups * compute.sum_parameter + compute.filter_parameter
        summed, spread = block_traffic(method, n, hosts)
        filtered = summed.seconds(network) + crowding * n / groups / leaders * own
        filtered, told = filtered / method.period, spread.seconds(network) / method.period
    return StepTime(alone, stragglers, encode, exchange, decode, filtered, told)


def not_hidden(exchange: float, compute: float) -> float:
    """What is left to wait for of an exchange behind the backward pass.

    That is two thirds of the products; the slice of its last layer, an eighth, cannot hide.
    """
    return max(exchange - 2 / 3 * compute, exchange / 8)


def exchange_traffic(method: Method, n: int, hosts: int) -> Traffic:
    """What a group moves in a step, of n parameters, with its workers on so many hosts in all."""
    if method.group_size == 1:
        return _NOTHING
    if method.density is None:
        return allreduce(_group(method, hosts), n * _FLOAT)
    # Slots are an eighth larger than the largest message.
    return allgather(_group(method, hosts), 9 / 8 * message_bytes(n, method.density))


def block_traffic(method: Method, n: int, hosts: int) -> tuple[Traffic, Traffic]:
    """What the leaders move at a block's end, and then what a group does."""
    group, groups = _group(method, hosts), method.workers // method.group_size
    leaders, size = Span(groups, min(groups, hosts)), n * _FLOAT
    if method.sharded:
        # A host has group_size / group.hosts leaders of its group, each for its own slice.
        summed = rank_order_sum(leaders, size / group.hosts)
        spread = allgather(group, size / method.group_size)
    else:
        summed, spread = rank_order_sum(leaders, size), broadcast(group, size)
    return summed if groups > 1 else _NOTHING, spread if group.ranks > 1 else _NOTHING


def link_bytes(method: Method, n: int, hosts: int) -> float:
    """Bytes that leave a host by its link in a step, on average."""
    total = exchange_traffic(method, n, hosts).sent
    if method.period:
        total += sum(part.sent for part in block_traffic(method, n, hosts)) / method.period
    return total


def _group(method: Method, hosts: int) -> Span:
    """Of consecutive ranks: it spans as few hosts as it can."""
    return Span(method.group_size, -(-method.group_size * hosts // method.workers))
