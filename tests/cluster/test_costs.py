"""The cost model: formulas against simulations, and against the code that they model."""

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
def test_the_expected_size_of_a_message_is_that_of_the_encoder(density: float) -> None:
    n, stream = 1_000_000, np.random.default_rng(0)
    residual = np.zeros(n, np.float32)
    residual[stream.choice(n, round(n * density), replace=False)] = 2
    words = wire.Encoder(n).encode(residual, np.zeros(n, np.float32), 1.5)
    assert wire.expected_bytes(n, density) == pytest.approx(4 * words.size, rel=0.03, abs=8)


@given(st.integers(1, 2**31 - 1), st.floats(1e-9, 1))
def test_a_message_has_at_most_two_bits_per_parameter_and_a_header(n: int, density: float) -> None:
    size = wire.expected_bytes(n, density)
    assert math.isfinite(size)
    assert 16 <= size <= 16 + n / 4 + 1


@pytest.mark.parametrize("ranks", [1, 2, 4, 16, 128, 1000])
def test_the_slowest_rank_is_the_maximum_of_normal_draws(ranks: int) -> None:
    draws = np.random.default_rng(0).standard_normal((4000, ranks)).max(axis=1).mean()
    assert costs.straggler_delay(ranks, 0.2) == pytest.approx(0.2 * draws, rel=0.03, abs=0.005)


def spans() -> st.SearchStrategy[Span]:
    return st.builds(
        lambda hosts, per_host: Span(2 ** (hosts + per_host), 2**hosts),
        st.integers(0, 4),
        st.integers(0, 3),
    )


def busiest_link(span: Span, sent: dict[tuple[int, int], float]) -> float:
    """Bytes that leave the busiest host, from the bytes that each rank sends to each other."""
    link_bytes = [0.0] * span.hosts
    for (sender, receiver), size in sent.items():
        if sender // span.per_host != receiver // span.per_host:
            link_bytes[int(sender // span.per_host)] += size
    return max(link_bytes)


@given(spans())
def test_recursive_doubling_matches_a_simulation_of_its_rounds(span: Span) -> None:
    size, blocks = 8.0, [{rank} for rank in range(span.ranks)]
    sent: dict[tuple[int, int], float] = {}
    distance, rounds = 1, [0, 0]
    while distance < span.ranks:
        for rank in range(span.ranks):
            sent[rank, rank ^ distance] = size * len(blocks[rank])
        blocks = [blocks[rank] | blocks[rank ^ distance] for rank in range(span.ranks)]
        rounds[distance >= span.per_host] += 1
        distance *= 2
    assert all(len(ranks) == span.ranks for ranks in blocks)
    traffic = allgather(span, size)
    assert [traffic.messages_within, traffic.messages_across] == rounds
    assert traffic.rounds == sum(rounds)
    assert traffic.link_bytes == busiest_link(span, sent)
    assert traffic.copy_bytes == size * (span.ranks - 1)


@given(st.integers(1, 7), st.integers(1, 7))
def test_the_algorithm_of_bruck_matches_a_simulation_of_its_rounds(
    hosts: int, per_host: int
) -> None:
    span, size = Span(hosts * per_host, hosts), 8.0
    p = span.ranks
    assume(p & (p - 1))  # a power of two uses recursive doubling
    blocks = [[rank] for rank in range(p)]  # of each rank, in the order of their arrival
    link_bytes, rounds, distance = [0.0] * hosts, 0, 1
    while distance < p:
        messages = [ranks[: p - distance][:distance] for ranks in blocks]
        for rank in range(p):
            receiver = (rank - distance) % p
            blocks[receiver] = blocks[receiver] + messages[rank]
            if receiver // per_host != rank // per_host:
                link_bytes[rank // per_host] += size * len(messages[rank])
        distance, rounds = 2 * distance, rounds + 1
    assert all(sorted(ranks) == list(range(p)) for ranks in blocks)
    traffic = allgather(span, size)
    assert traffic.rounds == rounds == traffic.messages_within + traffic.messages_across
    assert traffic.link_bytes == max(link_bytes)


@given(spans())
def test_a_ring_matches_its_rounds(span: Span) -> None:
    size, p = 1e6, span.ranks
    sent = {(rank, (rank + 1) % p): size * (p - 1) for rank in range(p)} if p > 1 else {}
    traffic = allgather(span, size)
    assert traffic.link_bytes == busiest_link(span, sent)
    assert traffic.messages_within + traffic.messages_across == p - 1


@given(spans())
def test_a_sum_in_rank_order_matches_its_messages(span: Span) -> None:
    size, p = 1e6, span.ranks
    ranks = range(p)
    parts = {(rank, other): size / p for rank in ranks for other in ranks if rank != other}
    ring = {(rank, (rank + 1) % p): size / p * (p - 1) for rank in ranks} if p > 1 else {}
    traffic = rank_order_sum(span, size)
    assert traffic.link_bytes == pytest.approx(busiest_link(span, parts) + busiest_link(span, ring))


def test_long_allgathers_use_a_ring() -> None:
    for ranks, total, rounds in [
        (8, 500e3, 3),
        (8, 600e3, 7),
        (6, 80e3, 3),
        (6, 90e3, 5),
    ]:
        assert allgather(Span(ranks, 2), total / ranks).rounds == rounds


def test_rounds_are_integers_for_three_hosts() -> None:
    traffic = broadcast(Span(6, 3), 1e6)
    assert (traffic.messages_within, traffic.messages_across) == (1, 2 + 2)
    traffic = allreduce(Span(6, 3), 1e6)
    # Two of the three hosts halve and double. The third sends its vector, and receives the sum.
    assert (traffic.messages_within, traffic.messages_across) == (2, 2 + 2)
    assert traffic.link_bytes == pytest.approx((2 * 1 / 2 + 2) * 1e6)
    assert traffic.additions == pytest.approx((1 / 2 + 1 / 2 + 1) * 1e6 / 4)


@given(st.integers(2, 60), st.integers(1, 30))
def test_placement_of_groups_matches_the_hosts_of_their_ranks(workers: int, per_host: int) -> None:
    for m in (1, *costs.group_sizes(workers), workers):
        groups = [
            {rank // per_host for rank in range(first, first + m)} for first in range(0, workers, m)
        ]
        wide_groups = [hosts for hosts in groups if len(hosts) > 1]
        sharers = [sum(host in hosts for hosts in wide_groups) for host in range(workers)]
        expected = max(map(len, groups)), max(1, *sharers)
        assert costs.group_placement(workers // m, m, per_host) == expected


def test_a_group_that_straddles_hosts_uses_the_link() -> None:
    inside, across = (costs.exchange_traffic(method(48, m, 0.001), 1_000_000, 24) for m in (8, 16))
    assert inside.link_bytes == inside.messages_across == 0
    message = SLOT * wire.expected_bytes(1_000_000, 0.001)
    assert across.link_bytes == pytest.approx(
        8 * 8 * message
    )  # eight of its ranks are on each host
    assert across.messages_across > 0
    # Groups of 18 on hosts of 24: some host has the end of one group and the start of the next.
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


def test_a_dense_exchange_is_an_allreduce_with_its_additions() -> None:
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
    # A group is a host, so bytes leave a host only at a block's end.
    message = 9 / 8 * wire.expected_bytes(1_000_000, 0.001)
    assert time.exchange == pytest.approx(2 * 1e-6 + 3 * message / 5e9)
    sums = 6 * 2e-5 + 2 * 3 / 4 * 4e6 * (1 / 1e9 + 1 / 5e9) + 250_000 * (2e-9 + 4 * 5e-10)
    assert time.filter == pytest.approx(sums / 20)
    assert time.broadcast == pytest.approx((2 * 1e-6 + 4e6 / 5e9) / 20)
    stragglers = costs.straggler_delay(4, 0.1) * (1 + 1 / math.sqrt(20))
    assert time.stragglers == pytest.approx(time.compute * stragglers)
    assert costs.link_bytes(hybrid, 1_000_000, 4) == pytest.approx(2 * 3 / 4 * 4e6 / 20)


def test_workers_that_share_cores_take_turns() -> None:
    half_a_core = msgspec.structs.replace(NETWORK, cores_per_host=0.5)
    own_cores = costs.step_time(COMPUTE, NETWORK, method(4, 4, 0.001), **SIZES)
    common_cores = costs.step_time(COMPUTE, half_a_core, method(4, 4, 0.001), **SIZES)
    for part in ("compute", "stragglers", "encode", "decode"):
        assert getattr(common_cores, part) == pytest.approx(8 * getattr(own_cores, part))
    assert common_cores.exchange == own_cores.exchange


@given(st.floats(0.001, 10), st.floats(0.001, 10))
def test_the_unhidden_exchange_matches_a_simulation_of_its_slices(
    exchange: float, compute: float
) -> None:
    slices, end = costs.SLICES, 0.0
    for number in range(1, slices + 1):
        ready = compute / 3 + 2 / 3 * compute * number / slices
        end = max(end, ready) + exchange / slices
    assert costs.not_hidden(exchange, compute) == pytest.approx(end - compute)


def test_an_overlapped_dense_exchange_is_in_rank_order() -> None:
    n = 800_000
    traffic = costs.exchange_traffic(method(16, 16, overlap=True), n, 4)
    whole = rank_order_sum(Span(16, 4), 4 * n)
    assert traffic.link_bytes == pytest.approx(whole.link_bytes)
    assert traffic.link_bytes > costs.exchange_traffic(method(16, 16), n, 4).link_bytes
    assert traffic.messages_across == costs.SLICES * whole.messages_across


def test_every_slice_of_an_overlapped_exchange_waits_for_polls_and_latencies() -> None:
    assert costs.POLL_DELAY == collectives.PAUSE / 2
    slow = msgspec.structs.replace(NETWORK, latency_across=0.1)
    [blocking, overlapped] = [
        costs.step_time(COMPUTE, slow, method(16, 16, density=1e-3, overlap=overlap), **SIZES)
        for overlap in (False, True)
    ]
    # Each of eight slices has two rounds across hosts and two within, minus the hidden part.
    assert blocking.exchange == pytest.approx(0.2, rel=0.01)
    whole = 8 * (0.2 + 4 * costs.POLL_DELAY)
    hidden = 7 / 8 * 2 / 3 * overlapped.compute
    assert overlapped.exchange == pytest.approx(whole - hidden, rel=0.01)


def test_a_sharded_leader_copies_its_own_slice() -> None:
    plain, sharded = (
        costs.block_traffic(method(32, 8, 0.001, 10, sharded=sharded), 1_000_000, 4)[0]
        for sharded in (False, True)
    )
    # Each of the four groups has two hosts, so four of its eight leaders share a host's link.
    assert sharded.copy_bytes == pytest.approx(plain.copy_bytes / 8)
    assert sharded.link_bytes == pytest.approx(plain.link_bytes / 2)
    assert sharded.additions == pytest.approx(plain.additions / 8)


@given(
    st.lists(st.just(0.0) | st.floats(0.01, 10), min_size=3, max_size=3).filter(any),
    st.integers(0, 2**32),
)
def test_a_fit_recovers_the_true_costs(true_costs: list[float], seed: int) -> None:
    terms = np.random.default_rng(seed).uniform(0.1, 10, (8, 3))
    seconds = terms @ true_costs
    fitted_costs = fit(terms.tolist(), seconds.tolist())
    assert np.abs(terms @ fitted_costs / seconds - 1).max() < 1e-5


@given(st.integers(0, 2**32))
def test_a_fit_is_the_best_without_negative_costs(seed: int) -> None:
    stream = np.random.default_rng(seed)
    terms, seconds = stream.uniform(0.1, 10, (7, 3)), stream.uniform(1, 10, 7)
    fitted_costs = fit(terms.tolist(), seconds.tolist())
    assert fitted_costs.min() >= 0
    relative = terms / seconds[:, None]
    slope = relative.T @ (relative @ fitted_costs - 1)  # the Karush-Kuhn-Tucker conditions
    assert np.abs(slope[fitted_costs > 0]).max(initial=0) < 1e-8
    assert slope[fitted_costs == 0].min(initial=0) > -1e-8
