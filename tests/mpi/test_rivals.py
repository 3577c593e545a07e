"""The exchanges of others, each against a few lines of NumPy over all workers of a group."""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray
from support.rivals import build, shapes_of

from gtcbmuf.base.shapes import column_ends
from gtcbmuf.core.algorithm import Exchange
from gtcbmuf.core.meter import Meter
from gtcbmuf.methods.declaration import ExchangeSpec
from gtcbmuf.methods.one_bit import OneBitSpec
from gtcbmuf.methods.powersgd import PowerSGDSpec
from gtcbmuf.methods.qsgd import QSGDSpec
from gtcbmuf.methods.signsgd import SignSGDSpec
from gtcbmuf.methods.top_k import DGCSpec, TopKSpec
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
N, STEPS = 1000, 5
Array = NDArray[np.float64]


def gradients(topology: Topology) -> Iterator[list[NDArray[np.float32]]]:
    """Yield the gradients of all workers of this group, step after step."""
    size = topology.group.size
    first = WORLD.rank // size * size
    for step in range(STEPS):
        streams = [np.random.default_rng([step, rank]) for rank in range(first, first + size)]
        yield [stream.standard_normal(N).astype(np.float32) for stream in streams]


def apply_update(exchange: Exchange, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    update = np.zeros_like(gradient)
    exchange(gradient).add_to(update, 1.0)
    return update


def check(
    topology: Topology, spec: ExchangeSpec, oracle: Callable[[list[NDArray[np.float32]]], Array]
) -> Exchange:
    """Compare the updates of all steps with an oracle's."""
    exchange = build(spec, topology.group, N)
    for of_workers in gradients(topology):
        update = apply_update(exchange, of_workers[topology.group.rank])
        check_replicas(topology.group, update, "update")
        np.testing.assert_allclose(update, oracle(of_workers), rtol=2e-4, atol=2e-5)
    return exchange


def segments(ends: list[int], workers: int) -> list[slice]:
    """Cut segments at the ends of the workers' parts, which are multiples of 32 numbers."""
    part = 32 * math.ceil(math.ceil(N / 32) / workers)
    cuts = sorted({0, *ends, *range(part, N, part), N})
    return [slice(*pair) for pair in itertools.pairwise(cuts)]


# Signs


def in_two_rounds(
    topology: Topology, ends: list[int], compress: Callable[[Array], Array]
) -> Callable[[list[NDArray[np.float32]]], Array]:
    """Signs with error feedback of all workers, and of the owners of the sums."""
    workers = topology.group.size
    residuals, of_sum = np.zeros((workers, N)), np.zeros(N)

    def oracle(of_workers: list[NDArray[np.float32]]) -> Array:
        update = np.zeros(N)
        for segment in segments(ends, workers):
            for residual, gradient in zip(residuals, of_workers, strict=True):
                residual[segment] += gradient[segment]
                sent = compress(residual[segment])
                residual[segment] -= sent
                of_sum[segment] += sent
            update[segment] = compress(of_sum[segment])
            of_sum[segment] -= update[segment]
        return update

    return oracle


def test_one_bit_sgd_sends_the_means_of_its_columns(topology: Topology) -> None:
    def compress(column: Array) -> Array:
        above = column >= 0
        means = [column[part].mean() if part.any() else 0 for part in (~above, above)]
        return np.where(above, means[1], means[0])

    check(topology, OneBitSpec(), in_two_rounds(topology, column_ends(shapes_of(N)), compress))


def test_ef_signsgd_sends_the_mean_size_of_an_array(topology: Topology) -> None:
    ends = list(itertools.accumulate(map(math.prod, shapes_of(N))))
    oracle = in_two_rounds(
        topology, ends, lambda array: np.where(array >= 0, 1, -1) * np.abs(array).mean()
    )
    check(topology, SignSGDSpec(error_feedback=True), oracle)


@pytest.mark.parametrize("spec", [OneBitSpec(), SignSGDSpec(error_feedback=True)])
def test_signs_lose_nothing(topology: Topology, spec: ExchangeSpec) -> None:
    exchange, update_sum, whole = build(spec, topology.group, N), np.zeros(N), np.zeros(N)
    for of_workers in gradients(topology):
        whole += np.sum(of_workers, axis=0)
        update_sum += apply_update(exchange, of_workers[topology.group.rank])
    state = exchange.state()
    residual = topology.group.allreduce(state["residual"].astype(np.float64))
    of_sum = np.concatenate(topology.group.allgather(state["of_sum"].astype(np.float64)))
    np.testing.assert_allclose(update_sum + residual + of_sum, whole, atol=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_signsgd_is_the_majority_of_the_signs_of_momentum(
    topology: Topology, momentum: float
) -> None:
    means, steps = np.zeros((topology.group.size, N), np.float32), itertools.count()
    shares = np.float32(momentum), np.float32(1) - np.float32(momentum)

    def oracle(of_workers: list[NDArray[np.float32]]) -> Array:
        means[:] = shares[0] * means + shares[1] * np.array(of_workers)
        votes = np.where(means >= 0, 1, -1).sum(axis=0)
        turns = np.where((np.arange(N) + next(steps)) % 2 == 0, 1, -1)
        return np.where(votes == 0, turns, np.sign(votes))

    check(topology, SignSGDSpec(momentum=momentum), oracle)


# QSGD


@pytest.mark.parametrize("feedback", [True, False])
def test_qsgd_to_the_nearest(topology: Topology, feedback: bool) -> None:
    residuals, buckets = np.zeros((topology.group.size, N)), [slice(0, 600), slice(600, N)]

    def oracle(of_workers: list[NDArray[np.float32]]) -> Array:
        update = np.zeros(N)
        residuals[:] = residuals * feedback + np.array(of_workers)
        for bucket in buckets:
            unit = np.abs(residuals[:, bucket]).max() / 5
            sent = unit * np.floor(residuals[:, bucket] / unit + 0.5)
            residuals[:, bucket] -= sent
            update[bucket] = sent.sum(axis=0)
        return update

    spec = QSGDSpec(levels=5, bucket=600, rounding="nearest", error_feedback=feedback)
    check(topology, spec, oracle)


def test_stochastic_rounding_has_the_exact_mean_and_no_other_value(topology: Topology) -> None:
    spec = QSGDSpec(levels=4, bucket=2, error_feedback=False)
    exchange, total, rounds = build(spec, topology.group, N), np.zeros(N), 400
    gradient = np.tile(np.array([1, -0.3], np.float32), N // 2)
    for _ in range(rounds):
        update = apply_update(exchange, gradient)
        units = 4 * update / topology.group.size
        np.testing.assert_array_equal(units[::2], 4)
        if topology.group.size == 1:
            assert set(np.unique(units[1::2])) == {-1, -2}
        total += update
    mean = total[1::2] / rounds / topology.group.size
    # One worker rounds -1.2 to -1 or -2: the deviation of a unit is 0.4.
    deviation = 0.1 / math.sqrt(rounds * topology.group.size)
    assert np.abs(mean + 0.3).max() < 5 * deviation
    assert abs(mean.mean() + 0.3) < 5 * deviation / math.sqrt(N / 2)
    assert mean.std() == pytest.approx(deviation, rel=0.2)


def test_qsgd_rounds_by_the_seed_and_by_the_worker(topology: Topology) -> None:
    gradient = np.full(N, 0.3, np.float32)
    gradient[0] = 1  # so 0.3 is 1.2 units

    def first_update(seed: int) -> NDArray[np.float32]:
        spec = QSGDSpec(levels=4, bucket=N, error_feedback=False)
        return apply_update(spec.build(topology.group, shapes_of(N), None, seed), gradient)

    np.testing.assert_array_equal(first_update(1), first_update(1))
    assert (first_update(1) != first_update(2)).any()
    # Workers that round alike have sums that are multiples of their number.
    units = np.rint(4 * first_update(1)[1:]).astype(int)
    assert topology.group.size == 1 or (units % topology.group.size).any()


# PowerSGD


def test_powersgd_is_a_step_of_power_iteration(topology: Topology) -> None:
    """With its warm start, against NumPy's QR decomposition."""
    rank, workers = 2, topology.group.size
    ends = [0, *itertools.accumulate(map(math.prod, shapes_of(N)))]
    parts = [slice(*pair) for pair in itertools.pairwise(ends)]
    rights = {0: np.zeros((15, rank)), 1: np.zeros((15, rank))}
    for right in rights.values():
        for k in range(rank):
            right[:, k] = np.random.default_rng(k).standard_normal(15, np.float32)
    residuals = np.zeros((workers, N))

    def oracle(of_workers: list[NDArray[np.float32]]) -> Array:
        residuals[:] += np.array(of_workers)
        update = residuals.sum(axis=0)
        residuals[:, parts[2]] = 0
        for number, right in rights.items():
            part, shape = parts[number], shapes_of(N)[number]
            whole = residuals[:, part].sum(axis=0).reshape(shape)
            left, _ = np.linalg.qr(whole @ right)
            right[:] = whole.T @ left
            update[part] = (left @ right.T).ravel()
            residuals[:, part] -= update[part] / workers
        return update

    exchange = check(topology, PowerSGDSpec(rank=rank), oracle)
    np.testing.assert_allclose(
        exchange.state()["residual"], residuals[topology.group.rank], rtol=1e-3, atol=1e-4
    )


def test_powersgd_recovers_from_gradients_of_zeros(topology: Topology) -> None:
    exchange = build(PowerSGDSpec(rank=2), topology.group, N)
    assert not apply_update(exchange, np.zeros(N, np.float32)).any()
    assert apply_update(exchange, np.ones(N, np.float32))[: 3 * 15 * 15].all()


# Top-k


def test_the_k_largest_values_are_sent_and_none_is_lost(topology: Topology) -> None:
    exchange, before = build(TopKSpec(density=0.1), topology.group, 100), np.zeros(100, np.float32)
    for step in range(STEPS):
        eighths = np.random.default_rng([step, topology.group.rank]).integers(-99, 99, 100) / 8
        gradient = eighths.astype(np.float32)
        update = apply_update(exchange, gradient)
        residual = exchange.state()["residual"].copy()
        sent = before + gradient - residual
        assert np.count_nonzero(sent) == 10
        assert np.abs(sent[sent != 0]).min() >= np.abs(residual).max()
        np.testing.assert_array_equal(update, topology.group.allreduce(sent))
        before = residual


def test_deep_gradient_compression_corrects_and_masks_momentum(topology: Topology) -> None:
    momenta, residuals = np.zeros((2, topology.group.size, N))
    steps, counts = itertools.count(), []

    def oracle(of_workers: list[NDArray[np.float32]]) -> Array:
        step, update = next(steps), np.zeros(N)
        density = 0.25 * (0.01 / 0.25) ** (step / 3) if step < 3 else 0.01
        counts.append(round(N * density))
        momenta[:] = 0.9 * momenta + np.array(of_workers)
        residuals[:] += momenta
        for momentum, residual in zip(momenta, residuals, strict=True):
            sent = np.argsort(-np.abs(residual))[: counts[-1]]
            update[sent] += residual[sent]
            residual[sent] = momentum[sent] = 0
        return update

    check(topology, DGCSpec(density=0.01, warmup_steps=3), oracle)
    assert counts == [250, 85, 29, 10, 10]


# All


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (OneBitSpec(), None),
        (SignSGDSpec(), None),
        (QSGDSpec(), None),
        (PowerSGDSpec(rank=1), 4 * (15 + 15 + 30 + 15 + 1000 - 3 * 225)),
        (TopKSpec(density=0.01), 8 * 10),
        (DGCSpec(density=0.01), 8 * 10),
    ],
)
def test_bytes_count_where_they_leave_a_host(spec: ExchangeSpec, size: int | None) -> None:
    for hosts in (["a"] * WORLD.size, [str(rank) for rank in range(WORLD.size)]):
        topology = Topology(WORLD, WORLD.size, hosts)
        build(spec, topology.group, N, meter := Meter())(np.ones(N, np.float32))
        if len(set(hosts)) == 1:
            assert meter.bytes_sent == 0
        else:
            assert size is None or meter.bytes_sent == size
            assert 0 < meter.bytes_sent < 2 * 4 * N
        topology.free()
