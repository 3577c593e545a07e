"""The cost model: formulas against brute force, and against the code whose cost they predict."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtcbmuf import costs, wire
from gtcbmuf.cluster import Compute, Network
from gtcbmuf.costs import Method, Span
from gtcbmuf.fitting import fit

COMPUTE = Compute(
    step=1e-4,
    frame=1e-6,
    frame_parameter=1e-10,
    parameter=1e-9,
    dense_parameter=3e-10,
    encode_parameter=4e-10,
    encode_update=2e-9,
    decode_message=5e-6,
    decode_update=3e-9,
    decode_bits=3e-10,
    filter_parameter=2e-9,
    sum_parameter=5e-10,
    deviation=0.1,
)
NETWORK = Network(1e-6, 2e-5, 5e9, 1e9, workers_per_host=4, cores_per_host=4)
SIZES = {"parameters": 1_000_000, "minibatch": 128}


@pytest.mark.parametrize("density", [0, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.0624, 0.07, 0.5, 1])
def test_a_message_is_as_long_as_the_encoder_makes_it(density: float) -> None:
    n, stream = 1_000_000, np.random.default_rng(0)
    residual = np.zeros(n, np.float32)
    residual[stream.choice(n, round(n * density), replace=False)] = 2
    words = wire.Encoder(n).encode(residual, np.zeros(n, np.float32), 1.5)
    assert costs.message_bytes(n, density) == pytest.approx(4 * words.size, rel=0.03, abs=8)


@pytest.mark.parametrize("ranks", [1, 2, 4, 16, 128, 1000])
def test_the_slowest_of_many_is_the_maximum_of_as_many_draws(ranks: int) -> None:
    draws = np.random.default_rng(0).standard_normal((4000, ranks)).max(axis=1).mean()
    assert costs.slowest(ranks, 0.2) == pytest.approx(0.2 * draws, rel=0.03, abs=0.005)


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
    traffic = costs.allgather(span, size)
    assert [traffic.messages_within, traffic.messages_across] == rounds
    assert traffic.sent == crossing(span, sent)
    assert traffic.copied == size * (span.ranks - 1)


@given(spans())
def test_a_ring_moves_what_its_rounds_do(span: Span) -> None:
    size, p = 1e6, span.ranks
    sent = {(rank, (rank + 1) % p): size * (p - 1) for rank in range(p)} if p > 1 else {}
    traffic = costs.allgather(span, size)
    assert traffic.sent == crossing(span, sent)
    assert traffic.messages_within + traffic.messages_across == p - 1


@given(spans())
def test_a_sum_in_rank_order_moves_its_parts(span: Span) -> None:
    size, p = 1e6, span.ranks
    ranks = range(p)
    parts = {(one, other): size / p for one in ranks for other in ranks if one != other}
    ring = {(rank, (rank + 1) % p): size / p * (p - 1) for rank in ranks} if p > 1 else {}
    traffic = costs.rank_order_sum(span, size)
    assert traffic.sent == pytest.approx(crossing(span, parts) + crossing(span, ring))


def test_the_time_of_traffic_is_messages_and_bytes() -> None:
    traffic = costs.Traffic(2, 1e6, 3, 4e6)
    assert traffic.seconds(NETWORK) == pytest.approx(2e-6 + 2e-4 + 6e-5 + 4e-3)


def test_one_worker_computes_and_adds_its_gradient() -> None:
    time = costs.step_time(COMPUTE, NETWORK, Method(1, 1), **SIZES)
    compute = 1e-4 + 128 * (1e-6 + 1e-10 * 1e6) + 1e-9 * 1e6
    assert time.compute == pytest.approx(compute)
    assert time.sum == pytest.approx(compute + 3e-10 * 1e6)


def test_a_hybrid_step_is_the_sum_of_its_tiers() -> None:
    method = Method(16, 4, density=0.001, period=20)
    time = costs.step_time(COMPUTE, NETWORK, method, **SIZES)
    assert time.encode == pytest.approx(4e-4 + 1000 * 2e-9)
    assert time.decode == pytest.approx(4 * (5e-6 + 1000 * 3e-9))
    # A group is a host: nothing leaves it but at a block's end.
    message = 9 / 8 * costs.message_bytes(1_000_000, 0.001)
    assert time.exchange == pytest.approx(2 * 1e-6 + 3 * message / 5e9)
    sums = 6 * 2e-5 + 2 * 3 / 4 * 4e6 * (1 / 1e9 + 1 / 5e9) + 250_000 * (2e-9 + 4 * 5e-10)
    assert time.filter == pytest.approx(sums / 20)
    assert time.broadcast == pytest.approx((2 * 1e-6 + 4e6 / 5e9) / 20)
    stragglers = costs.slowest(4, 0.1) * (1 + 1 / math.sqrt(20))
    assert time.stragglers == pytest.approx(time.compute * stragglers)
    assert costs.link_bytes(method, 1_000_000, 4) == pytest.approx(2 * 3 / 4 * 4e6 / 20)


def test_workers_that_share_cores_take_their_turns() -> None:
    crowded = msgspec.structs.replace(NETWORK, cores_per_host=0.5)
    alone = costs.step_time(COMPUTE, NETWORK, Method(4, 4, 0.001), **SIZES)
    shared = costs.step_time(COMPUTE, crowded, Method(4, 4, 0.001), **SIZES)
    for part in ("compute", "stragglers", "encode", "decode"):
        assert getattr(shared, part) == pytest.approx(8 * getattr(alone, part))
    assert shared.exchange == alone.exchange


@given(st.sampled_from([2, 4, 8, 64]), st.floats(1e-5, 0.06), st.integers(1, 100))
def test_overlap_and_shards_never_cost_time(workers: int, density: float, period: int) -> None:
    plain = Method(workers, workers, density)
    hidden = Method(workers, workers, density, overlap=True)
    step = [costs.step_time(COMPUTE, NETWORK, one, **SIZES) for one in (plain, hidden)]
    assert step[1].sum <= step[0].sum
    assert step[1].exchange >= step[0].exchange / 8


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
