"""Block filters of others, each against a few lines of NumPy over all groups."""

from collections.abc import Callable

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray
from support.placements import placements

from gtcbmuf.base.partition import share
from gtcbmuf.core import sparse_outer
from gtcbmuf.core.algorithm import BlockFilter
from gtcbmuf.core.outer_steps import DiLoCo, SlowMo
from gtcbmuf.core.sparse_outer import SparseOuterStep
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


def sparse(topology: Topology, model: Model) -> BlockFilter:
    return SparseOuterStep(topology, model, density=0.05, decay=0.9, learning_rate=0.8)


FILTERS = [slowmo, diloco, sparse]
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


def whole_residuals(block_filter: BlockFilter, topology: Topology) -> Model:
    """Return the residuals of all groups, (groups, n), from the parts of their workers."""
    parts = WORLD.allgather(block_filter.state()["residual"].copy())
    size = topology.group.size
    return np.stack([np.concatenate(parts[i : i + size]) for i in range(0, WORLD.size, size)])


@pytest.mark.parametrize("n", [N, 10_000])
def test_sparse_loco_sends_two_bits_of_the_largest_numbers(topology: Topology, n: int) -> None:
    """Every worker of a group handles a part, which chunks divide further."""
    density, decay, rate, size = 0.02, np.float32(0.9), 0.8, topology.group.size
    model = np.zeros(n, np.float32)
    block_filter = SparseOuterStep(topology, model, density=density, decay=0.9, learning_rate=rate)
    chunks = []
    for first, end in (share(n, size, worker) for worker in range(size)):
        chunks += [
            slice(begin, min(begin + sparse_outer.CHUNK, end))
            for begin in range(first, end, sparse_outer.CHUNK)
        ]
    deviation = np.array([3], np.float32)
    block_filter.restore({**block_filter.state(), "deviation": deviation})
    for block in range(5):
        start, residuals = model.copy(), whole_residuals(block_filter, topology)
        unit = sparse_outer.UNIT * block_filter.state()["deviation"][0]
        model += change(block, own_group(topology), n)
        models = WORLD.allgather(model.copy())[::size]
        block_filter(model)
        levels = np.zeros((topology.groups, n), np.float32)
        chosen: list[float] = []
        for group in range(topology.groups):
            residual = residuals[group] * decay + models[group] - start
            for chunk in chunks:
                k = max(1, round(density * (chunk.stop - chunk.start)))
                for place in chunk.start + np.argsort(-np.abs(residual[chunk]))[:k]:
                    size_of_level = 1 if abs(residual[place]) < np.float32(1.5) * unit else 2
                    levels[group, place] = np.copysign(size_of_level, residual[place])
                    chosen.append(residual[place])
            residuals[group] = residual - unit * levels[group]
        expected = start + rate * unit * levels.mean(axis=0)
        np.testing.assert_allclose(model, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(whole_residuals(block_filter, topology), residuals)
        rms = np.sqrt(np.mean(np.square(chosen)))
        assert float(block_filter.state()["deviation"][0]) == pytest.approx(rms, rel=0.02)


def test_the_largest_numbers_of_every_chunk_are_found_with_ties_in_order() -> None:
    stream = np.random.default_rng(0)
    for n, density in [(1, 0.5), (40, 0.1), (4096, 0.01), (9000, 0.02)]:
        vector = (stream.integers(-9, 10, n) / 8).astype(np.float32)
        places, expected = np.zeros(n, np.int64), []
        for begin in range(0, n, sparse_outer.CHUNK):
            sizes = np.abs(vector[begin : begin + sparse_outer.CHUNK])
            k = sparse_outer.chosen_in(sizes.size, density)
            expected += sorted(begin + np.argsort(-sizes, kind="stable")[:k])
        count = sparse_outer.find_largest(vector, density, places)
        assert places[:count].tolist() == expected
