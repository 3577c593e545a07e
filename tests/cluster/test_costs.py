"""The cost model: formulas against simulations, and against the code that they model."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.clusters import COMPUTE, NETWORK, method

from gtcbmuf.cluster import costs, placement
from gtcbmuf.cluster.coded_sums import Size, message_size
from gtcbmuf.cluster.fitting import fit
from gtcbmuf.cluster.traffic import (
    Span,
    Traffic,
    allgather,
    allreduce,
    integer_sum,
    rank_order_sum,
    sum_of_parts,
)
from gtcbmuf.config.loading import load_config
from gtcbmuf.core import wire
from gtcbmuf.methods.declaration import Integers, Levels, Rounded, Signs, Summed
from gtcbmuf.mpi import collectives

SHAPES = [(1000, 1000)]
SIZES = {"shapes": SHAPES, "minibatch": 128}


def row_of(integers: Integers, length: int, stream: np.random.Generator) -> NDArray[np.int32]:
    if not isinstance(integers, Rounded):
        reaching = stream.random(length) < integers.density
        signs = np.where(reaching, stream.choice([-1, 1], length), 0).astype(np.int32)
        if isinstance(integers, Levels):
            signs[stream.random(length) < integers.large] *= 3
        return signs
    return np.rint(stream.normal(0, integers.deviation, length)).astype(np.int32)


def encoded(values: NDArray[np.int32]) -> NDArray[np.uint32]:
    largest = int(np.abs(values).max(initial=0))
    words, tally = np.zeros(wire.max_words(values.size, largest), np.uint32), np.zeros(2, np.int64)
    return wire.Coder(values.size).encode(values, 1.0, tally, words)


DISTRIBUTIONS = (
    *map(Signs, (0.0, 1e-3, 0.01, 0.05, 0.2, 1.0)),
    *(Levels(density, large) for density in (1 / 64, 0.1, 1.0) for large in (0.0, 0.01)),
    # With 0.5 at a density of 0.1, 16 rows are so near to the choice that draws of them decide it.
    *(Levels(1 / 64, 0.5), Levels(0.1, 0.4), Levels(1.0, 0.5)),
    *map(Rounded, (0.01, 1 / 3, 0.5, 1.0, 4.0, 16.0, 256.0)),
)


@pytest.mark.parametrize("rows", [1, 2, 16, 100])
@pytest.mark.parametrize("integers", DISTRIBUTIONS, ids=str)
def test_the_expected_size_of_a_message_is_that_of_the_encoder(
    integers: Integers, rows: int
) -> None:
    n, stream = 100_000, np.random.default_rng(0)
    values = sum((row_of(integers, n, stream) for _ in range(rows)), np.zeros(n, np.int32))
    message = encoded(values)
    size = message_size(integers, rows, n)
    assert size.bytes == pytest.approx(4 * message.size, rel=0.05, abs=16)
    if not int(message[0]) & 0x8000:  # codes
        sizes = np.abs(values)
        codes = np.count_nonzero(sizes) + np.count_nonzero(sizes > 1)
        assert size.codes == pytest.approx(codes, rel=0.05, abs=30)
    else:
        assert size.codes == 0


def test_a_row_of_which_half_is_elsewhere_takes_half_of_the_bits() -> None:
    whole, half = (message_size(Rounded(0.5), rows, 1000) for rows in (1, 0.5))
    assert half.bytes - 32 == pytest.approx((whole.bytes - 32) / 2)
    assert half.codes == pytest.approx(whole.codes / 2)


def grows(before: Size, after: Size) -> bool:
    """Fields may take a third more than codes. So a message may shrink where codes begin to pay."""
    longest = 4 / 3 if after.codes and not before.codes else 1
    return before.bytes <= 1.02 * longest * after.bytes


@given(
    st.builds(Signs, st.floats(1e-9, 1))
    | st.builds(Levels, st.floats(1e-9, 1), st.floats(0, 1))
    | st.builds(Rounded, st.floats(0.01, 1e4)),
    st.integers(1, 10_000_000),
    st.integers(1, 2**31 - 1),
)
def test_a_message_grows_with_the_rows_and_fits_into_fields(
    integers: Integers, rows: int, n: int
) -> None:
    one, both = (message_size(integers, number, n) for number in (rows, 2 * rows))
    assert one.bytes >= wire.HEADER * 4
    assert grows(one, both)
    deviation = 1 + integers.deviation if isinstance(integers, Rounded) else 3
    assert both.bytes <= wire.HEADER * 4 + n / 8 * (5 + max(math.log2(deviation * 2 * rows), 0))


@pytest.mark.parametrize("rows", [1, 16, 1000])
def test_a_message_grows_with_the_density(rows: int) -> None:
    sizes = [message_size(Signs(d), rows, 1_000_000) for d in np.geomspace(1e-6, 0.7, 60)]
    assert all(grows(before, after) for before, after in itertools.pairwise(sizes))


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


@given(spans(), st.sampled_from([8.0, 1e4, 1e7]))
def test_a_sum_of_parts_matches_its_messages(span: Span, size: float) -> None:
    ranks = range(span.ranks)
    parts = {(rank, other): size / span.ranks for rank in ranks for other in ranks if rank != other}
    traffic, gathered = sum_of_parts(span, size), allgather(span, size / span.ranks)
    expected = busiest_link(span, parts) + gathered.link_bytes
    assert traffic.link_bytes == pytest.approx(expected)
    received = 2 * size * (span.ranks - 1) / span.ranks
    assert traffic.copy_bytes == pytest.approx(received)


def test_long_allgathers_use_a_ring() -> None:
    for ranks, total, rounds in [
        (8, 500e3, 3),
        (8, 600e3, 7),
        (6, 80e3, 3),
        (6, 90e3, 5),
    ]:
        assert allgather(Span(ranks, 2), total / ranks).rounds == rounds


def test_rounds_are_integers_for_three_hosts() -> None:
    traffic = allreduce(Span(6, 3), 1e6)
    # Two of the three hosts halve and double. The third sends its vector, and receives the sum.
    assert (traffic.messages_within, traffic.messages_across) == (2, 2 + 2)
    assert traffic.link_bytes == pytest.approx((2 * 1 / 2 + 2) * 1e6)
    assert traffic.work == {"sum_float": pytest.approx((1 / 2 + 1 / 2 + 1) * 1e6 / 4)}


@pytest.mark.parametrize(
    ("hosts", "lanes", "rows", "integers"),
    [
        *((3, 2, 6, Signs(density)) for density in (0.01, 0.2)),
        (4, 1, 4, Rounded(0.5)),
        (4, 2, 4, Rounded(0.5)),  # a group on every host
        (3, 4, 12, Rounded(256.0)),
        (2, 4, 8, Rounded(256.0)),
        (2, 1, 4, Signs(0.01)),
        (4, 1, 4, Levels(1 / 64, 0.01)),
    ],
)
def test_a_sum_between_hosts_matches_its_messages(
    hosts: int, lanes: int, rows: int, integers: Integers
) -> None:
    n, stream = 240_000, np.random.default_rng(0)
    sums = [
        sum((row_of(integers, n, stream) for _ in range(rows // hosts)), np.zeros(n, np.int32))
        for _ in range(hosts)
    ]
    rounds = 2 if hosts > 2 else 1  # two hosts exchange whole slices, and no totals
    length = n // lanes // (hosts if rounds == 2 else 1)
    shares = [slice(at, at + length) for at in range(0, n, length)]
    of_first_host = [
        encoded(sums[0][share]) for i, share in enumerate(shares) if i % hosts or rounds == 1
    ]
    totals = [encoded(sum(sums)[share]) for share in shares[::hosts] if rounds == 2]  # type: ignore[index]
    words = sum(m.size for m in of_first_host) + (hosts - 1) * sum(m.size for m in totals)
    traffic = integer_sum(Span(hosts * lanes, hosts), Summed(n, integers), rows)
    assert traffic.link_bytes == pytest.approx(4 * words, rel=0.02)
    assert traffic.messages_across == traffic.rounds == rounds
    assert traffic.barriers == 2

    # A rank encodes its host's sums for the others and the total of its share, and decodes as much.
    share = n / lanes / (hosts if rounds == 2 else 1)
    others = hosts - 1
    messages_of_host, messages_of_total = others, rounds - 1
    assert traffic.work["message"] == 2 * rounds * others
    assert traffic.work["encode_integer"] == pytest.approx(
        (messages_of_host + messages_of_total) * share
    )
    assert traffic.work["sum_parameter"] == n / lanes
    kind = "sum_sign" if isinstance(integers, Signs) else "sum_integer"
    assert traffic.work[kind] == rows / hosts * n / lanes
    sizes_of_host, sizes_of_total = np.abs(sums[0]), np.abs(sum(sums))
    codes_of_host, codes_of_total = (
        (np.count_nonzero(sizes) + np.count_nonzero(sizes > 1)) / n * share
        for sizes in (sizes_of_host, sizes_of_total)
    )
    if "encode_field" in traffic.work:
        assert traffic.work["encode_field"] == pytest.approx(traffic.work["encode_integer"])
        assert traffic.work["decode_field"] == pytest.approx(rounds * others * share)
    else:
        assert traffic.work["encode_code"] == pytest.approx(
            messages_of_host * codes_of_host + messages_of_total * codes_of_total, rel=0.05
        )
        assert traffic.work["decode_code"] == pytest.approx(
            others * (codes_of_host + messages_of_total * codes_of_total), rel=0.05
        )


def test_a_sum_on_one_host_sends_nothing() -> None:
    traffic = integer_sum(Span(8, 1), Summed(8000, Signs(0.01)), 8)
    assert (traffic.link_bytes, traffic.messages_across, traffic.barriers) == (0, 0, 2)
    assert traffic.work == {"sum_sign": 8000, "sum_parameter": 1000}


@given(st.integers(2, 60), st.integers(1, 30))
def test_placement_of_groups_matches_the_hosts_of_their_ranks(workers: int, per_host: int) -> None:
    for m in (1, *placement.group_sizes(workers), workers):
        groups = [
            {rank // per_host for rank in range(first, first + m)} for first in range(0, workers, m)
        ]
        wide_groups = [hosts for hosts in groups if len(hosts) > 1]
        sharers = [sum(host in hosts for hosts in wide_groups) for host in range(workers)]
        lanes = min(
            min(Counter(rank // per_host for rank in range(first, first + m)).values())
            for first in range(0, workers, m)
        )
        expected = Span(m, max(map(len, groups)), lanes), max(1, *sharers)
        assert placement.group_placement(workers // m, m, per_host) == expected


def test_a_group_that_straddles_hosts_uses_the_link() -> None:
    inside, across = (costs.exchange_traffic(method(48, m, 0.001), SHAPES, 24) for m in (8, 16))
    assert inside.link_bytes == inside.messages_across == 0
    # Eight of its ranks are on each host.
    whole = integer_sum(Span(16, 2), Summed(1_000_000, Signs(0.001)), 16)
    assert across == whole
    assert whole.link_bytes > 0
    # Groups of 18 on hosts of 24: some host has the end of one group and the start of the next, and
    # six ranks of a group are on its smaller host.
    twice = costs.exchange_traffic(method(144, 18, 0.001), SHAPES, 24).link_bytes
    once = integer_sum(Span(18, 2, lanes=6), Summed(1_000_000, Signs(0.001)), 18).link_bytes
    assert twice == pytest.approx(2 * once)


@given(st.integers(2, 3000))
def test_group_sizes_are_all_divisors(workers: int) -> None:
    assert placement.group_sizes(workers) == [m for m in range(2, workers) if workers % m == 0]


def test_the_time_of_traffic_is_messages_and_bytes() -> None:
    traffic = Traffic(2, 1e6, 3, 4e6)
    assert traffic.seconds(NETWORK) == pytest.approx(2e-6 + 2e-4 + 6e-5 + 4e-3)
    assert traffic.times(3).seconds(NETWORK) == pytest.approx(3 * traffic.seconds(NETWORK))


def between(costs_of_sizes: tuple[float, float]) -> float:
    """The cost of a pass at a million parameters, which is halfway from 250,000 to 4 million."""
    return sum(costs_of_sizes) / 2


def test_the_cost_of_a_pass_lies_between_those_of_a_small_and_a_large_model() -> None:
    assert [COMPUTE.cost("threshold_parameter", n) for n in (1, 250_000, 4_000_000, 10**9)] == [
        *(3e-10, 3e-10, 5e-10, 5e-10)
    ]
    assert COMPUTE.cost("threshold_parameter", 1_000_000) == pytest.approx(4e-10)
    assert COMPUTE.cost("message", 1_000_000) == 5e-6


def test_a_dense_exchange_is_an_allreduce_with_its_additions() -> None:
    time = costs.step_time(COMPUTE, NETWORK, method(4, 4), **SIZES)
    additions = 3 / 4 * 1e6 * between(COMPUTE.sum_float)
    assert time.exchange == pytest.approx(4e-6 + 4 * 3 / 4 * 4e6 / 5e9 + additions)


def test_one_worker_computes_and_adds_its_gradient() -> None:
    time = costs.step_time(COMPUTE, NETWORK, method(1, 1), **SIZES)
    compute = 1e-4 + 128 * (1e-6 + 1e-10 * 1e6) + 1e-9 * 1e6
    assert time.compute == pytest.approx(compute)
    assert time.sum == pytest.approx(compute + between(COMPUTE.dense_parameter) * 1e6)


def test_an_optimiser_takes_its_passes_in_every_worker() -> None:
    diloco, plain = load_config("diloco"), load_config("diloco", ["train.optimizer=sgd"])
    times = [
        costs.step_time(
            COMPUTE, NETWORK, replace(method(4, 1), optimizer_passes=passes), **SIZES
        ).sum
        for passes in (plain.train.optimizer_passes, diloco.train.optimizer_passes)
    ]
    assert times[1] - times[0] == pytest.approx(3 * between(COMPUTE.dense_parameter) * 1e6)


def test_a_hybrid_step_is_the_sum_of_its_tiers() -> None:
    hybrid = method(16, 4, density=0.001, period=20)
    time = costs.step_time(COMPUTE, NETWORK, hybrid, **SIZES)
    assert time.encode == pytest.approx(8e-6 + 1e6 * between(COMPUTE.threshold_parameter))
    assert time.decode == pytest.approx(1e6 * between(COMPUTE.add_parameter))
    # A group is a host, so bytes leave a host only at a block's end.
    two_barriers = 2 * 2 * 1e-6
    sums = between(COMPUTE.sum_sign) * 1e6 + between(COMPUTE.sum_parameter) * 250_000
    assert time.exchange == pytest.approx(two_barriers + sums)

    # Four lanes over four hosts, each with one group. A share is a sixteenth of the model.
    share = 1e6 / 16
    change, total = (message_size(Rounded(0.5), rows, share) for rows in (1, 4))
    codes = 3 * change.codes + total.codes, 3 * (change.codes + total.codes)
    coding = 12 * 5e-6 + 4 * share * 4e-10 + codes[0] * 4e-9 + codes[1] * 3e-9
    link = 4 * 3 * (change.bytes + total.bytes)
    passes = (
        1e6 * (between(COMPUTE.check_parameter) + between(COMPUTE.restart_parameter))
        + 250_000 * between(COMPUTE.quantise_parameter)
        + 250_000 * (between(COMPUTE.sum_integer) + between(COMPUTE.sum_parameter))
        + 250_000 * COMPUTE.filter_parameter[0]  # a worker filters a slice
    )
    block_end = 1.5e-5 + passes + two_barriers + coding + 2 * 2e-5 + link / 1e9
    assert time.filter == pytest.approx(block_end / 20)
    stragglers = costs.straggler_delay(4, 0.1) * (1 + 1 / math.sqrt(20))
    assert time.stragglers == pytest.approx(time.compute * stragglers)
    assert costs.link_bytes(hybrid, SHAPES, 4) == pytest.approx(link / 20)


def test_a_delay_hides_the_waiting_at_the_end_of_a_block() -> None:
    """A group waits for slower groups, for messages and at barriers. Its own work stays."""
    slow = msgspec.structs.replace(NETWORK, bandwidth_across=1e7)

    def timed(delay: int) -> costs.StepTime:
        hybrid = method(16, 4, density=0.001, period=20, delay=delay)
        return costs.step_time(COMPUTE, slow, hybrid, **SIZES)

    at_once, late, hidden = timed(0), timed(1), timed(10)
    link = 20 * costs.link_bytes(method(16, 4, density=0.001, period=20), SHAPES, 4)
    latencies = 2 * 2e-5 + 2 * 2 * 1e-6
    between_groups = costs.straggler_delay(4, 0.1) * math.sqrt(20) * at_once.compute
    passes = 2e6 * between(COMPUTE.dense_parameter)
    waiting = link / 1e7 + latencies + between_groups
    assert at_once.sum - hidden.sum == pytest.approx((waiting - passes) / 20)
    step = at_once.sum - at_once.filter - between_groups / 20
    assert at_once.sum - late.sum == pytest.approx((step - passes) / 20)
    assert step < waiting < 10 * step


def test_workers_that_share_cores_take_turns() -> None:
    half_a_core = msgspec.structs.replace(NETWORK, cores_per_host=0.5)
    own_cores = costs.step_time(COMPUTE, NETWORK, method(4, 4, 0.001), **SIZES)
    common_cores = costs.step_time(COMPUTE, half_a_core, method(4, 4, 0.001), **SIZES)
    for part in ("compute", "stragglers", "encode", "decode"):
        assert getattr(common_cores, part) == pytest.approx(8 * getattr(own_cores, part))
    barriers, sleeping_barriers = 2 * 2 * 1e-6, 2 * 8 * costs.WAKING
    sums = own_cores.exchange - barriers
    assert common_cores.exchange == pytest.approx(sleeping_barriers + 8 * sums)


@pytest.mark.parametrize(
    ("workers", "cores", "sharers"), [(3, 4, 1), (4, 4, 1), (4, 3, 2), (64, 2, 2), (4, 4 / 3, 3)]
)
def test_a_step_waits_for_the_core_with_the_most_workers(
    workers: int, cores: float, sharers: int
) -> None:
    network = msgspec.structs.replace(NETWORK, cores_per_host=cores)
    assert placement.core_sharers(network, workers) == sharers


def test_sync_sgd_of_integers_sends_fewer_bytes() -> None:
    sizes = {bits: costs.link_bytes(method(32, 32, bits=bits), SHAPES, 4) for bits in (8, 16, 32)}
    assert 2 < sizes[32] / sizes[16] < 3
    assert 3 < sizes[32] / sizes[8] < 4.5


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
    shapes = [(800, 1000)]
    traffic = costs.exchange_traffic(method(16, 16, overlap=True), shapes, 4)
    whole = rank_order_sum(Span(16, 4), 4 * 800_000)
    assert traffic.link_bytes == pytest.approx(whole.link_bytes)
    assert traffic.link_bytes > costs.exchange_traffic(method(16, 16), shapes, 4).link_bytes
    assert traffic.messages_across == costs.SLICES * whole.messages_across


def test_every_slice_of_an_overlapped_exchange_waits_for_polls_and_latencies() -> None:
    assert costs.POLL_DELAY == collectives.PAUSE / 2
    slow = msgspec.structs.replace(NETWORK, latency_across=0.1)
    time = costs.step_time(COMPUTE, slow, method(16, 16, overlap=True), **SIZES)
    # Each of eight slices has 2 * 12 messages across hosts, in 16 rounds, minus the hidden part.
    whole = 8 * (2.4 + 16 * costs.POLL_DELAY)
    hidden = 7 / 8 * 2 / 3 * time.compute
    assert time.exchange == pytest.approx(whole - hidden, rel=0.01)


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
