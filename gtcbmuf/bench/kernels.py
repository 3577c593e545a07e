"""Benchmark of the kernels that select updates, against simpler work on the same vector."""

import numpy as np
from mpi4py import MPI

from gtcbmuf.base.arrays import Vector
from gtcbmuf.bench.figures import Figure, summarise, time_in_turns
from gtcbmuf.core import kernels
from gtcbmuf.methods.top_k import TopKExchange

PARAMETERS = 8_000_000
GOALS = {1e-4: None, 1e-3: 1.25, 1e-2: 2.5}


def measure(rounds: int) -> list[Figure]:
    """Time the threshold and the top-k selection for each density in GOALS.

    The indices of the updates are random.

    Args:
        rounds: rounds of each measurement.

    Returns:
        Figures of the threshold, then figures of the selection.
    """
    stream = np.random.default_rng(0)
    updates = np.empty(PARAMETERS // 16 + kernels.MASK_BITS, np.uint32)
    residual = np.empty(PARAMETERS, np.float32)
    tau = np.float32(1)
    thresholds, selections = [], []
    for density, goal in GOALS.items():
        gradient = stream.normal(0, 0.1, PARAMETERS).astype(np.float32)
        crossing = stream.random(PARAMETERS) < density
        gradient[crossing] = np.copysign(np.float32(1.5), gradient[crossing])
        top_k = TopKExchange(MPI.COMM_SELF, PARAMETERS, density)

        def add(gradient: Vector = gradient) -> None:
            np.add(residual, gradient, out=residual)

        def take(gradient: Vector = gradient) -> None:
            kernels.take(residual, gradient, tau, updates)

        def select(gradient: Vector = gradient, top_k: TopKExchange = top_k) -> None:
            top_k(gradient)

        def prepare(top_k: TopKExchange = top_k) -> None:
            residual.fill(0)
            top_k.forget()

        candidates = {"add": add, "take": take, "select": select}
        times = time_in_turns(candidates, rounds=rounds, prepare=prepare)
        size = f"{PARAMETERS / 1e6:g} M parameters, density {density:g}"
        ratio = times["take"] / times["add"]
        what = f"threshold and compact {size}"
        thresholds.append(summarise(what, ratio, "x residual += gradient", goal))
        ratio = times["select"] / times["take"]
        selections.append(summarise(f"top-k of {size}", ratio, "x threshold"))
    return thresholds + selections
