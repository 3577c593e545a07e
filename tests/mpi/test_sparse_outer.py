"""SparseLoCo against a few lines of NumPy, for every number of groups."""

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray
from support.placements import placements

from gtcbmuf.core.algorithm import BlockFilter
from gtcbmuf.core.sparse_outer import CHUNK, SparseLoCo
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD

Model = NDArray[np.float32]


def own_group(topology: Topology) -> int:
    return WORLD.rank // topology.group.size


def normal(block: int, group: int, n: int = 500) -> Model:
    """Draw the change of a group in a block."""
    return np.random.default_rng([block, group]).standard_normal(n).astype(np.float32)


LENGTH = 2 * CHUNK + 900  # the last chunk is short


def sparse_change(block: int, group: int) -> Model:
    """Draw a change with numbers of 16 bits, and a scale of its own in every chunk."""
    change = np.round(normal(block, group, LENGTH) * 2**12) / 2**12
    change[CHUNK : 2 * CHUNK] /= 64
    return change.astype(np.float32)


@pytest.mark.parametrize(("density", "decay", "rate"), [(1 / 64, 0.95, 1.0), (0.03, 0.5, 0.7)])
def test_sparse_loco_follows_its_equations(
    topology: Topology, density: float, decay: float, rate: float
) -> None:
    groups, own = range(topology.groups), own_group(topology)
    model = np.linspace(-1, 1, LENGTH).astype(np.float32)
    sparse = SparseLoCo(topology, model, density=density, decay=decay, learning_rate=rate)
    start, residuals = model.copy(), np.zeros((topology.groups, LENGTH), np.float32)
    chunks = [slice(at, min(at + CHUNK, LENGTH)) for at in range(0, LENGTH, CHUNK)]
    for block in range(4):
        model += sparse_change(block, own)
        sparse(model)
        total = np.zeros(LENGTH)
        residuals *= np.float32(decay)
        residuals += [start + sparse_change(block, group) - start for group in groups]
        for chunk in chunks:
            sizes = np.abs(residuals[:, chunk])
            count = round(density * sizes.shape[1])
            places = np.argsort(-sizes, axis=1, kind="stable")[:, :count]
            largest = np.take_along_axis(sizes, places, axis=1)
            unit = 2.0 ** max(nearest_exponent(row.mean(dtype=np.float64)) for row in largest)
            for residual, place in zip(residuals[:, chunk], places, strict=True):
                value = residual[place]
                size = np.abs(value) / unit
                sent = unit * np.sign(value) * np.select([size >= 2, size >= 0.5], [3, 1], 0)
                residual[place] -= sent.astype(np.float32)
                total[chunk][place] += sent
        start = np.float32(start + rate * total / topology.groups)
        np.testing.assert_allclose(model, start, rtol=1e-6, atol=1e-6)
        start = model.copy()
        np.testing.assert_array_equal(whole_residuals(sparse, topology), residuals)
        assert sparse.anchor(model).tobytes() == model.tobytes()
    check_replicas(WORLD, model, "model")
    assert np.abs(model - np.linspace(-1, 1, LENGTH)).max() > 0.1


def nearest_exponent(value: float) -> int:
    below = int(np.floor(np.log2(value)))
    return below + (value >= 1.5 * 2.0**below)


def whole_residuals(sparse: SparseLoCo, topology: Topology) -> Model:
    """The residuals of all groups, put together from the parts of their workers."""
    parts = WORLD.allgather(sparse.state()["residual"])
    return np.concatenate(parts).reshape(topology.groups, LENGTH)


def test_what_sparse_loco_sends_and_keeps_is_the_change_to_the_bit(topology: Topology) -> None:
    """sent + new residual = decayed old residual + change, with powers of two as factors."""
    groups = topology.groups
    model = np.zeros(LENGTH, np.float32)
    sparse = SparseLoCo(topology, model, density=0.02, decay=0.5)
    old, before = np.zeros((groups, LENGTH)), np.zeros(LENGTH)
    for block in range(3):
        change = np.array([sparse_change(block, group) for group in range(groups)], np.float64)
        model += np.float32(change[own_group(topology)])
        changed = np.array(WORLD.allgather(model.copy()), np.float64)[:: topology.group.size]
        sparse(model)
        new = whole_residuals(sparse, topology).astype(np.float64)
        sent = groups * (model.astype(np.float64) - before)
        np.testing.assert_array_equal(sent, (0.5 * old + changed - before - new).sum(axis=0))
        old, before = new, model.astype(np.float64)
    assert np.count_nonzero(sent) > 0


@pytest.mark.parametrize("n", [1, 3, LENGTH])
def test_every_placement_of_sparse_loco_gives_the_same_bits(n: int) -> None:
    """Also if a filter is restored under another placement, and in both halves of a run."""

    def run(sparse: BlockFilter, model: Model, topology: Topology, first: int, end: int) -> None:
        for block in range(first, end):
            model += normal(block, own_group(topology), n)
            sparse(model)

    for size in {1, max(WORLD.size // 2, 1)}:
        expected, state = b"", {}
        for hosts in placements(WORLD.size):
            topology = Topology(WORLD, size, hosts)
            model = np.linspace(-1, 1, n).astype(np.float32)
            sparse = SparseLoCo(topology, model, density=0.02)
            run(sparse, model, topology, 0, 3)
            saved = {name: vector.copy() for name, vector in sparse.state().items()}
            middle = model.copy()
            run(sparse, model, topology, 3, 5)
            assert model.tobytes() == (expected or model.tobytes())
            check_replicas(WORLD, model, "model")

            other = SparseLoCo(topology, np.zeros(n, np.float32), density=0.02)
            other.restore(state or saved)  # that of the placement before this one
            assert other.anchor(middle).tobytes() == middle.tobytes()
            run(other, middle, topology, 3, 5)
            assert middle.tobytes() == model.tobytes()
            expected, state = model.tobytes(), saved
            topology.free()


def test_sparse_loco_sends_nothing_where_nothing_changed(topology: Topology) -> None:
    model = np.ones(LENGTH, np.float32)
    sparse = SparseLoCo(topology, model, density=0.02)
    sparse(model)
    assert (model == 1).all()
    model[5] += 4
    sparse(model)  # the change of one number in one chunk
    np.testing.assert_array_equal(np.flatnonzero(model != 1), [5])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"density": 0.0}, "density = 0.0: expected a number above 0 and below 1"),
        ({"density": 0.1, "decay": 1.5}, "decay = 1.5: expected a number from 0 to 1"),
        ({"density": 0.1, "learning_rate": 0}, "learning_rate = 0: expected"),
    ],
)
def test_numbers_out_of_their_range_are_refused(options: Any, says: str) -> None:
    topology = Topology(MPI.COMM_SELF, 1)
    with pytest.raises(ValueError, match=says):
        SparseLoCo(topology, np.zeros(3, np.float32), **options)
    topology.free()
