"""Fit of costs to measured times: least squares without negative costs."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def fit(terms: Sequence[Sequence[float]], seconds: Sequence[float]) -> NDArray[np.float64]:
    """Fit the costs of terms to measured times, by least squares of the relative errors.

    The result is the best fit without a negative cost, over all subsets of the terms.

    Args:
        terms: amount of each term in each measurement, (measurements, terms).
        seconds: measured times, (measurements,).

    Returns:
        Costs in seconds per unit of each term, (terms,) float64, none below 0.

    Examples:
        >>> fit([(1, 0), (1, 1), (1, 2)], [3, 5, 7]).round(6).tolist()
        [3.0, 2.0]
    """
    relative = np.array(terms, np.float64) / np.array(seconds)[:, None]
    count, best, least = relative.shape[1], np.zeros(relative.shape[1]), math.inf
    for subset in range(1, 2**count):
        columns = [term for term in range(count) if subset >> term & 1]
        costs = np.zeros(count)
        costs[columns] = np.linalg.lstsq(relative[:, columns], np.ones(len(relative)))[0]
        error = float(np.sum((relative @ costs - 1) ** 2))
        if costs.min() >= 0 and error < least:
            best, least = costs, error
    return best
