"""Confidence intervals of error rates by the bootstrap (Bisani and Ney, ICASSP 2004)."""

import numpy as np
from numpy.typing import ArrayLike

#: Number of resamples.
RESAMPLES = 1000

#: Both ends of a confidence interval, in per cent.
Interval = tuple[float, float]


def interval(errors: ArrayLike, units: ArrayLike) -> Interval | None:
    """Return the 95 % percentile interval of an error rate.

    For the difference of two models, pass the differences of their errors. Then both models have
    the same resamples.

    Args:
        errors: (U,) number of errors of each utterance or speaker.
        units: (U,) number of frames or phones of each.

    Returns:
        Both ends of the interval. None for a single utterance or speaker, or if too many of them
        are without units, such as utterances of silence.

    Examples:
        >>> interval([1, 2, 3], [10, 20, 30])
        (10.0, 10.0)
    """
    errors, units = np.asarray(errors), np.asarray(units)
    if len(errors) == 1:
        return None
    stream = np.random.Generator(np.random.PCG64(0))  # every model gets the same resamples
    rates = []
    for _ in range(RESAMPLES):
        sample = stream.integers(0, len(errors), len(errors))
        if units[sample].any():
            rates.append(percent(errors[sample].sum(), units[sample].sum()))
    if len(rates) < 0.975 * RESAMPLES:
        return None
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)


def percent(errors: float, units: float) -> float:
    """Return an error rate in per cent. A number of 0 units, as in silence, is taken as 1.

    Examples:
        >>> percent(1, 8), percent(0, 0)
        (12.5, 0.0)
    """
    return float(100 * errors / max(units, 1))
