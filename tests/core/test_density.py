"""A threshold that follows a density: where it ends, for one worker. tests/mpi has the formula."""

from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.core.algorithm import GTCExchange
from gtcbmuf.core.meter import Meter

N, STEPS = 20000, 1000


def noise(step: int) -> NDArray[np.float32]:
    return np.random.default_rng(step).standard_normal(N).astype(np.float32)


@pytest.mark.parametrize("density", [0.001, 0.01, 0.2])
@pytest.mark.parametrize("tau", [0.5, 100.0])
def test_the_density_is_reached_from_both_sides(density: float, tau: float) -> None:
    exchange = GTCExchange(MPI.COMM_SELF, N, tau, meter := Meter(), density=density)
    for step in range(STEPS):
        exchange(noise(step))
        if step == 699:
            meter.reset()
    assert meter.updates_sent / (300 * N) == pytest.approx(density, rel=0.15)


def test_a_density_out_of_reach_leaves_tau_where_most_is_sent() -> None:
    """Of ten parameters nine have no gradient, and the density is to be a half."""
    exchange = GTCExchange(MPI.COMM_SELF, N, 1.0, meter := Meter(), density=0.5)
    gradient_sum, update_sum = np.zeros(N), np.zeros(N, np.float32)
    for step in range(STEPS):
        gradient = np.where(np.arange(N) < N // 10, 0.1 + noise(step), 0).astype(np.float32)
        gradient_sum += gradient
        exchange(gradient).add_to(update_sum, 1.0)
    assert 0.02 < meter.updates_sent / (STEPS * N) < 0.1
    assert exchange.backlogs > STEPS / 10
    assert 0.2 < exchange.tau < 2  # the gradients have a standard deviation of 1
    assert update_sum.sum() == pytest.approx(gradient_sum.sum(), rel=0.02)


def test_more_workers_than_counts_hold_are_refused() -> None:
    group = SimpleNamespace(size=2**15)
    with pytest.raises(ValueError, match=r"^workers of a group = 32768: expected an integer from "):
        GTCExchange(group, N, 1.0)  # type: ignore[arg-type]
