"""The summary of an import, for the user."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.data import features
from gtcbmuf.data.corpus import SPLITS
from gtcbmuf.data.importing.exclusions import EXAMPLES, Exclusions


class ImportSummary:
    """Counts what an import writes to a corpus.

    Args:
        normalisation: scope of the normalisation, one of NORMALISATIONS.
        speaker_rule: rule that found the speakers, in words.

    Attributes:
        utterance_counts: number of utterances in each split.
    """

    def __init__(self, normalisation: str, speaker_rule: str) -> None:
        self._normalisation, self._speaker_rule = normalisation, speaker_rule
        self.utterance_counts = dict.fromkeys(SPLITS, 0)
        self._speakers = self._divided = 0
        self._examples: list[str] = []
        self._frames = self._silent_frames = 0

    def add(
        self,
        speaker: str,
        split_of: Mapping[str, str],
        matrices: Sequence[NDArray[np.float32]],
    ) -> None:
        """Count the utterances of a speaker.

        Args:
            speaker: name of the speaker.
            split_of: split of each of the speaker's utterances, by name.
            matrices: features of each utterance before the normalisation, (frames, dim).
        """
        if not split_of:
            return
        for split in split_of.values():
            self.utterance_counts[split] += 1
        self._speakers += 1
        self._divided += len(set(split_of.values())) > 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(f"{next(iter(split_of))} -> {speaker}")
        self._frames += sum(map(len, matrices))
        self._silent_frames += sum(
            int(features.find_digital_silence(matrix).sum()) for matrix in matrices
        )

    def format(self, path: Path, log: Path, exclusions: Exclusions) -> str:
        """Format the counts as lines.

        Args:
            path: path of the corpus.
            log: path of the log of the exclusions.
            exclusions: the excluded utterances.
        """
        sizes = ", ".join(
            f"{count} utterances in {split}" for split, count in self.utterance_counts.items()
        )
        lines = [
            f"{path}: {sizes}; {len(exclusions)} of {exclusions.total} excluded, see {log}",
            f"{self._speakers} speakers, by {self._speaker_rule}: {', '.join(self._examples)}",
        ]
        if self._divided:
            lines.append(
                f"{self._divided} speakers are in several splits (--split-by utterance): error "
                "rates are of voices that the model has heard"
            )
        if self._silent_frames:
            treatment = (
                "left as they are"
                if self._normalisation == "none"
                else "left out of mean and variance, and set to 0"
            )
            lines.append(
                f"{self._silent_frames} of {self._frames} frames are digital silence: {treatment}"
            )
        return "\n".join(lines)
