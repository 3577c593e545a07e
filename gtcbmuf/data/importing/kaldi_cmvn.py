"""Normalises features with Kaldi's statistics of them (`compute-cmvn-stats`)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.kaldi_tables import read_matrix, read_scp


class CmvnNormaliser:
    """Normalises utterances with the statistics of the utterance or of its speaker.

    Args:
        scp: of the statistics.
        speaker_of: the speaker of each utterance.

    Raises:
        UserError: the scp cannot be read.
    """

    def __init__(self, scp: Path, speaker_of: Mapping[str, str]) -> None:
        self._scp, self._speaker_of = scp, speaker_of
        self._locations = read_scp(scp)

    def find_fault(self, name: str) -> str:
        """Return the reason why an utterance cannot be normalised, or "" if it can."""
        owner = self._find_owner(name)
        if owner in self._locations:
            return ""
        return f"no statistics for it or {owner} in {self._scp}"

    def apply(self, name: str, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise the features of an utterance, for which `find_fault` finds none.

        Args:
            name: of the utterance.
            matrix: (frames, dim).

        Raises:
            UserError: the statistics cannot be read, or do not fit the features.
        """
        owner = self._find_owner(name)
        location = self._locations[owner]
        # The sums, with the number of frames after them, and the sums of squares.
        statistics = read_matrix(self._scp, owner, location, "statistics", np.float64)
        shape = (2, matrix.shape[1] + 1)
        usable = statistics.shape == shape and np.isfinite(statistics).all()
        if not usable or not statistics[0, -1] > 0:
            raise UserError(
                f"{self._scp}: {owner}: {location}: a matrix {statistics.shape}; expected the "
                f"statistics {shape}, numbers, of features of dimension {matrix.shape[1]}, of "
                "a frame at least"
            )
        mean, square = statistics[:, :-1] / statistics[0, -1]
        deviation = np.sqrt(np.maximum(square - mean**2, 1e-10))
        normalised: NDArray[np.float32] = ((matrix - mean) / deviation).astype(np.float32)
        return normalised

    def _find_owner(self, name: str) -> str:
        """Return the name of the statistics for an utterance: its own or its speaker's."""
        return name if name in self._locations else self._speaker_of[name]
