"""A model of the traffic of collectives, and of its time. No MPI here.

A message takes a latency plus its bytes over the bandwidth, as in Hockney (1994). The numbers of
messages and bytes are those of MPICH's algorithms. Their source is Thakur, Rabenseifner and Gropp,
"Optimization of collective communication operations in MPICH" (2005), cited as TRG below. Sums of
integers are those of `gtcbmuf.core.sums`.

The ranks of a host share its link. The link has its full bandwidth in both directions at once.
Sizes are in bytes, times in seconds, bandwidths in bytes per second.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gtcbmuf.cluster.coded_sums import Size, message_size
from gtcbmuf.cluster.profile import Network
from gtcbmuf.methods.declaration import FLOAT, Collectives, Signs, Summed, Work

#: Total bytes from which MPICH's allgather uses a ring: for any number of ranks, and for numbers
#: other than powers of two (TRG; MPIR_CVAR_ALLGATHER_LONG_MSG_SIZE and _SHORT_MSG_SIZE).
_LONG, _SHORT = 512 << 10, 80 << 10


@dataclass(frozen=True)
class Span:
    """A set of communicating ranks.

    Attributes:
        ranks: number of ranks.
        hosts: number of hosts, each with about the same number of these ranks.
        lanes: of these ranks, those on the host with the fewest; by default, as many as on each.
    """

    ranks: int
    hosts: int
    lanes: int = 0

    @property
    def per_host(self) -> float:
        """Ranks per host."""
        return self.ranks / self.hosts

    @property
    def sharers(self) -> float:
        """Ranks of a host that share the work of a sum."""
        return self.lanes or self.per_host


@dataclass(frozen=True)
class Traffic:
    """Traffic of a collective.

    Attributes:
        messages_within: consecutive messages within a host.
        copy_bytes: bytes that a rank receives from other ranks of its host.
        messages_across: consecutive messages between two hosts.
        link_bytes: bytes that leave a host by its link.
        rounds: rounds of messages. Each round waits for the messages of the round before.
        barriers: barriers among the ranks of a host.
        work: operations of a rank.
    """

    messages_within: float
    copy_bytes: float
    messages_across: float
    link_bytes: float
    rounds: float = 0.0
    barriers: float = 0.0
    work: Work = field(default_factory=dict)

    def times(self, number: float) -> "Traffic":
        """Multiply the traffic, for `number` such collectives one after the other."""
        parts = {name: number * value for name, value in vars(self).items() if name != "work"}
        return Traffic(**parts, work={name: number * value for name, value in self.work.items()})

    def __add__(self, other: "Traffic") -> "Traffic":
        """Add the traffic of a collective that follows."""
        theirs = vars(other)
        parts = {name: value + theirs[name] for name, value in vars(self).items() if name != "work"}
        names = {*self.work, *other.work}
        work = {name: self.work.get(name, 0) + other.work.get(name, 0) for name in names}
        return Traffic(**parts, work=work)

    def seconds(self, network: Network) -> float:
        """Compute the seconds of messages and bytes on a network, without barriers and work."""
        within = self.messages_within * network.latency_within
        across = self.messages_across * network.latency_across
        copies = self.copy_bytes / network.bandwidth_within
        return within + copies + across + self.link_bytes / network.bandwidth_across


_NO_TRAFFIC = Traffic(0, 0, 0, 0)


def allgather(span: Span, size: float) -> Traffic:
    """Model an allgather: every rank receives `size` bytes from each rank.

    Long messages travel on a ring, in p - 1 rounds for p ranks (TRG). Short messages take log2 p
    rounds, rounded up. They use recursive doubling if p is a power of two, and the algorithm of
    Bruck et al. (1997) otherwise.

    Bytes on a host's link, for messages of `size` bytes:

    - Ring: one rank of each host sends to another host, (p - 1) size in all.
    - Recursive doubling: every rank sends what its host holds, until each rank has all messages.
    - Bruck: in the round of distance d, rank r sends min(d, p - d) messages to rank r - d. At most
      d ranks of a host, and at most all of them, send to another host.

    Args:
        span: the ranks.
        size: bytes of each rank.
    """
    p, hosts, per_host = span.ranks, span.hosts, span.per_host
    is_power_of_two, total, copy_bytes = p & (p - 1) == 0, p * size, (p - 1) * size
    is_ring = total >= _LONG or (total >= _SHORT and not is_power_of_two)
    rounds = p - 1 if is_ring else _rounds(p)
    if hosts == 1:
        return Traffic(rounds, copy_bytes, 0, 0, rounds=rounds)
    within = 0.0
    if is_ring:
        link_bytes = (p - 1) * size
    elif is_power_of_two:
        # If the hosts do not divide the ranks, some pair crosses hosts in every round.
        within = math.log2(per_host) if p % hosts == 0 else 0.0
        link_bytes = per_host * (p - per_host) * size
    else:
        distances = [2**number for number in range(rounds)]
        link_bytes = size * sum(min(d, p - d, per_host) * min(d, p - d) for d in distances)
    return Traffic(within, copy_bytes, rounds - within, link_bytes, rounds=rounds)


def allreduce(span: Span, size: float) -> Traffic:
    """Model an allreduce: every rank receives the sum of all ranks' vectors of `size` bytes.

    First, the ranks of each host reduce their vectors. Then one rank of each of the h hosts takes
    part in Rabenseifner's algorithm (TRG): it sends 2 log2 h messages with 2 (h - 1)/h size bytes,
    and adds (h - 1)/h size bytes. Hosts beyond a power of two send their whole vector to another
    host first, and receive the sum at the end. Finally, the ranks of each host broadcast. Within a
    host, the algorithm is the same.

    Args:
        span: the ranks.
        size: bytes of a rank's vector.
    """
    hosts, per_host = span.hosts, span.per_host
    power_of_two = 2 ** (hosts.bit_length() - 1)
    beyond = 1 if hosts > power_of_two else 0
    additions = (per_host - 1) / per_host + (power_of_two - 1) / power_of_two + beyond
    return Traffic(
        2 * _rounds(per_host),
        4 * (per_host - 1) / per_host * size,
        2 * (math.log2(power_of_two) + beyond),
        2 * ((power_of_two - 1) / power_of_two + beyond) * size,
        work={"sum_float": additions * size / FLOAT},
    )


def rank_order_sum(span: Span, size: float) -> Traffic:
    """Model a sum in rank order (`gtcbmuf.mpi.collectives.RankOrderSum`).

    First, every rank sends every other rank that rank's part, all at once. This moves
    per_host (p - per_host)/p size bytes over a host's link. Then the sums of the parts travel on a
    ring, which moves (p - 1)/p size bytes over the link.

    Args:
        span: the p ranks.
        size: bytes of a rank's vector.
    """
    p, hosts, per_host = span.ranks, span.hosts, span.per_host
    link_bytes = (per_host * (p - per_host) + p - 1) / p * size if hosts > 1 else 0.0
    copy_bytes = 2 * (p - 1) / p * size
    across = 2 * (p - per_host)
    additions = {"sum_float": size / FLOAT}
    return Traffic(2 * (per_host - 1), copy_bytes, across, link_bytes, rounds=p, work=additions)


def sum_of_parts(span: Span, size: float) -> Traffic:
    """Model a sum whose parts have an owner each (`gtcbmuf.core.signs.SignSum`).

    First, every rank sends every other rank that rank's part, all at once. Then the sums of the
    parts are gathered.

    Args:
        span: the p ranks.
        size: bytes of a rank's vector.
    """
    p, per_host = span.ranks, span.per_host
    scattered = Traffic(
        p - 1,
        (p - 1) / p * size,
        1 if span.hosts > 1 else 0,
        per_host * (p - per_host) / p * size,
        rounds=1,
    )
    return scattered + allgather(span, size / p)


def integer_sum(span: Span, summed: Summed, rows: int) -> Traffic:
    """Model a sum of integers (`gtcbmuf.core.sums.IntegerSum`).

    A barrier of each host stands before the sums over its rows, and one behind them. In between,
    every lane sums its slice over the h hosts. A rank sends h - 1 messages with the sums of its
    host, each a share of the slice. Then it sends the total of its own share to the h - 1 others.
    The messages of a round are under way at the same time. Two hosts need one round: a rank sends
    the other host's rank its whole slice.

    Args:
        span: the ranks.
        summed: length and distribution of a row.
        rows: number of rows. Consecutive ranks fill a row together.
    """
    hosts, lanes = span.hosts, span.sharers
    rows_here = min(rows, math.ceil(rows / hosts))
    slice_length = summed.length / lanes
    kind = "sum_sign" if isinstance(summed.integers, Signs) else "sum_integer"
    traffic = Traffic(
        0,
        0,
        0,
        0,
        barriers=2,
        work={kind: rows_here * slice_length, "sum_parameter": slice_length},
    )
    if hosts == 1:
        return traffic
    others, rounds = hosts - 1, 2 if hosts > 2 else 1
    share = slice_length / hosts if rounds == 2 else slice_length
    of_host = message_size(summed.integers, rows / hosts, share)
    total = message_size(summed.integers, rows, share)
    sent = [(of_host, others), (total, 1)][:rounds]
    work = {**traffic.work, "message": 2 * rounds * others}
    for size, encoded in sent:
        for name, amount in _coding(size, share, encoded, others).items():
            work[name] = work.get(name, 0.0) + amount
    link_bytes = lanes * others * sum(size.bytes for size, _ in sent)
    return replace(traffic, messages_across=rounds, link_bytes=link_bytes, rounds=rounds, work=work)


def _coding(size: Size, length: float, encoded: int, decoded: int) -> Work:
    """Operations to encode and to decode some messages of a size."""
    integers = {"encode_integer": encoded * length}
    if size.codes:
        codes = {"encode_code": encoded * size.codes, "decode_code": decoded * size.codes}
        return {**integers, **codes}
    return {**integers, "encode_field": encoded * length, "decode_field": decoded * length}


def _rounds(ranks: float) -> int:
    """Count the rounds of a collective that doubles in each: log2 of the ranks, rounded up."""
    return math.ceil(math.log2(ranks))


#: Traffic of the collectives that a method's declaration can name (`Sent.collective`).
COLLECTIVES: dict[str, Callable[[Span, float], Traffic]] = {
    "allgather": allgather,
    "allreduce": allreduce,
    "rank order sum": rank_order_sum,
    "sum of parts": sum_of_parts,
}


def collective_traffic(collectives: Collectives, span: Span, rows: int) -> Traffic:
    """Model a method's collectives among some ranks, one after another.

    Args:
        collectives: what each rank, or each row of ranks, sends.
        span: the ranks. A single rank has no traffic, but it adds up integers.
        rows: rows of an integer sum.
    """
    traffic = _NO_TRAFFIC
    for sent in collectives:
        if isinstance(sent, Summed):
            traffic += integer_sum(span, sent, rows)
        elif span.ranks > 1:
            traffic += COLLECTIVES[sent.collective](span, sent.bytes)
    return traffic
