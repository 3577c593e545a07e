"""Thresholding a gradient, against adding it to the residual and nothing else."""

import numpy as np

from gtcbmuf import kernels
from gtcbmuf.bench import Figure, figure, seconds

PARAMETERS = 8_000_000
GOALS = {1e-4: None, 1e-3: 1.25, 1e-2: 2.5}


def figures(rounds: int) -> list[Figure]:
    """One for each density of crossings in GOALS, at places drawn at random."""
    stream = np.random.default_rng(0)
    updates = np.empty(PARAMETERS // 16 + kernels.BLOCK, np.uint32)
    residual = np.empty(PARAMETERS, np.float32)
    tau = np.float32(1)
    found = []
    for density, goal in GOALS.items():
        gradient = stream.normal(0, 0.1, PARAMETERS).astype(np.float32)
        crossing = stream.random(PARAMETERS) < density
        gradient[crossing] = np.copysign(np.float32(1.5), gradient[crossing])

        def add(gradient: kernels.Vector = gradient) -> None:
            np.add(residual, gradient, out=residual)

        def take(gradient: kernels.Vector = gradient) -> None:
            kernels.take(residual, gradient, tau, updates)

        times = seconds({"add": add, "take": take}, rounds=rounds, prepare=lambda: residual.fill(0))
        found.append(
            figure(
                f"threshold and compact {PARAMETERS / 1e6:g} M parameters, density {density:g}",
                times["take"] / times["add"],
                "x residual += gradient",
                goal,
            )
        )
    return found
