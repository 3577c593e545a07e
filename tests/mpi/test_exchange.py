"""Tier 1: updates, residuals, and replicas that stay equal, wherever the workers are."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray
from support.placements import placements
from support.rivals import RIVALS

from gtcbmuf.core.algorithm import DenseExchange, Exchange, GTCExchange, NoExchange
from gtcbmuf.core.checks import NotFiniteError
from gtcbmuf.core.meter import Meter
from gtcbmuf.core.wire import HEADER
from gtcbmuf.methods.dense import IntegerExchange
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.shared_memory import hosts_of
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
N = 1000
Bits = Literal[8, 16]


def eighths(seed: int, rank: int, n: int = N, scale: int = 8) -> NDArray[np.float32]:
    """Draw random multiples of 1/8. Their sums are exact, so tests can compare bits."""
    stream = np.random.default_rng([seed, rank])
    return (stream.integers(-scale, scale + 1, n) / 8).astype(np.float32)


def noise(step: int, rank: int, n: int = N) -> NDArray[np.float32]:
    return np.random.default_rng([step, rank]).standard_normal(n).astype(np.float32)


def apply_update(exchange: Exchange, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
    update = np.zeros_like(gradient)
    exchange(gradient).add_to(update, 1.0)
    return update


def members(topology: Topology) -> range:
    """Return the world ranks of this group."""
    first = WORLD.rank // topology.group.size * topology.group.size
    return range(first, first + topology.group.size)


def gtc(group: MPI.Comm, n: int = N, meter: Meter | None = None) -> GTCExchange:
    return GTCExchange(group, n, 0.7, meter, density=0.1)


def in_8_bits(group: MPI.Comm, n: int = N, meter: Meter | None = None) -> IntegerExchange:
    return IntegerExchange(group, n, 8, meter)


def in_16_bits(group: MPI.Comm, n: int = N, meter: Meter | None = None) -> IntegerExchange:
    return IntegerExchange(group, n, 16, meter)


Make = Callable[..., Exchange]
#: Those that add up integers, as GTC does.
INTEGERS: list[Make] = [gtc, in_8_bits, in_16_bits]
EXCHANGES = [*INTEGERS, *RIVALS]


# All


@pytest.mark.parametrize("n", [3, N])
@pytest.mark.parametrize("make", EXCHANGES)
def test_every_placement_on_hosts_gives_the_same_bits(make: Make, n: int) -> None:
    results: list[list[bytes]] = []
    for hosts in placements(WORLD.size):
        topology = Topology(WORLD, max(WORLD.size // 2, 1), hosts)
        exchange, model = make(topology.group, n), np.zeros(n, np.float32)
        for step in range(4):
            exchange(3.0**-step * noise(step, WORLD.rank, n)).add_to(model, -0.0123)
        check_replicas(topology.group, model, "model")
        results.append([model.tobytes(), *(part.tobytes() for part in exchange.state().values())])
        topology.free()
    assert np.frombuffer(results[0][0], np.float32).any() or n < N
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("make", EXCHANGES)
def test_a_restored_exchange_continues_with_the_same_bits(topology: Topology, make: Make) -> None:
    def steps(exchange: Exchange, first: int, end: int) -> NDArray[np.float32]:
        return np.array([apply_update(exchange, noise(s, WORLD.rank)) for s in range(first, end)])

    expected = steps(make(topology.group), 0, 8)
    before = make(topology.group)
    steps(before, 0, 5)
    after = make(topology.group)
    after.restore({name: vector.copy() for name, vector in before.state().items()})
    assert steps(after, 5, 8).tobytes() == expected[5:].tobytes()


@pytest.mark.parametrize("make", [*EXCHANGES, DenseExchange])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_not_sent(make: Make, value: float) -> None:
    exchange = make(MPI.COMM_SELF, 2000)
    apply_update(exchange, np.zeros(2000, np.float32))
    for place in (0, 1023, 1024, 1999):
        gradient = np.ones(2000, np.float32)
        gradient[place] = value
        with pytest.raises(NotFiniteError, match="gradient of step") as error:
            exchange(gradient)
        assert (error.value.first, error.value.last, error.value.count) == (place, place, 1)
        exchange.forget()


@pytest.mark.parametrize("make", INTEGERS)
def test_the_meter_counts_updates_and_the_bytes_that_leave_a_host(make: Make) -> None:
    silent = np.zeros(N, np.float32)
    for hosts in placements(WORLD.size):
        topology = Topology(WORLD, WORLD.size, hosts)
        exchange = make(topology.group, N, meter := Meter())
        exchange(silent)
        lane = hosts_of(topology.group).lane
        # Every message is a header: the shares of the others, then the sum of this rank's share.
        # Between two hosts there is one message, and no sum.
        others = len(set(hosts)) - 1 if lane != MPI.COMM_NULL else 0
        rounds = 2 if others > 1 else 1
        assert meter.bytes_sent == rounds * others * 4 * HEADER
        assert meter.updates_sent == (0 if make is gtc else N)
        topology.free()


# GTC


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


@pytest.mark.parametrize("hosts", placements(WORLD.size)[:3], ids="".join)
def test_gtc_loses_nothing(hosts: list[str]) -> None:
    topology = Topology(WORLD, WORLD.size, hosts)
    exchange = GTCExchange(topology.group, N, 0.75)
    update_sum, gradient_sum = np.zeros(N, np.float32), np.zeros(N, np.float32)
    for step in range(8):
        gradient = eighths(step, WORLD.rank)
        gradient_sum += gradient
        update_sum += apply_update(exchange, gradient)
    residual_sum = topology.group.allreduce(exchange.state()["residual"])
    expected = topology.group.allreduce(gradient_sum)
    np.testing.assert_array_equal(update_sum + residual_sum, expected)
    topology.free()


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


def test_forget_drops_the_residual(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, N, 1.0)
    apply_update(exchange, np.full(N, 0.75, np.float32))
    exchange.forget()
    assert not apply_update(exchange, np.full(N, 0.75, np.float32)).any()


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


def test_gtc_counts_the_updates_of_a_worker(topology: Topology) -> None:
    exchange = GTCExchange(topology.group, N, 1.0, meter := Meter())
    exchange(np.eye(1, N, 3, dtype=np.float32)[0])
    assert meter.updates_sent == 1


# Dense


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
    check_replicas(topology.group, apply_update(exchange, noise(0, WORLD.rank)), "dense")


@pytest.mark.parametrize(("bits", "steps"), [(8, 2**4), (16, 2**8)])
def test_integers_are_steps_of_the_residual_and_the_rest_stays(
    topology: Topology, bits: Bits, steps: int
) -> None:
    """A root mean square of 1 makes the step a power of 2, so that all sums are exact."""
    exchange = IntegerExchange(topology.group, N, bits)
    before = {rank: eighths(1, rank) / 64 for rank in members(topology)}
    state = {"residual": before[WORLD.rank], "deviation": np.ones(1, np.float32)}
    exchange.restore(state)

    def gradient(rank: int) -> NDArray[np.float32]:
        gradient = eighths(2, rank, scale=24) + eighths(3, rank) / 4096
        gradient[:2] = 1000, -1000  # beyond the largest integer
        return gradient

    update = apply_update(exchange, gradient(WORLD.rank))
    most, expected = 2 ** (bits - 1) - 1, np.zeros(N)
    for rank, residual in before.items():
        whole = residual.astype(np.float64) + gradient(rank)
        sent = np.clip(np.rint(whole * steps), -most, most) / steps
        expected += sent
        if rank == WORLD.rank:
            np.testing.assert_array_equal(exchange.state()["residual"], whole - sent)
    np.testing.assert_array_equal(update, expected)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("growth", [1.0, 1e-4, 1e6], ids=["steady", "falling", "rising"])
def test_integers_lose_nothing(topology: Topology, bits: Bits, growth: float) -> None:
    exchange = IntegerExchange(topology.group, N, bits)
    update_sum, gradient_sum = np.zeros(N), np.zeros(N)
    for step in range(9):
        gradient = noise(step, WORLD.rank) * np.float32(growth if step > 3 else 1)
        gradient_sum += gradient
        update_sum += apply_update(exchange, gradient)
    residual = exchange.state()["residual"]
    whole = topology.group.allreduce(gradient_sum)
    largest = max(growth, 1) * len(members(topology))
    np.testing.assert_allclose(
        update_sum + topology.group.allreduce(residual.astype(np.float64)), whole,
        rtol=1e-5, atol=1e-5 * largest,
    )  # fmt: skip
    # The step follows the gradients, so that only a part of a step stays unsent.
    assert np.abs(residual).max() < 0.2 * max(growth, 1)


@pytest.mark.parametrize("bits", [8, 16])
def test_small_gradients_after_zeros_are_sent(topology: Topology, bits: Bits) -> None:
    exchange = IntegerExchange(topology.group, N, bits)
    for step in range(2):
        assert not apply_update(exchange, np.zeros(N, np.float32)).any()
        gradients = [np.float32(1e-6) * noise(step, rank) for rank in members(topology)]
        update = apply_update(exchange, gradients[topology.group.rank])
        np.testing.assert_allclose(update, sum(gradients), atol=1e-7 * len(gradients))
        exchange.forget()


@pytest.mark.parametrize("hosts", placements(WORLD.size)[:3], ids="".join)
def test_dense_counts_its_updates_and_the_bytes_that_leave_a_host(hosts: list[str]) -> None:
    topology = Topology(WORLD, WORLD.size, hosts)
    DenseExchange(topology.group, N, meter := Meter())(np.ones(N, np.float32))
    assert meter.updates_sent == N
    assert meter.bytes_sent == (0 if len(set(hosts)) == 1 else 4 * N)
    topology.free()
