"""The first alignment of an utterance, without a model: equal lengths between silences."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.alignment.graph import Word
from gtcbmuf.data.features import STATES

#: An edge is silent below this place between the quiet and the loud frames of an utterance.
_THRESHOLD = 0.15
_QUIET, _LOUD = 0.05, 0.95  # quantiles


def flat_start(
    features: NDArray[np.floating], words: Sequence[Word], silence: int = 0
) -> NDArray[np.uint16]:
    """Divide an utterance into the phones of its words, at equal lengths.

    The first pronunciation of each word counts. The frames before the first loud one and after the
    last are silence: frames whose mean feature is low for the utterance.

    Args:
        features: log-mel features, (T, D), normalised or not.
        words: the words, at least one.
        silence: index of the phone of silence.

    Returns:
        Target of each frame, (T,) uint16.

    Examples:
        >>> loudness = np.array([0, 0, 9, 9, 9, 9, 9, 9, 9, 0], float)
        >>> flat_start(loudness[:, None], [[[1]], [[2]]]).tolist()
        [0, 1, 3, 3, 4, 5, 6, 7, 8, 0]
    """
    chain = [STATES * phone + s for word in words for phone in word[0] for s in range(STATES)]
    # Digital silence, whose normalised features are 0, counts as loud. Labelled as silence from the
    # start, it made the alignment of real speech worse: the model of silence then begins with
    # frames that are like the mean of speech.
    loudness = features.mean(axis=1, dtype=np.float64)
    quiet, loud = np.quantile(loudness, (_QUIET, _LOUD))
    is_loud = np.flatnonzero(loudness >= quiet + _THRESHOLD * (loud - quiet))
    first, end = int(is_loud[0]), int(is_loud[-1]) + 1
    if end - first < len(chain):  # too few frames for all states
        first, end = 0, len(loudness)
    targets = np.empty(len(loudness), np.uint16)
    for begin, stop, states in (
        (0, first, _states_of(silence)),
        (first, end, chain),
        (end, len(loudness), _states_of(silence)),
    ):
        places = np.arange(stop - begin) * len(states) // max(stop - begin, 1)
        targets[begin:stop] = np.array(states)[places]
    return targets


def _states_of(phone: int) -> list[int]:
    return [STATES * phone + state for state in range(STATES)]
