"""Tier 2 against the equations of Chen and Huo, in fine and in coarse steps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray
from support.placements import placements

from gtcbmuf.core.algorithm import BMUF, NoFilter
from gtcbmuf.core.checks import NotFiniteError
from gtcbmuf.core.meter import Meter
from gtcbmuf.core.verified import Verified
from gtcbmuf.mpi.job import ReplicaError, check_replicas
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
N = 500
LAST = WORLD.size - 1
FINE = 2.0**-11

Model = NDArray[np.float32]


def change(block: int, group: int, n: int = N) -> Model:
    """Draw the change of a group's model in a block."""
    return np.random.default_rng([block, group]).standard_normal(n).astype(np.float32)


def own_group(topology: Topology) -> int:
    return WORLD.rank // topology.group.size


def run(bmuf: BMUF, model: Model, topology: Topology, first: int, end: int) -> None:
    for block in range(first, end):
        model += change(block, own_group(topology), model.size)
        bmuf(model)


def whole(bmuf: BMUF) -> dict[str, Any]:
    """The state with its vectors put together from the parts of all workers."""
    parts = {name: np.concatenate(WORLD.allgather(part)) for name, part in bmuf.state().items()}
    return {
        name: part[0] if name in ("blocks", "deviation") else part for name, part in parts.items()
    }


# A fine step: the filter of the source


@pytest.mark.parametrize("nesterov", [False, True], ids=["cbm", "nbm"])
@pytest.mark.parametrize(
    ("eta", "zeta", "averaged"), [(None, 1.0, 0), (0.0, 1.0, 0), (0.9, 0.5, 3), (0.5, 2.0, 0)]
)
def test_bmuf_follows_its_equations(
    topology: Topology, eta: float | None, zeta: float, averaged: int, nesterov: bool
) -> None:
    groups = topology.groups
    model = np.linspace(-1, 1, N).astype(np.float32)
    anchor, start = model.astype(np.float64), model.astype(np.float64)
    delta = np.zeros(N)
    bmuf = BMUF(
        topology,
        model,
        momentum=eta,
        learning_rate=zeta,
        nesterov=nesterov,
        step=FINE,
        averaged=averaged,
    )
    later = 1 - 1 / groups if eta is None else eta, zeta
    for block in range(7):
        eta, zeta = later if block >= averaged else (0, 1)
        run(bmuf, model, topology, block, block + 1)
        average = start + np.mean([change(block, group) for group in range(groups)], axis=0)
        delta = eta * delta + zeta * (average - start)
        anchor = anchor + delta
        start = anchor + eta * delta if nesterov else anchor
        np.testing.assert_allclose(model, start, atol=4 * FINE)
        np.testing.assert_allclose(bmuf.anchor(model), anchor, atol=4 * FINE)


@pytest.mark.parametrize("nesterov", [False, True], ids=["cbm", "nbm"])
def test_a_constant_block_gradient_moves_the_anchor_g_fold(
    topology: Topology, nesterov: bool
) -> None:
    """W(t) - W(0) = g * sum over i = 1 .. t of (1 - eta^i) / (1 - eta), and so G g per block."""
    model = np.zeros(8, np.float32)
    bmuf = BMUF(topology, model, nesterov=nesterov, step=FINE)
    g = np.float32(0.125)
    eta = 1 - 1 / topology.groups
    blocks = 15 * topology.groups
    expected = 0.0
    for block in range(1, blocks + 1):
        model += g
        bmuf(model)
        expected += g * (1 - eta**block) / (1 - eta)
    np.testing.assert_allclose(bmuf.anchor(model), expected, rtol=1e-3)


# A coarse step: the equations of the docstring, one block after the other


@pytest.mark.parametrize(
    ("step", "eta", "nesterov"), [(2.0, None, True), (3.0, 0.5, False), (100.0, 0.9, True)]
)
def test_groups_send_steps_and_keep_the_rest(
    topology: Topology, step: float, eta: float | None, nesterov: bool
) -> None:
    groups = topology.groups
    model = np.linspace(-1, 1, N).astype(np.float32)
    bmuf = BMUF(topology, model, momentum=eta, nesterov=nesterov, step=step)
    momentum = 1 - 1 / groups if eta is None else eta
    for block in range(4):
        before, size = whole(bmuf), topology.group.size
        model += change(block, own_group(topology))
        models = np.array(WORLD.allgather(model.copy()))[::size]
        bmuf(model)
        after = whole(bmuf)

        # A step is a multiple of the root mean square of the last changes, or of these first ones.
        changes = models - before["start"]
        deviation = np.sqrt(np.mean(np.square(changes, dtype=np.float64)))
        assert after["deviation"] == pytest.approx(deviation, rel=0.03)
        unit = np.float32(step * before["deviation"])
        if block == 0:
            largest = np.float32(np.abs(changes).max()) / 128
            squares = np.trunc(np.abs(changes) * (np.float32(64) / largest)).astype(np.int64) ** 2
            unit = np.float32(step * np.float32(largest * np.sqrt(squares.mean()) / 64))
        sent = np.rint(changes * (1 / unit))
        assert np.abs(sent).max() > 0 or step == 100
        delta = momentum * before["delta"] + unit * sent.sum(axis=0) / groups
        anchor = before["anchor"] + delta
        start = anchor + momentum * delta if nesterov else anchor
        np.testing.assert_allclose(after["delta"], delta, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(after["anchor"], anchor, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(after["start"], start, rtol=1e-5, atol=1e-5)
        # Nothing is lost: what was sent and what is kept are the change.
        kept = model - after["start"]
        group = own_group(topology)
        np.testing.assert_allclose(unit * sent[group] + kept, changes[group], rtol=1e-5, atol=1e-5)
        check_replicas(topology.group, model, "model")
        check_replicas(WORLD, bmuf.anchor(model), "anchor")
        # What is evaluated is the anchor with what all groups keep, to 16 bits.
        unsent = np.mean(WORLD.allgather(kept), axis=0)
        largest = WORLD.allreduce(np.abs(kept).max(), MPI.MAX)
        np.testing.assert_allclose(
            bmuf.anchor(model), after["anchor"] + unsent, atol=largest / 2**15
        )


@pytest.mark.parametrize("step", [FINE, 2.0, 3.0])
def test_averaging_leaves_the_mean_of_all_models_as_it_is(topology: Topology, step: float) -> None:
    """So nothing is lost or sent twice, however long it takes."""
    model = np.zeros(N, np.float32)
    bmuf = BMUF(topology, model, momentum=0.0, step=step)
    for block in range(6):
        model += change(block, own_group(topology))
        mean = WORLD.allreduce(model.astype(np.float64)) / WORLD.size
        bmuf(model)
        new_mean = WORLD.allreduce(model.astype(np.float64)) / WORLD.size
        np.testing.assert_allclose(new_mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(bmuf.anchor(model), mean, atol=1e-3)
    # Its part in the filter lacks what is unsent: up to half a step of each group.
    unsent = np.abs(whole(bmuf)["anchor"] - mean).max()
    assert unsent <= 0.6 * step * bmuf.state()["deviation"][0]


@pytest.mark.parametrize("step", [FINE, 2.0])
def test_a_millionfold_change_is_sent_within_some_blocks(topology: Topology, step: float) -> None:
    model = np.zeros(N, np.float32)
    bmuf = BMUF(topology, model, momentum=0.0, step=step)
    run(bmuf, model, topology, 0, 2)
    model += np.float32(1e6) * change(2, own_group(topology))
    mean = WORLD.allreduce(model.astype(np.float64)) / WORLD.size
    for _ in range(12):
        bmuf(model)
    assert np.sqrt(np.mean((whole(bmuf)["anchor"] - mean) ** 2)) < 1e5
    np.testing.assert_allclose(
        WORLD.allreduce(model.astype(np.float64)) / WORLD.size, mean, rtol=1e-4, atol=1
    )


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_the_first_changes_may_be_zero(topology: Topology, zeros: int) -> None:
    model = np.ones(N, np.float32)
    bmuf = BMUF(topology, model, momentum=0.0, step=0.5)
    for _ in range(zeros):
        bmuf(model)
        assert (model == 1).all()
        assert (bmuf.anchor(model) == 1).all()
    small = [np.float32(1e-4) * change(0, group) for group in range(topology.groups)]
    model += small[own_group(topology)]
    bmuf(model)
    mean = np.mean(small, axis=0)
    np.testing.assert_allclose(whole(bmuf)["anchor"] - 1, mean, atol=0.26 * 1e-4)
    bmuf(model)  # a block without a change of its own
    assert np.isfinite(model).all()


# Hosts


@pytest.mark.parametrize(("n", "step"), [(1, 2.0), (3, 2.0**-9), (N, 2.0)])
def test_every_placement_on_hosts_gives_the_same_bits(n: int, step: float) -> None:
    """Also if a filter is restored under another placement, whose groups span other hosts."""
    for size in {max(WORLD.size // 2, 1), 1} if n == N else [max(WORLD.size // 2, 1)]:
        expected, state = b"", {}
        for hosts in placements(WORLD.size):
            topology = Topology(WORLD, size, hosts)
            model = np.linspace(-1, 1, n).astype(np.float32)
            bmuf = BMUF(topology, model, nesterov=True, step=step, averaged=1)
            run(bmuf, model, topology, 0, 3)
            saved = {name: vector.copy() for name, vector in bmuf.state().items()}
            middle = model.copy()
            run(bmuf, model, topology, 3, 5)
            result = model.tobytes() + bmuf.anchor(model).tobytes()
            assert result == (expected or result)
            check_replicas(topology.group, model, "model")
            check_replicas(WORLD, bmuf.anchor(model), "anchor")

            other = BMUF(topology, np.zeros(n, np.float32), nesterov=True, step=step, averaged=1)
            other.restore(state or saved)  # that of the placement before this one
            run(other, middle, topology, 3, 5)
            assert middle.tobytes() + other.anchor(middle).tobytes() == result
            expected, state = result, saved
            topology.free()


def test_the_states_of_all_workers_are_the_whole_vectors(topology: Topology) -> None:
    model = np.zeros(N, np.float32)
    bmuf = BMUF(topology, model)
    run(bmuf, model, topology, 0, 2)
    state = whole(bmuf)
    assert state["blocks"] == 2
    assert state["anchor"].shape == state["start"].shape == state["delta"].shape == (N,)
    np.testing.assert_array_equal(state["anchor"], state["start"])  # without a look-ahead


# Errors


def test_different_initial_models_are_refused(topology: Topology) -> None:
    if LAST == 0:
        return
    model = np.zeros(N, np.float32)
    if WORLD.rank == LAST:
        model[7] = 1
    with pytest.raises(ReplicaError, match=rf"ranks \[{LAST}\]"):
        BMUF(topology, model)


def no_filter(topology: Topology, model: Model) -> NoFilter:
    return NoFilter(model.size)


@pytest.mark.parametrize("make", [BMUF, no_filter])
def test_a_model_that_is_not_finite_is_not_sent(
    topology: Topology, make: Callable[[Topology, Model], Any]
) -> None:
    model = np.zeros(N, np.float32)
    block_filter = make(topology, model)
    block_filter(model)
    model[N - 1] = np.nan
    with pytest.raises(NotFiniteError, match="the model of block 2 is not finite in 1 of 500"):
        block_filter(model)


def test_no_filter_does_nothing() -> None:
    model = change(0, WORLD.rank)
    before = model.copy()
    NoFilter(N)(model)
    assert model.tobytes() == before.tobytes()
    assert NoFilter(N).anchor(model).tobytes() == before.tobytes()


def test_verified_names_the_rank_with_a_flipped_bit(topology: Topology) -> None:
    model = np.zeros(N, np.float32)
    verified = Verified(BMUF(topology, model), topology)
    for block in range(2):  # groups keep different changes, which is no error
        model += change(block, own_group(topology))
        verified(model)
    if topology.group.size == 1:
        return  # groups of one rank may differ before the filter
    rank = WORLD.size - 1
    if WORLD.rank == rank:
        model.view(np.uint32)[3] ^= 1
    # All groups raise the error, because they would wait for the group that differs.
    with pytest.raises(ReplicaError, match=rf"end of a block: the replicas of ranks \[{rank}\]"):
        verified(model)


def test_an_evaluation_counts_no_bytes() -> None:
    topology, meter = Topology(WORLD, 1, [f"host {rank}" for rank in range(WORLD.size)]), Meter()
    model = np.zeros(N, np.float32)
    bmuf = BMUF(topology, model, meter=meter)
    model += np.random.default_rng(WORLD.rank).normal(size=N).astype(np.float32)
    bmuf(model)
    sent = meter.bytes_sent
    assert (sent > 0) == (WORLD.size > 1)
    bmuf.anchor(model)
    assert meter.bytes_sent == sent
    topology.free()
