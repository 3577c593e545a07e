"""Costs from measurements: least squares, with no cost below zero."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def fit(terms: Sequence[Sequence[float]], seconds: Sequence[float]) -> NDArray[np.float64]:
    """Costs >= 0 of terms, such that their sums are near what was measured, in proportion.

    Args:
        terms: (measurements, terms) how much of each there was.
        seconds: (measurements,) that it took.

    Returns:
        (terms,) least squares of the relative errors over costs that are not negative: of all
        subsets of the terms the one that fits best with none below 0.
    """
    relative = np.array(terms, np.float64) / np.array(seconds)[:, None]
    count, best, least = relative.shape[1], np.zeros(relative.shape[1]), math.inf
    for subset in range(1, 2**count):
        chosen = [term for term in range(count) if subset >> term & 1]
        costs = np.zeros(count)
        costs[chosen] = np.linalg.lstsq(relative[:, chosen], np.ones(len(relative)))[0]
        error = float(np.sum((relative @ costs - 1) ** 2))
        if costs.min() >= 0 and error < least:
            best, least = costs, error
    return best
