"""Random streams of a run: one stream for each purpose, worker and epoch."""

import numpy as np

# Purposes of the streams.
INITIAL, ORDER, WINDOWS, ROUNDING = 0, 1, 2, 3


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the stream of a key: purpose, rank, and further numbers such as the epoch.

    The rank is 0 for a stream that all workers share.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *key])))
