"""Tier 1: what is sent and kept, and that a group never parts."""

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
    """Random multiples of 1/8: their sums are exact, so "equal" can mean equal."""
    stream = np.random.default_rng([seed, rank])
    return (stream.integers(-scale, scale + 1, n) / 8).astype(np.float32)


def applied(exchange: Exchange, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    update = np.zeros_like(gradient)
    exchange(gradient).add_to(update, 1.0)
    return update


def members(topology: Topology) -> range:
    """World ranks of this group."""
    first = WORLD.rank // topology.group.size * topology.group.size
    return range(first, first + topology.group.size)


def test_no_exchange_is_the_gradient() -> None:
    gradient = eighths(0, WORLD.rank)
    np.testing.assert_array_equal(applied(NoExchange(N), gradient), gradient)


def test_dense_is_the_sum_over_the_group(topology: Topology) -> None:
    exchange = DenseExchange(topology.group, N)
    for step in range(3):
        update = applied(exchange, eighths(step, WORLD.rank))
        expected = sum(eighths(step, rank) for rank in members(topology))
        np.testing.assert_array_equal(update, expected)


def test_dense_replicas_are_bit_identical(topology: Topology) -> None:
    exchange = DenseExchange(topology.group, N)
    gradient = np.random.default_rng(WORLD.rank).standard_normal(N).astype(np.float32)
    check_replicas(topology.group, applied(exchange, gradient), "dense")


@pytest.mark.parametrize("tau", [0.5, 2.0, 100.0])
@pytest.mark.parametrize("n", [1, 17, N])
def test_gtc_is_strom_s_rule_on_every_worker(topology: Topology, tau: float, n: int) -> None:
    exchange = GTCExchange(topology.group, n, tau)
    residuals = {rank: np.zeros(n, np.float32) for rank in members(topology)}
    for step in range(6):
        update = applied(exchange, eighths(step, WORLD.rank, n))
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
    applied_sum, given_sum = np.zeros(N, np.float32), np.zeros(N, np.float32)
    for step in range(20):
        gradient = eighths(step, WORLD.rank)
        given_sum += gradient
        applied_sum += applied(exchange, gradient)
    kept = topology.group.allreduce(exchange.state()["residual"])
    given = topology.group.allreduce(given_sum)
    np.testing.assert_array_equal(applied_sum + kept, given)


def test_gtc_replicas_are_bit_identical(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, N, 0.3)
    model = np.zeros(N, np.float32)
    stream = np.random.default_rng([1, WORLD.rank])
    for _ in range(20):
        # Densities from nothing to everything: both forms of a message, and none.
        gradient = stream.standard_normal(N) * stream.choice([0, 0.05, 0.3, 3])
        exchange(gradient.astype(np.float32)).add_to(model, -0.0123)
    check_replicas(topology.group, model, "gtc")


def test_gtc_with_workers_that_send_nothing(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, N, 1.0)
    silent = np.zeros(N, np.float32)
    assert not applied(exchange, silent).any()
    speaks = topology.group.rank == topology.group.size - 1
    update = applied(exchange, np.full(N, 1.5, np.float32) if speaks else silent)
    np.testing.assert_array_equal(update, np.ones(N, np.float32))


def test_gtc_sends_at_most_one_tau_a_step(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, 4, 1.0)
    update = applied(exchange, np.array([10, -10, 0.5, -0.5], np.float32))
    np.testing.assert_array_equal(update, topology.group.size * np.array([1, -1, 0, 0]))
    np.testing.assert_array_equal(exchange.state()["residual"], [9, -9, 0.5, -0.5])


def test_flush_sends_all_that_is_left(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, N, 0.75, meter := Meter())
    applied_sum, given = np.zeros(N, np.float32), np.zeros(N, np.float32)
    for step in range(5):
        applied_sum += applied(exchange, eighths(step, WORLD.rank))
        given += eighths(step, WORLD.rank)
    meter.reset()
    exchange.flush().add_to(applied_sum, 1.0)
    np.testing.assert_array_equal(applied_sum, topology.group.allreduce(given))
    assert not exchange.state()["residual"].any()
    assert meter.bytes_sent == (4 * N if topology.group.size > 1 else 0)


def test_forget_drops_the_residual(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, N, 1.0)
    applied(exchange, np.full(N, 0.75, np.float32))
    exchange.forget()
    assert not applied(exchange, np.full(N, 0.75, np.float32)).any()


def test_a_restored_exchange_goes_on_as_if_nothing_had_been(topology: Topology) -> None:
    def steps(exchange: Exchange, first: int, end: int) -> NDArray[np.float32]:
        return np.array([applied(exchange, eighths(s, WORLD.rank)) for s in range(first, end)])

    whole = steps(GTCExchange(topology.group, N, 0.7), 0, 8)
    before = GTCExchange(topology.group, N, 0.7)
    steps(before, 0, 5)
    after = GTCExchange(topology.group, N, 0.7)
    after.restore({name: vector.copy() for name, vector in before.state().items()})
    assert steps(after, 5, 8).tobytes() == whole[5:].tobytes()


def noise(step: int, rank: int, n: int) -> NDArray[np.float32]:
    return np.random.default_rng([step, rank]).standard_normal(n).astype(np.float32)


def test_tau_follows_the_density_by_its_formula(topology: Topology) -> None:
    density = 0.01
    exchange = GTCExchange(topology.group, N, 3.0, density=density)
    residuals = {rank: np.zeros(N) for rank in members(topology)}
    tau = np.float32(3.0)
    for step in range(50):
        assert exchange.tau == pytest.approx(tau, rel=1e-6)
        tau = np.float32(exchange.tau)
        update = applied(exchange, eighths(step, WORLD.rank))
        sent, expected = 0, np.zeros(N, np.float32)
        for rank, residual in residuals.items():
            residual += eighths(step, rank)
            reached = np.abs(residual) >= tau
            expected += np.where(reached, np.sign(residual) * tau, 0).astype(np.float32)
            residual -= np.where(reached, np.sign(residual) * tau, 0)
            sent += reached.sum()
        np.testing.assert_allclose(update, expected, rtol=1e-5)
        ratio = np.clip(sent / (N * len(residuals)) / density, 0.25, 4)
        tau = tau * ratio ** (0.5 * np.sqrt(density))
    check_replicas(topology.group, np.array([exchange.tau]), "tau")


@pytest.mark.parametrize("density", [0.001, 0.01, 0.2])
@pytest.mark.parametrize("tau", [0.5, 100.0])
def test_the_density_is_reached_from_both_sides(density: float, tau: float) -> None:
    exchange = GTCExchange(MPI.COMM_SELF, 20000, tau, meter := Meter(), density=density)
    for step in range(1000):
        exchange(noise(step, 0, 20000))
        if step == 699:
            meter.reset()
    assert meter.updates_sent / (300 * 20000) == pytest.approx(density, rel=0.15)


def test_without_gradients_tau_stays_a_number_that_can_be_sent(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, 8, 2e-30, density=0.9)
    for _ in range(20):
        assert not applied(exchange, np.zeros(8, np.float32)).any()
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


def test_the_meter_counts_what_is_sent_to_others(topology: Topology) -> None:
    meter = Meter()
    alone = topology.group.size == 1
    GTCExchange(topology.group, N, 1.0, meter)(np.eye(1, N, 3, dtype=np.float32)[0])
    assert meter.updates_sent == 1
    assert meter.bytes_sent == (0 if alone else 4 * 16)  # the first slot
    meter.reset()
    DenseExchange(topology.group, N, meter)(np.ones(N, np.float32))
    assert meter.updates_sent == N
    assert meter.bytes_sent == (0 if alone else 4 * N)
