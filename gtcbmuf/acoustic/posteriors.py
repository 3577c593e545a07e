"""Scores and frame errors of a model."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.acoustic.model import Model
from gtcbmuf.acoustic.model_file import SavedModel
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.partition import share
from gtcbmuf.data.corpus import Corpus, Frames, Split
from gtcbmuf.data.minibatches import FrameReader

#: Number of frames that are classified at once.
BATCH = 1024


def check_fit(path: Path, model: SavedModel, corpus: Corpus) -> None:
    """Require that a corpus is of the kind that a model was trained on.

    Raises:
        UserError: they differ. The line names the first difference.
    """
    if difference := model.find_difference(corpus):
        raise UserError(f"{path} {difference}")


class FrameErrors:
    """Counts the frame errors in one worker's share of a split.

    Args:
        split: the split. Its frames are divided evenly among the workers, in order.
        context: number of input frames on each side of the classified frame.
        workers: number of workers.
        rank: rank of the worker whose share is counted.
    """

    def __init__(self, split: Split, context: int, workers: int, rank: int) -> None:
        self._split = split
        self._reader = FrameReader(split, context, BATCH)
        self._first, self._end = share(len(split), workers, rank)

    def count(self, model: Model, vector: NDArray[np.float32]) -> int:
        """Count the frames of the share whose most probable target is wrong.

        Among equally probable targets, the first one is taken.

        Args:
            model: the network, with a capacity of at least BATCH.
            vector: the network's parameters (n,).
        """
        errors = 0
        for first in range(self._first, self._end, BATCH):
            frames = np.arange(first, min(first + BATCH, self._end))
            inputs, targets = self._reader.gather(frames)
            scores = model.scores(vector, inputs)
            errors += int(np.count_nonzero(scores.argmax(axis=1) != targets))
            self._split.release()
        return errors


class UtteranceScores:
    """The scores of a network for utterances, each computed by itself.

    Args:
        model: the network, with a capacity of at least BATCH.
        vector: the network's parameters (n,).
        frames: frames of the utterances.
        targets: number of targets C.
    """

    def __init__(
        self, model: Model, vector: NDArray[np.float32], frames: Frames, targets: int
    ) -> None:
        self._model, self._vector, self._frames = model, vector, frames
        self._target_count = targets
        self._reader = FrameReader(frames, model.context, BATCH)
        self._begins = np.concatenate([[0], frames.ends[:-1]])

    def __len__(self) -> int:
        """Number of utterances."""
        return len(self._begins)

    def targets(self, utterance: int) -> NDArray[np.uint16]:
        """Return the correct targets (T,) of an utterance's frames."""
        return self._frames.targets[self._begins[utterance] : self._frames.ends[utterance]]

    def scores(self, utterance: int) -> NDArray[np.float32]:
        """Return the scores (T, C) of an utterance's frames before the softmax."""
        begin, end = self._begins[utterance], self._frames.ends[utterance]
        scores = np.empty((end - begin, self._target_count), np.float32)
        for first in range(begin, end, BATCH):
            inputs, _ = self._reader.gather(np.arange(first, min(first + BATCH, end)))
            part = self._model.scores(self._vector, inputs)
            scores[first - begin : first - begin + len(part)] = part
        self._frames.release()
        return scores
