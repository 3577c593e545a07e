"""The cost model: formulas against brute force, and against the code whose cost they predict."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.clusters import COMPUTE, NETWORK, method

from gtcbmuf.cluster import costs
from gtcbmuf.cluster.fitting import fit
from gtcbmuf.cluster.traffic import Span, Traffic, allgather, allreduce, broadcast, rank_order_sum
from gtcbmuf.core import wire
from gtcbmuf.methods.gtc import SLOT
from gtcbmuf.mpi import collectives

SIZES = {"parameters": 1_000_000, "minibatch": 128}


@pytest.mark.parametrize("density", [0, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.0624, 0.07, 0.5, 1])
def test_a_message_is_as_long_as_the_encoder_makes_it(density: float) -> None:
    n, stream = 1_000_000, np.random.default_rng(0)
    residual = np.zeros(n, np.float32)
    residual[stream.choice(n, round(n * density), replace=False)] = 2
    words = wire.Encoder(n).encode(residual, np.zeros(n, np.float32), 1.5)
    assert wire.expected_bytes(n, density) == pytest.approx(4 * words.size, rel=0.03, abs=8)


@given(st.integers(1, 2**31 - 1), st.floats(1e-9, 1))
def test_a_message_is_never_longer_than_two_bits_a_parameter_but_where_it_is_tiny(
    n: int, density: float
) -> None:
    size = wire.expected_bytes(n, density)
    assert math.isfinite(size)
    assert 16 <= size <= 16 + n / 4 + 1


@pytest.mark.parametrize("ranks", [1, 2, 4, 16, 128, 1000])
def test_the_slowest_of_many_is_the_maximum_of_as_many_draws(ranks: int) -> None:
    draws = np.random.default_rng(0).standard_normal((4000, ranks)).max(axis=1).mean()
    assert costs.straggler_delay(ranks, 0.2) == pytest.approx(0.2 * draws, rel=0.03, abs=0.005)


def spans() -> st.SearchStrategy[Span]:
    return st.builds(
        lambda hosts, per_host: Span(2 ** (hosts + per_host), 2**hosts),
        st.integers(0, 4),
        st.integers(0, 3),
    )


def crossing(span: Span, sent: dict[tuple[int, int], float]) -> float:
    """Bytes that leave the busiest host, of those that one rank sent to another."""
    leave = [0.0] * span.hosts
    for (one, other), size in sent.items():
        if one // span.per_host != other // span.per_host:
            leave[int(one // span.per_host)] += size
    return max(leave)


@given(spans())
def test_recursive_doubling_moves_what_its_rounds_do(span: Span) -> None:
    size, have = 8.0, [{rank} for rank in range(span.ranks)]
    sent: dict[tuple[int, int], float] = {}
    distance, rounds = 1, [0, 0]
    while distance < span.ranks:
        for rank in range(span.ranks):
            sent[rank, rank ^ distance] = size * len(have[rank])
        have = [have[rank] | have[rank ^ distance] for rank in range(span.ranks)]
        rounds[distance >= span.per_host] += 1
        distance *= 2
    assert all(len(one) == span.ranks for one in have)
    traffic = allgather(span, size)
    assert [traffic.messages_within, traffic.messages_across] == rounds
    assert traffic.rounds == sum(rounds)
    assert traffic.link_bytes == crossing(span, sent)
    assert traffic.copy_bytes == size * (span.ranks - 1)


@given(st.integers(1, 7), st.integers(1, 7))
def test_bruck_moves_what_his_rounds_do(hosts: int, per_host: int) -> None:
    span, size = Span(hosts * per_host, hosts), 8.0
    p = span.ranks
    assume(p & (p - 1))  # a power of two doubles
    have = [[rank] for rank in range(p)]  # blocks, in the order in which they came
    leaving, rounds, distance = [0.0] * hosts, 0, 1
    while distance < p:
        some = [blocks[: p - distance][:distance] for blocks in have]
        for rank in range(p):
            to = (rank - distance) % p
            have[to] = have[to] + some[rank]
            if to // per_host != rank // per_host:
                leaving[rank // per_host] += size * len(some[rank])
        distance, rounds = 2 * distance, rounds + 1
    assert all(sorted(blocks) == list(range(p)) for blocks in have)
    traffic = allgather(span, size)
    assert traffic.rounds == rounds == traffic.messages_within + traffic.messages_across
    assert traffic.link_bytes == max(leaving)


@given(spans())
def test_a_ring_moves_what_its_rounds_do(span: Span) -> None:
    size, p = 1e6, span.ranks
    sent = {(rank, (rank + 1) % p): size * (p - 1) for rank in range(p)} if p > 1 else {}
    traffic = allgather(span, size)
    assert traffic.link_bytes == crossing(span, sent)
    assert traffic.messages_within + traffic.messages_across == p - 1


@given(spans())
def test_a_sum_in_rank_order_moves_its_parts(span: Span) -> None:
    size, p = 1e6, span.ranks
    ranks = range(p)
    parts = {(one, other): size / p for one in ranks for other in ranks if one != other}
    ring = {(rank, (rank + 1) % p): size / p * (p - 1) for rank in ranks} if p > 1 else {}
    traffic = rank_order_sum(span, size)
    assert traffic.link_bytes == pytest.approx(crossing(span, parts) + crossing(span, ring))


def test_which_allgather_is_a_ring() -> None:
    for ranks, whole, rounds in [
        (8, 500e3, 3),
        (8, 600e3, 7),
        (6, 80e3, 3),
        (6, 90e3, 5),
    ]:
        assert allgather(Span(ranks, 2), whole / ranks).rounds == rounds


def test_where_hosts_are_no_power_of_two_rounds_are_whole() -> None:
    told = broadcast(Span(6, 3), 1e6)
    assert (told.messages_within, told.messages_across) == (1, 2 + 2)
    summed = allreduce(Span(6, 3), 1e6)
    # Two of the three hosts halve and double; the third gives them all, and gets it back.
    assert (summed.messages_within, summed.messages_across) == (2, 2 + 2)
    assert summed.link_bytes == pytest.approx((2 * 1 / 2 + 2) * 1e6)
    assert summed.additions == pytest.approx((1 / 2 + 1 / 2 + 1) * 1e6 / 4)


@given(st.integers(2, 60), st.integers(1, 30))
def test_groups_straddle_hosts_as_their_ranks_lie(workers: int, per_host: int) -> None:
    for m in (1, *costs.group_sizes(workers), workers):
        groups = [
            {rank // per_host for rank in range(first, first + m)} for first in range(0, workers, m)
        ]
        spanning = [hosts for hosts in groups if len(hosts) > 1]
        shared = [sum(host in hosts for hosts in spanning) for host in range(workers)]
        wanted = max(map(len, groups)), max(1, *shared)
        assert costs.group_placement(workers // m, m, per_host) == wanted


def test_a_group_that_straddles_hosts_is_no_longer_inside_one() -> None:
    inside, across = (costs.exchange_traffic(method(48, m, 0.001), 1_000_000, 24) for m in (8, 16))
    assert inside.link_bytes == inside.messages_across == 0
    message = SLOT * wire.expected_bytes(1_000_000, 0.001)
    assert across.link_bytes == pytest.approx(8 * 8 * message)  # eight of it are on each host
    assert across.messages_across > 0
    # 18 in 24: a host in the middle has the end of one group and the start of the next.
    twice = costs.exchange_traffic(method(144, 18, 0.001), 1_000_000, 24).link_bytes
    once = allgather(Span(18, 2), message).link_bytes
    assert twice == pytest.approx(2 * once)


@given(st.integers(2, 3000))
def test_group_sizes_are_all_divisors(workers: int) -> None:
    assert costs.group_sizes(workers) == [m for m in range(2, workers) if workers % m == 0]


def test_the_time_of_traffic_is_messages_and_bytes() -> None:
    traffic = Traffic(2, 1e6, 3, 4e6)
    assert traffic.seconds(NETWORK) == pytest.approx(2e-6 + 2e-4 + 6e-5 + 4e-3)
    assert traffic.times(3).seconds(NETWORK) == pytest.approx(3 * traffic.seconds(NETWORK))


def test_a_dense_exchange_is_an_allreduce_and_what_is_added_in_it() -> None:
    time = costs.step_time(COMPUTE, NETWORK, method(4, 4), **SIZES)
    assert time.exchange == pytest.approx(4e-6 + 4 * 3 / 4 * 4e6 / 5e9 + 3 / 4 * 1e6 * 5e-10)


def test_one_worker_computes_and_adds_its_gradient() -> None:
    time = costs.step_time(COMPUTE, NETWORK, method(1, 1), **SIZES)
    compute = 1e-4 + 128 * (1e-6 + 1e-10 * 1e6) + 1e-9 * 1e6
    assert time.compute == pytest.approx(compute)
    assert time.sum == pytest.approx(compute + 3e-10 * 1e6)


def test_a_hybrid_step_is_the_sum_of_its_tiers() -> None:
    hybrid = method(16, 4, density=0.001, period=20)
    time = costs.step_time(COMPUTE, NETWORK, hybrid, **SIZES)
    assert time.encode == pytest.approx(4e-4 + 1000 * 2e-9)
    assert time.decode == pytest.approx(4 * (5e-6 + 1000 * 3e-9))
    # A group is a host: nothing leaves it but at a block's end.
    message = 9 / 8 * wire.expected_bytes(1_000_000, 0.001)
    assert time.exchange == pytest.approx(2 * 1e-6 + 3 * message / 5e9)
    sums = 6 * 2e-5 + 2 * 3 / 4 * 4e6 * (1 / 1e9 + 1 / 5e9) + 250_000 * (2e-9 + 4 * 5e-10)
    assert time.filter == pytest.approx(sums / 20)
    assert time.broadcast == pytest.approx((2 * 1e-6 + 4e6 / 5e9) / 20)
    stragglers = costs.straggler_delay(4, 0.1) * (1 + 1 / math.sqrt(20))
    assert time.stragglers == pytest.approx(time.compute * stragglers)
    assert costs.link_bytes(hybrid, 1_000_000, 4) == pytest.approx(2 * 3 / 4 * 4e6 / 20)


def test_workers_that_share_cores_take_their_turns() -> None:
    crowded = msgspec.structs.replace(NETWORK, cores_per_host=0.5)
    alone = costs.step_time(COMPUTE, NETWORK, method(4, 4, 0.001), **SIZES)
    shared = costs.step_time(COMPUTE, crowded, method(4, 4, 0.001), **SIZES)
    for part in ("compute", "stragglers", "encode", "decode"):
        assert getattr(shared, part) == pytest.approx(8 * getattr(alone, part))
    assert shared.exchange == alone.exchange


@given(st.floats(0.001, 10), st.floats(0.001, 10))
def test_what_is_not_hidden_is_what_slices_in_turn_leave(exchange: float, compute: float) -> None:
    slices, free = costs.SLICES, 0.0
    for number in range(1, slices + 1):
        ready = compute / 3 + 2 / 3 * compute * number / slices
        free = max(free, ready) + exchange / slices
    assert costs.not_hidden(exchange, compute) == pytest.approx(free - compute)


def test_an_overlapped_dense_exchange_is_in_rank_order() -> None:
    n = 800_000
    traffic = costs.exchange_traffic(method(16, 16, overlap=True), n, 4)
    whole = rank_order_sum(Span(16, 4), 4 * n)
    assert traffic.link_bytes == pytest.approx(whole.link_bytes)
    assert traffic.link_bytes > costs.exchange_traffic(method(16, 16), n, 4).link_bytes
    assert traffic.messages_across == costs.SLICES * whole.messages_across


def test_an_overlapped_exchange_waits_for_looks_and_a_latency_for_each_slice() -> None:
    assert costs.POLL_DELAY == collectives.PAUSE / 2
    slow = msgspec.structs.replace(NETWORK, latency_across=0.1)
    [blocking, hidden] = [
        costs.step_time(COMPUTE, slow, method(16, 16, density=1e-3, overlap=overlap), **SIZES)
        for overlap in (False, True)
    ]
    # Two rounds across hosts and two within, for each of eight slices, but for what is hidden.
    assert blocking.exchange == pytest.approx(0.2, rel=0.01)
    at_most = 8 * (0.2 + 4 * costs.POLL_DELAY)
    assert hidden.exchange == pytest.approx(at_most - 7 / 8 * 2 / 3 * hidden.compute, rel=0.01)


def test_a_sharded_leader_copies_its_own_slice() -> None:
    plain, sharded = (
        costs.block_traffic(method(32, 8, 0.001, 10, sharded=sharded), 1_000_000, 4)[0]
        for sharded in (False, True)
    )
    # Four groups on two hosts each: four of the eight leaders of a group share a host's link.
    assert sharded.copy_bytes == pytest.approx(plain.copy_bytes / 8)
    assert sharded.link_bytes == pytest.approx(plain.link_bytes / 2)
    assert sharded.additions == pytest.approx(plain.additions / 8)


@given(
    st.lists(st.just(0.0) | st.floats(0.01, 10), min_size=3, max_size=3).filter(any),
    st.integers(0, 2**32),
)
def test_a_fit_finds_the_costs_that_there_are(costs_: list[float], seed: int) -> None:
    terms = np.random.default_rng(seed).uniform(0.1, 10, (8, 3))
    seconds = terms @ costs_
    found = fit(terms.tolist(), seconds.tolist())
    assert np.abs(terms @ found / seconds - 1).max() < 1e-5


@given(st.integers(0, 2**32))
def test_a_fit_is_the_best_with_no_cost_below_zero(seed: int) -> None:
    stream = np.random.default_rng(seed)
    terms, seconds = stream.uniform(0.1, 10, (7, 3)), stream.uniform(1, 10, 7)
    found = fit(terms.tolist(), seconds.tolist())
    assert found.min() >= 0
    relative = terms / seconds[:, None]
    slope = relative.T @ (relative @ found - 1)  # the conditions of Karush, Kuhn and Tucker
    assert np.abs(slope[found > 0]).max(initial=0) < 1e-8
    assert slope[found == 0].min(initial=0) > -1e-8
