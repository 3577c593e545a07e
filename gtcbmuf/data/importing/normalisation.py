"""Normalises the features of a speaker."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.data import features

#: Scopes of mean and variance: the frames of a speaker, the frames of an utterance, or none.
NORMALISATIONS = ("speaker", "utterance", "none")


def check_normalisation(normalisation: str) -> None:
    """Check the name of a normalisation.

    Raises:
        UserError: the name is not in NORMALISATIONS.
    """
    if normalisation not in NORMALISATIONS:
        raise UserError(f"--normalise {normalisation}: expected {', '.join(NORMALISATIONS)}")


def normalise_speaker(
    utterances: Sequence[NDArray[np.float32]], normalisation: str
) -> list[NDArray[np.float32]]:
    """Normalise all utterances of a speaker.

    Args:
        utterances: features of each utterance, (frames, dim).
        normalisation: scope of the normalisation, one of NORMALISATIONS.
    """
    if normalisation == "speaker" and utterances:
        return features.normalise(utterances)
    if normalisation == "utterance":
        return [features.normalise([utterance])[0] for utterance in utterances]
    return list(utterances)
