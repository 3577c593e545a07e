"""How good a model is: frame error rate."""

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.corpus import FrameReader, Split, share
from gtcbmuf.model import MLP

#: Frames that `Scorer` classifies at once.
BATCH = 1024


class Scorer:
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

    def frame_errors(self, mlp: MLP, parameters: NDArray[np.float32]) -> int:
        """Frames of the share whose most probable target is not the right one.

        Of targets that are equally probable the first counts.

        Args:
            mlp: with a capacity of at least BATCH.
            parameters: (n,) of the model.
        """
        errors = 0
        for first in range(self._first, self._end, BATCH):
            frames = np.arange(first, min(first + BATCH, self._end))
            inputs, targets = self._reader.gather(frames)
            scores = mlp.forward(parameters, inputs)
            errors += int(np.count_nonzero(scores.argmax(axis=1) != targets))
            self._split.release()
        return errors
