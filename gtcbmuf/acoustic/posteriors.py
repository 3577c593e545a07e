"""What a model says of frames: its scores, and how many of them are wrong."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.acoustic.model import Model
from gtcbmuf.acoustic.model_file import SavedModel
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.partition import share
from gtcbmuf.data.corpus import Corpus, Frames, Split
from gtcbmuf.data.minibatches import FrameReader

#: Frames that are classified at once.
BATCH = 1024


def check_fit(path: Path, model: SavedModel, corpus: Corpus) -> None:
    """Make sure that a model takes a corpus's features and tells its targets apart.

    Raises:
        UserError: it does not.
    """
    width, dim = 2 * model.context + 1, corpus.feature_dim
    inputs = model.architecture.widths[0] if model.architecture else width * model.feature_dim
    if inputs != width * dim:
        raise UserError(
            f"{path} takes {inputs} inputs, but {corpus.path} gives {width * dim}: "
            f"{width} frames of {dim} features"
        )
    targets = len(model.target_counts)
    if targets != corpus.target_count:
        raise UserError(f"{path} has {targets} targets, but {corpus.path} {corpus.target_count}")
    was, is_ = model.normalisation, corpus.normalisation
    if was and is_ and was != is_:
        raise UserError(
            f"{path} was trained on features with normalisation = {was}, "
            f"but {corpus.path} has {is_}"
        )


class FrameErrors:
    """Counts one worker's share of a split's frame errors.

    Args:
        split: to score; its frames are dealt out evenly, in order.
        context: frames on each side.
        workers, rank: whose share.
    """

    def __init__(self, split: Split, context: int, workers: int, rank: int) -> None:
        self._split = split
        self._reader = FrameReader(split, context, BATCH)
        self._first, self._end = share(len(split), workers, rank)

    def count(self, model: Model, vector: NDArray[np.float32]) -> int:
        """Frames of the share whose most probable target is not the right one.

        Of targets that are equally probable the first counts.

        Args:
            model: the network, with a capacity of at least BATCH.
            vector: (n,) its parameters.
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
    """What a network says of utterances, each by itself.

    Args:
        model: the network, with a capacity of at least BATCH.
        vector: (n,) its parameters.
        frames: of the utterances.
        targets: number of targets (C).
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
        """The right targets of an utterance's frames: (T,)."""
        return self._frames.targets[self._begins[utterance] : self._frames.ends[utterance]]

    def scores(self, utterance: int) -> NDArray[np.float32]:
        """Its scores before the softmax: (T, C)."""
        begin, end = self._begins[utterance], self._frames.ends[utterance]
        scores = np.empty((end - begin, self._target_count), np.float32)
        for first in range(begin, end, BATCH):
            inputs, _ = self._reader.gather(np.arange(first, min(first + BATCH, end)))
            part = self._model.scores(self._vector, inputs)
            scores[first - begin : first - begin + len(part)] = part
        self._frames.release()
        return scores
