"""Tier 1: updates, residuals, and replicas that stay equal."""

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.core.algorithm import DenseExchange, Exchange, GTCExchange, NoExchange
from gtcbmuf.core.meter import Meter
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
N = 1000


def eighths(seed: int, rank: int, n: int = N, scale: int = 8) -> NDArray[np.float32]:
    """Draw random multiples of 1/8. Their sums are exact, so tests can compare bits."""
    stream = np.random.default_rng([seed, rank])
    return (stream.integers(-scale, scale + 1, n) / 8).astype(np.float32)


def apply_update(exchange: Exchange, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    update = np.zeros_like(gradient)
    exchange(gradient).add_to(update, 1.0)
    return update


def members(topology: Topology) -> range:
    """Return the world ranks of this group."""
    first = WORLD.rank // topology.group.size * topology.group.size
    return range(first, first + topology.group.size)


def test_no_exchange_is_the_gradient() -> None:
    gradient = eighths(0, WORLD.rank)
    np.testing.assert_array_equal(apply_update(NoExchange(N), gradient), gradient)


def test_dense_is_the_sum_over_the_group(topology: Topology) -> None:
    exchange = DenseExchange(topology.group, N)
    for step in range(3):
        update = apply_update(exchange, eighths(step, WORLD.rank))
        expected = sum(eighths(step, rank) for rank in members(topology))
        np.testing.assert_array_equal(update, expected)


def test_dense_replicas_are_bit_identical(topology: Topology) -> None:
    exchange = DenseExchange(topology.group, N)
    gradient = np.random.default_rng(WORLD.rank).standard_normal(N).astype(np.float32)
    check_replicas(topology.group, apply_update(exchange, gradient), "dense")


@pytest.mark.parametrize("tau", [0.5, 2.0, 100.0])
@pytest.mark.parametrize("n", [1, 17, N])
def test_gtc_follows_the_rule_of_strom_on_every_worker(
    topology: Topology, tau: float, n: int
) -> None:
    exchange = GTCExchange(topology.group, n, tau)
    residuals = {rank: np.zeros(n, np.float32) for rank in members(topology)}
    for step in range(6):
        update = apply_update(exchange, eighths(step, WORLD.rank, n))
        expected = np.zeros(n, np.float32)
        for rank, residual in residuals.items():
            residual += eighths(step, rank, n)
            sent = np.where(np.abs(residual) >= tau, np.sign(residual) * tau, 0)
            residual -= sent
            expected += sent
        np.testing.assert_array_equal(update, expected)
        np.testing.assert_array_equal(exchange.state()["residual"], residuals[WORLD.rank])


def test_gtc_loses_nothing(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, N, 0.75)
    update_sum, gradient_sum = np.zeros(N, np.float32), np.zeros(N, np.float32)
    for step in range(20):
        gradient = eighths(step, WORLD.rank)
        gradient_sum += gradient
        update_sum += apply_update(exchange, gradient)
    residual_sum = topology.group.allreduce(exchange.state()["residual"])
    expected = topology.group.allreduce(gradient_sum)
    np.testing.assert_array_equal(update_sum + residual_sum, expected)


def test_gtc_replicas_are_bit_identical(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, N, 0.3)
    model = np.zeros(N, np.float32)
    stream = np.random.default_rng([1, WORLD.rank])
    for _ in range(20):
        # Densities from 0 to 1 cover both forms of a message, and the empty message.
        gradient = stream.standard_normal(N) * stream.choice([0, 0.05, 0.3, 3])
        exchange(gradient.astype(np.float32)).add_to(model, -0.0123)
    check_replicas(topology.group, model, "gtc")


def test_gtc_with_workers_that_send_nothing(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, N, 1.0)
    silent = np.zeros(N, np.float32)
    assert not apply_update(exchange, silent).any()
    is_sender = topology.group.rank == topology.group.size - 1
    update = apply_update(exchange, np.full(N, 1.5, np.float32) if is_sender else silent)
    np.testing.assert_array_equal(update, np.ones(N, np.float32))


def test_gtc_sends_at_most_one_tau_a_step(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, 4, 1.0)
    update = apply_update(exchange, np.array([10, -10, 0.5, -0.5], np.float32))
    np.testing.assert_array_equal(update, topology.group.size * np.array([1, -1, 0, 0]))
    np.testing.assert_array_equal(exchange.state()["residual"], [9, -9, 0.5, -0.5])


def test_flush_sends_the_residual(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, N, 0.75, meter := Meter())
    update_sum, gradient_sum = np.zeros(N, np.float32), np.zeros(N, np.float32)
    for step in range(5):
        update_sum += apply_update(exchange, eighths(step, WORLD.rank))
        gradient_sum += eighths(step, WORLD.rank)
    meter.reset()
    exchange.flush().add_to(update_sum, 1.0)
    np.testing.assert_array_equal(update_sum, topology.group.allreduce(gradient_sum))
    assert not exchange.state()["residual"].any()
    assert meter.bytes_sent == (4 * N if topology.group.size > 1 else 0)


def test_forget_drops_the_residual(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, N, 1.0)
    apply_update(exchange, np.full(N, 0.75, np.float32))
    exchange.forget()
    assert not apply_update(exchange, np.full(N, 0.75, np.float32)).any()


def test_a_restored_exchange_continues_with_the_same_bits(topology: Topology) -> None:
    def steps(exchange: Exchange, first: int, end: int) -> NDArray[np.float32]:
        return np.array([apply_update(exchange, eighths(s, WORLD.rank)) for s in range(first, end)])

    expected = steps(GTCExchange(topology.group, N, 0.7), 0, 8)
    before = GTCExchange(topology.group, N, 0.7)
    steps(before, 0, 5)
    after = GTCExchange(topology.group, N, 0.7)
    after.restore({name: vector.copy() for name, vector in before.state().items()})
    assert steps(after, 5, 8).tobytes() == expected[5:].tobytes()


def noise(step: int, rank: int, n: int) -> NDArray[np.float32]:
    return np.random.default_rng([step, rank]).standard_normal(n).astype(np.float32)


@pytest.mark.parametrize(("density", "zeros"), [(0.01, 0), (0.5, 700)])
def test_tau_follows_the_density_by_its_formula(
    topology: Topology, density: float, zeros: int
) -> None:
    """Gradients of the last `zeros` parameters are 0, so the second density is out of reach."""
    exchange = GTCExchange(topology.group, N, 3.0, density=density)
    residuals = {rank: np.zeros(N) for rank in members(topology)}
    tau, backlogs = np.float32(3.0), 0

    def gradient(step: int, rank: int) -> NDArray[np.float32]:
        return np.where(np.arange(N) < N - zeros, eighths(step, rank), 0).astype(np.float32)

    for step in range(50):
        assert exchange.tau == pytest.approx(tau, rel=1e-6)
        tau = np.float32(exchange.tau)
        update = apply_update(exchange, gradient(step, WORLD.rank))
        sent, full, expected = 0, 0, np.zeros(N, np.float32)
        for rank, residual in residuals.items():
            residual += gradient(step, rank)
            reached = np.abs(residual) >= tau
            expected += np.where(reached, np.sign(residual) * tau, 0).astype(np.float32)
            residual -= np.where(reached, np.sign(residual) * tau, 0)
            sent += reached.sum()
            full += (np.abs(residual) >= tau).sum() > reached.sum() / 2
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-6)
        ratio = np.clip(sent / (N * len(residuals)) / density, 0.25, 4)
        if full > len(residuals) / 2:
            ratio, backlogs = max(ratio, 2), backlogs + 1
        tau = tau * ratio ** (0.5 * np.sqrt(density))
    assert exchange.backlogs == backlogs
    assert (backlogs > 0) == (zeros > 0)
    check_replicas(topology.group, np.array([exchange.tau]), "tau")


def test_without_gradients_tau_stays_above_its_lower_bound(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, 8, 2e-30, density=0.9)
    for _ in range(20):
        assert not apply_update(exchange, np.zeros(8, np.float32)).any()
    assert exchange.tau == pytest.approx(1e-30)


def test_a_restored_exchange_has_its_tau(topology: Topology) -> None:
    before, after = (GTCExchange(topology.group, N, 4.0, density=0.02) for _ in range(2))
    for step in range(5):
        before(noise(step, WORLD.rank, N))
    after.restore({name: array.copy() for name, array in before.state().items()})
    assert after.tau == before.tau != 4.0
    for exchange in (before, after):
        exchange(noise(5, WORLD.rank, N))
    assert after.tau == before.tau


def test_the_meter_counts_updates_and_bytes(topology: Topology) -> None:
    meter = Meter()
    alone = topology.group.size == 1
    GTCExchange(topology.group, N, 1.0, meter)(np.eye(1, N, 3, dtype=np.float32)[0])
    assert meter.updates_sent == 1
    assert meter.bytes_sent == (0 if alone else 4 * 16)  # the first slot
    meter.reset()
    DenseExchange(topology.group, N, meter)(np.ones(N, np.float32))
    assert meter.updates_sent == N
    assert meter.bytes_sent == (0 if alone else 4 * N)
