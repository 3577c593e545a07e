"""Tier 2 against the equations of Chen and Huo in float64, and against their closed form."""

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.core.algorithm import BMUF, NoFilter
from gtcbmuf.core.verified import Verified
from gtcbmuf.mpi.job import ReplicaError, check_replicas
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
N = 500
LAST = WORLD.size - 1


def change(block: int, group: int) -> NDArray[np.float32]:
    """Draw the change of a group's model in a block."""
    return np.random.default_rng([block, group]).standard_normal(N).astype(np.float32)


@pytest.mark.parametrize("nesterov", [False, True], ids=["cbm", "nbm"])
@pytest.mark.parametrize(("eta", "zeta"), [(None, 1.0), (0.0, 1.0), (0.9, 0.5), (0.5, 2.0)])
@pytest.mark.parametrize("averaged", [0, 3])
def test_bmuf_follows_its_equations(
    topology: Topology, eta: float | None, zeta: float, nesterov: bool, averaged: int
) -> None:
    groups = topology.groups
    own_group = WORLD.rank // topology.group.size
    model = np.linspace(-1, 1, N).astype(np.float32)
    anchor, start = model.astype(np.float64), model.astype(np.float64)
    delta = np.zeros(N)
    bmuf = BMUF(
        topology, model, momentum=eta, learning_rate=zeta, nesterov=nesterov, averaged=averaged
    )
    later = 1 - 1 / groups if eta is None else eta, zeta
    for block in range(7):
        eta, zeta = later if block >= averaged else (0, 1)
        model += change(block, own_group)
        bmuf(model)
        average = start + np.mean([change(block, group) for group in range(groups)], axis=0)
        delta = eta * delta + zeta * (average - start)
        anchor = anchor + delta
        start = anchor + eta * delta if nesterov else anchor
        check_replicas(WORLD, model, "start")
        np.testing.assert_allclose(model, start, rtol=1e-5, atol=2e-5)
        global_model = bmuf.anchor(model)
        check_replicas(WORLD, global_model, "anchor")
        np.testing.assert_allclose(global_model, anchor, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("nesterov", [False, True], ids=["cbm", "nbm"])
def test_a_constant_block_gradient_moves_the_anchor_g_fold(
    topology: Topology, nesterov: bool
) -> None:
    """W(t) - W(0) = g * sum over i = 1 .. t of (1 - eta^i) / (1 - eta), and so G g per block."""
    model = np.zeros(N, np.float32)
    bmuf = BMUF(topology, model, nesterov=nesterov)
    g = np.float32(0.125)
    eta = 1 - 1 / topology.groups
    blocks = 30 * topology.groups
    previous = expected = 0.0
    for block in range(1, blocks + 1):
        model += g
        bmuf(model)
        anchor = bmuf.anchor(model)
        expected += g * (1 - eta**block) / (1 - eta)
        np.testing.assert_allclose(anchor, expected, rtol=1e-5)
        moved, previous = anchor[0] - previous, anchor[0]
    assert moved == pytest.approx(topology.groups * g, rel=1e-3)


@pytest.mark.parametrize("nesterov", [False, True], ids=["cbm", "nbm"])
@pytest.mark.parametrize("n", [1, 3, N])
def test_sharded_leaders_give_the_same_bits(topology: Topology, n: int, nesterov: bool) -> None:
    own_group = WORLD.rank // topology.group.size
    model, sharded_model = np.zeros(n, np.float32), np.zeros(n, np.float32)
    bmuf = BMUF(topology, model, nesterov=nesterov)
    sharded = BMUF(topology, sharded_model, nesterov=nesterov, sharded=True)
    for block in range(5):
        for vector, block_filter in ((model, bmuf), (sharded_model, sharded)):
            vector += change(block, own_group)[:n]
            block_filter(vector)
        assert sharded_model.tobytes() == model.tobytes()
        assert sharded.anchor(sharded_model).tobytes() == bmuf.anchor(model).tobytes()
    vectors = [vector for name, vector in sharded.state().items() if name != "blocks"]
    parts = WORLD.allreduce(sum(vector.size for vector in vectors))
    assert parts == 3 * n


def test_eta_0_is_averaging(topology: Topology) -> None:
    model = np.zeros(N, np.float32)
    bmuf = BMUF(topology, model, momentum=0.0)
    own_group = WORLD.rank // topology.group.size
    for block in range(5):
        model += change(block, own_group)
        mean = WORLD.allreduce(model.astype(np.float64)) / WORLD.size
        bmuf(model)
        np.testing.assert_allclose(model, mean, rtol=1e-5, atol=1e-6)


def test_different_initial_models_are_refused(topology: Topology) -> None:
    if LAST == 0:
        return
    model = np.zeros(N, np.float32)
    if WORLD.rank == LAST:
        model[7] = 1
    with pytest.raises(ReplicaError, match=rf"ranks \[{LAST}\]"):
        BMUF(topology, model)


@pytest.mark.parametrize("sharded", [False, True], ids=["one leader", "sharded"])
@pytest.mark.parametrize("nesterov", [False, True], ids=["cbm", "nbm"])
def test_a_restored_filter_continues_with_the_same_bits(
    topology: Topology, nesterov: bool, sharded: bool
) -> None:
    own_group = WORLD.rank // topology.group.size

    def blocks(bmuf: BMUF, model: NDArray[np.float32], first: int, end: int) -> None:
        for block in range(first, end):
            model += change(block, own_group)
            bmuf(model)

    expected = np.zeros(N, np.float32)
    blocks(BMUF(topology, expected, nesterov=nesterov, sharded=sharded, averaged=5), expected, 0, 6)

    model = np.zeros(N, np.float32)
    before = BMUF(topology, model, nesterov=nesterov, sharded=sharded, averaged=5)
    blocks(before, model, 0, 4)
    saved = {name: vector.copy() for name, vector in before.state().items()}
    after = BMUF(topology, np.zeros(N, np.float32), nesterov=nesterov, sharded=sharded, averaged=5)
    after.restore(saved)
    blocks(after, model, 4, 6)
    assert model.tobytes() == expected.tobytes()


def test_no_filter_does_nothing() -> None:
    model = change(0, WORLD.rank)
    before = model.copy()
    NoFilter(N)(model)
    assert model.tobytes() == before.tobytes()
    assert NoFilter(N).anchor(model).tobytes() == before.tobytes()


def test_verified_names_the_rank_with_a_flipped_bit(topology: Topology) -> None:
    model = np.zeros(N, np.float32)
    verified = Verified(BMUF(topology, model), topology)
    verified(model)
    if topology.group.size == 1:
        return  # groups of one rank may differ before the filter
    rank = WORLD.size - 1
    if WORLD.rank == rank:
        model.view(np.uint32)[3] ^= 1
    # All groups raise the error, because they would wait for the group that differs.
    with pytest.raises(ReplicaError, match=rf"end of a block: the replicas of ranks \[{rank}\]"):
        verified(model)
