"""Random streams of a run: one for each purpose, worker and epoch."""

import numpy as np

# Purposes.
INITIAL, ORDER, WINDOWS = 0, 1, 2


def stream(seed: int, *key: int) -> np.random.Generator:
    """The stream of a purpose, a rank (0 if it is common to all workers), an epoch, and more."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *key])))
