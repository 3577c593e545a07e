"""Finds features that are NaN or infinite."""

import numpy as np
from numpy.typing import NDArray


def describe_non_finite(matrix: NDArray[np.floating]) -> str:
    """Describe the frames of an utterance with NaN or infinite features.

    Args:
        matrix: features, (frames, dim).

    Returns:
        A text for messages, or "" if all features are finite.

    >>> describe_non_finite(np.array([[1.0], [np.nan]]))
    'NaN or infinite features in 1 of 2 frames, from frame 1'
    """
    is_finite = np.isfinite(matrix).all(axis=1)
    if is_finite.all():
        return ""
    frames = f"{np.count_nonzero(~is_finite)} of {len(matrix)} frames"
    return f"NaN or infinite features in {frames}, from frame {is_finite.argmin()}"
