"""What a step costs: a model of its time, from what a machine and its network can do. No MPI here.

    step = compute * (1 + stragglers) + encode + exchange + decode + (filter + broadcast) / K

Messages cost what Hockney (1994) says: a latency, and their bytes over the bandwidth. What MPI's
collectives send, and in how many messages one after the other, follows Thakur, Rabenseifner and
Gropp, "Optimization of collective communication operations in MPICH" (2005), here TRG: the model is
of MPICH's collectives. Ranks of a host share its link; a link carries as much both ways at once.
Hosts are filled with workers in rank order, one after the other.

All times are in seconds, sizes in bytes, bandwidths in bytes a second, and of one worker.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace
from functools import cache
from statistics import NormalDist

from gtcbmuf.cluster.profile import Compute, Network
from gtcbmuf.config.schema import join_labels
from gtcbmuf.methods.declaration import FLOAT, ExchangeSpec, FilterSpec, Sent, Work
from gtcbmuf.methods.none import NoExchangeSpec, NoFilterSpec

#: Bytes of all messages together from which MPICH's allgather is a ring: of any number of ranks,
#: and of one that is no power of two (TRG; MPIR_CVAR_ALLGATHER_LONG_MSG_SIZE and _SHORT_MSG_SIZE).
_LONG, _SHORT = 512 << 10, 80 << 10
#: Slices of one size that an overlapped exchange is cut into. Assumed, as a plan knows no layers: a
#: model of eight, each as large as the others.
SLICES = 8
#: Seconds that a received message waits for, on average, behind the backward pass: half of the
#: pause between two looks (`gtcbmuf.mpi.collectives.PAUSE`).
LOOK = 0.00015


@dataclass(frozen=True)
class Method:
    """How a model is trained.

    Attributes:
        workers: N.
        group_size: M, which divides N.
        exchange: in a group; one that compresses has a density.
        block_filter: across the groups.
    """

    workers: int
    group_size: int
    exchange: ExchangeSpec = field(default_factory=NoExchangeSpec)
    block_filter: FilterSpec = field(default_factory=NoFilterSpec)

    @property
    def groups(self) -> int:
        """G."""
        return self.workers // self.group_size

    @property
    def name(self) -> str:
        """Such as "gtc-bmuf"."""
        return join_labels(self.exchange, self.block_filter)


@dataclass(frozen=True)
class StepTime:
    """The parts of a step's time; `sum` of them is the step. To exchange is also to add up."""

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
        added: floats that a rank adds up.
        rounds: of messages, each sent only when those of the round before have come.
    """

    messages_within: float
    copied: float
    messages_across: float
    sent: float
    added: float = 0.0
    rounds: float = 0.0

    def times(self, number: float) -> "Traffic":
        """So many of it, one after the other."""
        return Traffic(*(number * part for part in astuple(self)))

    def seconds(self, network: Network) -> float:
        """The time it takes to move it."""
        within = self.messages_within * network.latency_within
        across = self.messages_across * network.latency_across
        copies = self.copied / network.bandwidth_within
        return within + copies + across + self.sent / network.bandwidth_across


_NOTHING = Traffic(0, 0, 0, 0)


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

    Short messages by recursive doubling where the number of ranks p is a power of two, else as
    Bruck et al. (1997) have it: log2 p messages one after the other, rounded up. Long ones on a
    ring, in p - 1 (TRG).

    In a ring one rank of a host sends to another host, (p - 1) size in all. In recursive doubling
    every rank does, what its own host has by then, until each has what the other hosts began with.
    In Bruck's round of distance d a rank sends the d blocks that it has, or those that are missing,
    to the d-th before it: of a host's ranks d do so to another host, but not more than there are.
    """
    p, hosts, per_host = span.ranks, span.hosts, span.per_host
    doubles, whole, copied = p & (p - 1) == 0, p * size, (p - 1) * size
    is_ring = whole >= _LONG or (whole >= _SHORT and not doubles)
    rounds = p - 1 if is_ring else _rounds(p)
    if hosts == 1:
        return Traffic(rounds, copied, 0, 0, rounds=rounds)
    within = 0.0
    if is_ring:
        sent = (p - 1) * size
    elif doubles:
        # Where hosts do not divide the ranks, some pair crosses in every round.
        within = math.log2(per_host) if p % hosts == 0 else 0.0
        sent = per_host * (p - per_host) * size
    else:
        distances = [2**number for number in range(rounds)]
        sent = size * sum(min(d, p - d, per_host) * min(d, p - d) for d in distances)
    return Traffic(within, copied, rounds - within, sent, rounds=rounds)


def allreduce(span: Span, size: float) -> Traffic:
    """Every rank gets the sum of `size` bytes of each.

    Rabenseifner's, between one rank of each host: 2 log2 h messages, 2 (h - 1)/h size, (h - 1)/h of
    it to add; hosts beyond a power of two first give all they have to one of the others, and get
    the sum at the end (TRG). Before it the ranks of a host are summed, and after it told, in the
    same way.
    """
    hosts, per_host = span.hosts, span.per_host
    most = 2 ** (hosts.bit_length() - 1)
    beyond = 1 if hosts > most else 0
    added = (per_host - 1) / per_host + (most - 1) / most + beyond
    return Traffic(
        2 * _rounds(per_host),
        4 * (per_host - 1) / per_host * size,
        2 * (math.log2(most) + beyond),
        2 * ((most - 1) / most + beyond) * size,
        added * size / FLOAT,
    )


def broadcast(span: Span, size: float) -> Traffic:
    """One rank gives `size` bytes to all.

    Scatter and ring between hosts, log2 h, rounded up, and h - 1 messages, 2 (h - 1)/h size (TRG),
    and within each a copy.
    """
    hosts, per_host = span.hosts, span.per_host
    copied = size if per_host > 1 else 0.0
    messages = _rounds(hosts) + hosts - 1
    return Traffic(_rounds(per_host), copied, messages, 2 * (hosts - 1) / hosts * size)


def _rounds(ranks: float) -> int:
    """log2, rounded up: as many rounds as it takes until what doubles in each is enough."""
    return math.ceil(math.log2(ranks))


def rank_order_sum(span: Span, size: float) -> Traffic:
    """Every rank gets the sum, added in rank order (`gtcbmuf.mpi.collectives.RankOrderSum`).

    First every rank sends each other its part, all at once, so that per_host (p - per_host)/p of
    `size` leave a host; then the sums of the parts go round in a ring, of which (p - 1)/p leave it.
    """
    p, hosts, per_host = span.ranks, span.hosts, span.per_host
    sent = (per_host * (p - per_host) + p - 1) / p * size if hosts > 1 else 0.0
    copied = 2 * (p - 1) / p * size
    across = 2 * (p - per_host)
    return Traffic(2 * (per_host - 1), copied, across, sent, size / FLOAT, rounds=p)


#: What the collectives that methods name move.
COLLECTIVES: dict[str, Callable[[Span, float], Traffic]] = {
    "allgather": allgather,
    "allreduce": allreduce,
    "rank order sum": rank_order_sum,
    "broadcast": broadcast,
    "nothing": lambda span, size: _NOTHING,
}


def price(sent: Sent, span: Span) -> Traffic:
    """What a collective moves among some ranks; nothing where there is one."""
    return COLLECTIVES[sent.collective](span, sent.bytes) if span.ranks > 1 else _NOTHING


def seconds_of(work: Work, compute: Compute) -> float:
    """What a worker on a core of its own needs for some work."""
    return sum(amount * float(getattr(compute, name)) for name, amount in work.items())


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
    n, group_size, per_host = parameters, method.group_size, network.workers_per_host
    spec, block_filter = method.exchange, method.block_filter
    crowding = max(1.0, min(method.workers, per_host) / network.cores_per_host)

    alone = compute.step + minibatch * (compute.frame + n * compute.frame_parameter)
    alone = crowding * (alone + n * compute.parameter)
    stragglers = alone * slowest(group_size, compute.deviation)
    if block_filter.connects:
        # The groups wait for each other once a block, whose deviation is sqrt(K) times a step's.
        waits = alone * slowest(method.groups, compute.deviation)
        stragglers += waits / math.sqrt(block_filter.period)

    encode = crowding * seconds_of(spec.encoding(n), compute)
    decode = crowding * seconds_of(spec.adding(n, group_size), compute)

    def seconds(traffic: Traffic) -> float:
        return traffic.seconds(network) + crowding * traffic.added * compute.sum_parameter

    gathered = exchange_traffic(method, n, per_host)
    exchange = seconds(gathered)
    if spec.overlaps:
        exchange = not_hidden(exchange + gathered.rounds * LOOK, alone)

    summed, spread = block_traffic(method, n, per_host)
    led = n / method.groups / block_filter.leaders(group_size)
    filtering = crowding * led * seconds_of(block_filter.filtering(1), compute)
    filtered = (seconds(summed) + filtering) / block_filter.period
    told = seconds(spread) / block_filter.period
    return StepTime(alone, stragglers, encode, exchange, decode, filtered, told)


def not_hidden(exchange: float, compute: float) -> float:
    """What is left to wait for of an exchange behind the backward pass.

    Of SLICES slices the gradient is final one after the other, the first layer's last, and they are
    exchanged one after the other. So at least one waits for the first slice's exchange, which
    begins when the backward pass ends; or else for what the slices' exchanges take beyond the pass
    from the end of its first slice on. The backward pass is two thirds of the matrix products.
    """
    return max(exchange - (1 - 1 / SLICES) * 2 / 3 * compute, exchange / SLICES)


def exchange_traffic(method: Method, n: int, per_host: int) -> Traffic:
    """What a group moves in a step.

    Args:
        method: how it trains.
        n: parameters.
        per_host: workers of a full host.
    """
    group, shared = _group(method, per_host)
    slices = SLICES if method.exchange.overlaps else 1
    traffic = price(method.exchange.sent(max(n // slices, 1)), group)
    return replace(traffic, sent=shared * traffic.sent).times(slices)


def block_traffic(method: Method, n: int, per_host: int) -> tuple[Traffic, Traffic]:
    """What the leaders move at a block's end, and then what a group does; as `exchange_traffic`."""
    group, shared = _group(method, per_host)
    block_filter, groups = method.block_filter, method.groups
    peers = Span(groups, min(groups, hosts_of(method.workers, per_host)))
    summed = price(block_filter.summed(n, method.group_size), peers)
    # A host's link carries what all leaders of a group there send.
    leaders = min(block_filter.leaders(method.group_size), per_host)
    spread = price(block_filter.spread(n, method.group_size), group)
    return replace(summed, sent=leaders * summed.sent), replace(spread, sent=shared * spread.sent)


def link_bytes(method: Method, n: int, per_host: int) -> float:
    """Bytes that leave a host by its link in a step, on average; as `exchange_traffic`."""
    at_block_end = sum(part.sent for part in block_traffic(method, n, per_host))
    in_step = exchange_traffic(method, n, per_host).sent
    return in_step + at_block_end / method.block_filter.period


def hosts_of(workers: int, per_host: int) -> int:
    """That so many workers need."""
    return -(-workers // per_host)


def group_sizes(workers: int) -> list[int]:
    """M that the hybrid can have: the divisors of N but 1, which is bmuf, and N, which is gtc."""
    small = [m for m in range(2, math.isqrt(workers) + 1) if workers % m == 0]
    return sorted({*small, *(workers // m for m in small)})


def _group(method: Method, per_host: int) -> tuple[Span, int]:
    """A group that spans as many hosts as any does, and how many groups share a host's link."""
    m = method.group_size
    most, shared = straddling(method.workers // m, m, per_host)
    return Span(m, most), shared


@cache
def straddling(groups: int, m: int, per_host: int) -> tuple[int, int]:
    """Hosts that the widest group spans, and groups that share a host's link.

    Groups are of m consecutive ranks. Where neither a host is so many groups nor a group so many
    hosts, some straddle hosts, and a host may have the end of one and the start of another.
    """
    most, links = 1, Counter[int]()
    # After so many groups one begins at the start of a host again.
    for group in range(min(groups, per_host // math.gcd(m, per_host))):
        first, last = group * m // per_host, (group * m + m - 1) // per_host
        most = max(most, last - first + 1)
        if last > first:
            links.update((first, last))
    return most, max(links.values(), default=1)
