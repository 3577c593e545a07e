"""Block filters of others, each against a few lines of NumPy over all groups."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray
from support.placements import placements

from gtcbmuf.core.algorithm import BlockFilter, NoExchange, Worker
from gtcbmuf.core.outer_steps import DiLoCo, SlowMo
from gtcbmuf.methods.bmuf import BMUFSpec
from gtcbmuf.methods.post_local import PostLocalSpec
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
N, FINE = 500, 2.0**-11
Model = NDArray[np.float32]


def change(block: int, group: int, n: int = N) -> Model:
    """Draw the change of a group's model in a block."""
    return np.random.default_rng([block, group]).standard_normal(n).astype(np.float32)


def own_group(topology: Topology) -> int:
    return WORLD.rank // topology.group.size


def slowmo(topology: Topology, model: Model) -> BlockFilter:
    return SlowMo(topology, model, momentum=0.6)


def diloco(topology: Topology, model: Model) -> BlockFilter:
    return DiLoCo(topology, model)


FILTERS = [slowmo, diloco]
Make = Callable[[Topology, Model], BlockFilter]


def train(block_filter: BlockFilter, model: Model, topology: Topology, blocks: range) -> None:
    for block in blocks:
        model += change(block, own_group(topology), model.size)
        block_filter.advance(model, 0.5**block)
        block_filter(model)


@pytest.mark.parametrize("make", FILTERS)
def test_every_placement_on_hosts_gives_the_same_bits(make: Make) -> None:
    results: list[bytes] = []
    for hosts in placements(WORLD.size):
        topology, model = Topology(WORLD, max(WORLD.size // 2, 1), hosts), np.zeros(N, np.float32)
        block_filter = make(topology, model)
        train(block_filter, model, topology, range(4))
        check_replicas(topology.group, model, "model")
        anchor = block_filter.anchor(model)
        check_replicas(WORLD, anchor, "anchor")
        results.append(model.tobytes() + anchor.tobytes())
        topology.free()
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("make", FILTERS)
def test_a_restored_filter_continues_with_the_same_bits(topology: Topology, make: Make) -> None:
    model = np.zeros(N, np.float32)
    block_filter = make(topology, model)
    train(block_filter, model, topology, range(3))
    saved = {name: array.copy() for name, array in block_filter.state().items()}
    middle = model.copy()
    train(block_filter, model, topology, range(3, 6))
    again = make(topology, np.zeros(N, np.float32))
    again.restore(saved)
    train(again, middle, topology, range(3, 6))
    assert middle.tobytes() == model.tobytes()
    assert again.anchor(middle).tobytes() == block_filter.anchor(model).tobytes()


def test_slowmo_is_its_source_in_units_of_the_learning_rate(topology: Topology) -> None:
    beta, alpha, model = 0.6, 0.9, np.linspace(-1, 1, N).astype(np.float32)
    block_filter = SlowMo(topology, model, momentum=beta, learning_rate=alpha, step=FINE)
    x, u = model.astype(np.float64), np.zeros(N)
    for block, rate in enumerate([0.1, 0.2, 0.4, 0.4, 0.2, 0.05]):
        model += change(block, own_group(topology))
        block_filter.advance(model, 7.0)  # the rate of an earlier step
        block_filter.advance(model, rate)
        block_filter(model)
        average = x + np.mean([change(block, group) for group in range(topology.groups)], axis=0)
        u = beta * u + (x - average) / rate
        x = x - alpha * rate * u
        np.testing.assert_allclose(model, x, atol=8 * FINE)
        np.testing.assert_allclose(block_filter.anchor(model), x, atol=8 * FINE)


def test_a_learning_rate_of_zero_leaves_slow_momentum_alone(topology: Topology) -> None:
    model = np.zeros(N, np.float32)
    block_filter = SlowMo(topology, model, momentum=0.5, step=FINE)
    expected = np.zeros(N)
    for block, rate in enumerate([0.0, 1.0, 0.0, 2.0]):
        model += 1
        block_filter.advance(model, rate)
        block_filter(model)
        # The rates 1 and 2 follow each other; 0 counts as the rate before.
        expected += [1, 1.5, 1.75, 1 + 1.75][block]
        np.testing.assert_allclose(model, expected, atol=8 * FINE)


def test_diloco_is_nesterov_block_momentum_bit_for_bit(topology: Topology) -> None:
    """All numbers are multiples of a power of 2, so that both formulas are exact."""
    mu, alpha, theta, v = np.float32(0.5), np.float32(0.5), *np.zeros((2, N), np.float32)
    model = np.zeros(N, np.float32)
    block_filter = DiLoCo(topology, model, momentum=0.5, learning_rate=0.5, step=2.0**-9)
    for block in range(6):
        changes = [np.sign(change(block, group)) / 8 for group in range(topology.groups)]
        model += changes[own_group(topology)]
        block_filter(model)
        gradient = -np.mean(changes, axis=0, dtype=np.float32)  # theta - average
        v = mu * v + gradient
        theta = theta - alpha * (gradient + mu * v)
        np.testing.assert_array_equal(model, theta)
        np.testing.assert_array_equal(block_filter.anchor(model), theta)


def test_a_worker_tells_slowmo_its_learning_rate(topology: Topology) -> None:
    """Two blocks of two steps with the update 1: -0.4, then -0.2 and a half of 0.4 / 2."""
    model = np.zeros(4, np.float32)
    slowmo = SlowMo(topology, model, momentum=0.5, step=FINE)
    worker = Worker(model, NoExchange(4), slowmo, period=2)
    rates = [0.2, 0.2, 0.1, 0.1]
    worker.run(4, lambda step: np.ones(4, np.float32), lambda step: rates[step])
    np.testing.assert_allclose(model, -0.4 - (0.2 + 0.1), atol=0.01)


def test_a_block_of_one_step_is_sync_sgd_with_the_mean_gradient(topology: Topology) -> None:
    model, expected = np.ones(20, np.float32), np.ones(20)
    post_local = PostLocalSpec(synchronous_epochs=2)
    assert [post_local.period_of(epoch) for epoch in range(4)] == [1, 1, 50, 50]
    assert BMUFSpec(period=7).period_of(0) == 7

    def gradient(vector: Any, step: int, group: int) -> Any:
        return vector * (1 + group) + change(step, group, 20)

    worker = Worker(
        model,
        NoExchange(20),
        post_local.build(topology, model, None),
        post_local.period_of(0),
    )
    own = own_group(topology)
    worker.run(30, lambda step: np.float32(gradient(model, step, own)), lambda step: 0.05)
    for step in range(30):
        groups = range(topology.groups)
        expected -= 0.05 * np.mean([gradient(expected, step, group) for group in groups], axis=0)
    np.testing.assert_allclose(model, expected, atol=2e-3)
