"""Normalises features with the statistics of Kaldi's `compute-cmvn-stats`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.kaldi_matrices import KaldiMatrices


class CmvnNormaliser:
    """Normalises utterances with the statistics of the utterance or of its speaker.

    Args:
        scp: path of the scp of the statistics.
        speaker_of: speaker of each utterance.

    Raises:
        UserError: the scp cannot be read.
    """

    def __init__(self, scp: Path, speaker_of: Mapping[str, str]) -> None:
        self._scp, self._speaker_of = scp, speaker_of
        self._statistics = KaldiMatrices(scp, "statistics", np.float64)

    @property
    def files(self) -> set[Path]:
        """Files of all statistics."""
        return self._statistics.files

    def find_fault(self, name: str) -> str:
        """Return the reason why an utterance cannot be normalised, or "" if it can."""
        owner = self._find_owner(name)
        if owner in self._statistics:
            return ""
        return f"no statistics of this utterance or of speaker {owner} in {self._scp}"

    def apply(self, name: str, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise the features of an utterance without a fault in `find_fault`.

        Args:
            name: name of the utterance.
            matrix: features, (frames, dim).

        Returns:
            The normalised features, (frames, dim) float32.

        Raises:
            UserError: the statistics cannot be read, or do not fit the features.
        """
        owner = self._find_owner(name)
        # Row 0: sums, and the number of frames. Row 1: sums of squares.
        statistics = self._statistics[owner]
        shape = (2, matrix.shape[1] + 1)
        usable = statistics.shape == shape and np.isfinite(statistics).all()
        if not usable or not statistics[0, -1] > 0:
            raise UserError(
                f"{self._scp}: {owner}: matrix of shape {statistics.shape}; expected "
                f"finite statistics of shape {shape}, over one or more frames with "
                f"{matrix.shape[1]} features"
            )
        mean, square = statistics[:, :-1] / statistics[0, -1]
        deviation = np.sqrt(np.maximum(square - mean**2, 1e-10))
        normalised: NDArray[np.float32] = ((matrix - mean) / deviation).astype(np.float32)
        return normalised

    def _find_owner(self, name: str) -> str:
        """Return the owner of the statistics for an utterance: the utterance or the speaker."""
        return name if name in self._statistics else self._speaker_of[name]
