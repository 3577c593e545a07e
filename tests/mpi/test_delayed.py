"""Tier 2 behind the next block: the result arrives some steps later, and nothing else changes."""

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray
from support.placements import placements

from gtcbmuf.core.algorithm import BMUF
from gtcbmuf.core.delayed import DelayedBMUF
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
N, PERIOD, DELAY, STEPS = 300, 4, 2, 18
FINE = 2.0**-11

Model = NDArray[np.float32]


def move(step: int, group: int) -> Model:
    """Draw a group's update of a step."""
    return np.random.default_rng([step, group]).standard_normal(N).astype(np.float32)


def build(topology: Topology, model: Model, **options: Any) -> DelayedBMUF:
    return DelayedBMUF(topology, model, delay=DELAY, period=PERIOD, nesterov=True, **options)


def train(bmuf: BMUF, model: Model, topology: Topology, first: int, end: int) -> None:
    """Run some steps of an epoch of STEPS, as `Worker.run` does."""
    for step in range(first, end):
        model += move(step, WORLD.rank // topology.group.size)
        bmuf.advance(model, 1.0)
        if (step + 1) % PERIOD == 0 or step + 1 == STEPS:
            bmuf(model, wait=step + 1 == STEPS)


def test_the_result_of_a_block_arrives_after_the_delay(topology: Topology) -> None:
    """The equations in float64: M gets S(t) - S(t-1) - (its change) when the sum arrives."""
    groups = topology.groups
    own, eta, ahead = WORLD.rank // topology.group.size, 1 - 1 / groups, 1 + DELAY / PERIOD
    model = np.zeros(N, np.float32)
    bmuf = build(topology, model, step=FINE)
    models, start, anchor, delta = (np.zeros((groups, N)), *np.zeros((3, N)))
    late: list[tuple[int, Any]] = []

    def filtered() -> tuple[Any, Any]:
        change = models - start
        moved = eta * delta + change.mean(axis=0)
        return moved, anchor + moved + eta * ahead * moved - start - change

    for step in range(STEPS):
        train(bmuf, model, topology, step, step + 1)
        models = models + [move(step, group) for group in range(groups)]
        last = step + 1 == STEPS
        if late and (step == late[0][0] or last):
            models = models + late.pop()[1]
            start = anchor + eta * ahead * delta
        if (step + 1) % PERIOD == 0 or last:
            delta, jump = filtered()
            anchor = anchor + delta
            late.append((step + DELAY, jump))
            if last:
                models = models + late.pop()[1]
        np.testing.assert_allclose(model, models[own], atol=0.02)
    np.testing.assert_allclose(bmuf.anchor(model), anchor, atol=0.02)


def test_replicas_and_anchors_are_equal_for_every_placement() -> None:
    results = set()
    for hosts in placements(WORLD.size):
        topology = Topology(WORLD, max(WORLD.size // 2, 1), hosts)
        model = np.zeros(N, np.float32)
        bmuf = build(topology, model)
        train(bmuf, model, topology, 0, STEPS)
        check_replicas(topology.group, model, "model")
        anchor = bmuf.anchor(model)
        check_replicas(WORLD, anchor, "anchor")
        results.add((model.tobytes(), anchor.tobytes()))
        topology.free()
    assert len(results) == 1


@pytest.mark.parametrize("stop", [PERIOD + 1, 2 * PERIOD, 3 * PERIOD + DELAY])
def test_a_filter_restored_within_a_delay_continues_with_the_same_bits(
    topology: Topology, stop: int
) -> None:
    expected = np.zeros(N, np.float32)
    train(build(topology, expected), expected, topology, 0, STEPS)

    model = np.zeros(N, np.float32)
    before = build(topology, model)
    train(before, model, topology, 0, stop)
    saved = {name: array.copy() for name, array in before.state().items()}
    after = build(topology, np.zeros(N, np.float32))
    after.restore(saved)
    train(after, model, topology, stop, STEPS)
    assert model.tobytes() == expected.tobytes()


def test_an_epoch_that_waits_at_every_block_is_not_delayed(topology: Topology) -> None:
    plain, delayed = np.zeros(N, np.float32), np.zeros(N, np.float32)
    filters = (BMUF(topology, plain), DelayedBMUF(topology, delayed, delay=1, period=2))
    for step in range(3):
        for model, block_filter in zip((plain, delayed), filters, strict=True):
            model += move(step, WORLD.rank // topology.group.size)
            block_filter.advance(model, 1.0)
            block_filter(model)
    assert delayed.tobytes() == plain.tobytes()


def test_a_delay_of_a_block_is_refused(topology: Topology) -> None:
    with pytest.raises(ValueError, match="period = 3: expected an integer from 4"):
        DelayedBMUF(topology, np.zeros(N, np.float32), delay=3, period=3)
