"""Normalises the features of a speaker."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.data import features

#: The frames over which mean and variance are taken: those of a speaker, or of an utterance.
NORMALISATIONS = ("speaker", "utterance", "none")


def check_normalisation(normalisation: str) -> None:
    """Check the name of a normalisation.

    Raises:
        UserError: the name is not in NORMALISATIONS.
    """
    if normalisation not in NORMALISATIONS:
        raise UserError(f"normalise is {normalisation!r}; expected {' or '.join(NORMALISATIONS)}")


def normalise_speaker(
    utterances: Sequence[NDArray[np.float32]], normalisation: str
) -> list[NDArray[np.float32]]:
    """Normalise all utterances of a speaker.

    Args:
        utterances: (frames, dim) each.
        normalisation: one of NORMALISATIONS.
    """
    if normalisation == "speaker" and utterances:
        return features.normalise(utterances)
    if normalisation == "utterance":
        return [features.normalise([utterance])[0] for utterance in utterances]
    return list(utterances)
