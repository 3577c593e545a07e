"""Frames with their context, and the minibatches of a worker: all frames once an epoch."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.corpus import POOL, Frames, Split
from gtcbmuf.partition import share

#: Frames that stay together when the train split is dealt out: 2.5 s, 20 kB.
BLOCK = 256
#: All workers together hold POOL frames, so that shuffling is as thorough whatever their number, as
#: long as this leaves a worker so many frames to draw from: 11 minutes, 5 MB.
WINDOW = 2**16


class FrameReader:
    """Gathers frames with their context, into buffers that are made once.

    Args:
        frames: to read from.
        context: frames on each side, clamped at the utterance's ends.
        capacity: the most frames at once.
    """

    def __init__(self, frames: Frames, context: int, capacity: int) -> None:
        self.read_from(frames)
        self._offsets = np.arange(-context, context + 1)
        width, dim = len(self._offsets), frames.features.shape[1]
        self._index = np.empty((capacity, width), np.int64)
        self._half = np.empty((capacity, width, dim), np.float16)
        self._inputs = np.empty((capacity, width * dim), np.float32)
        self._targets = np.empty(capacity, np.uint16)

    def read_from(self, frames: Frames) -> None:
        """Read from other frames of the same dimension from now on."""
        self._frames = frames
        self._begins = np.concatenate([[0], frames.ends[:-1]])

    def gather(
        self, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Inputs (B, (2 context + 1) D) and targets (B,) of the frames at positions (B,).

        B is at most the capacity.
        Both are views of the reader's buffers, valid until the next call.
        """
        count = len(positions)
        index, half, inputs = self._index[:count], self._half[:count], self._inputs[:count]
        utterance = np.searchsorted(self._frames.ends, positions, side="right")
        np.add(positions[:, None], self._offsets, out=index)
        np.maximum(index, self._begins[utterance][:, None], out=index)
        np.minimum(index, self._frames.ends[utterance][:, None] - 1, out=index)
        # "clip" lets take() write into out directly; no index is out of bounds.
        np.take(self._frames.features, index, axis=0, out=half, mode="clip")
        inputs[...] = half.reshape(inputs.shape)
        targets = np.take(self._frames.targets, positions, out=self._targets[:count], mode="clip")
        return inputs, targets


def excerpt(
    frames: Frames, stretches: Sequence[tuple[int, int]], context: int
) -> tuple[Frames, NDArray[np.int64]]:
    """Copy stretches of frames into memory, with what their context needs.

    Args:
        frames: to copy from.
        stretches: (first, end) of each; none is empty.
        context: frames on each side.

    Returns:
        The copy, and the positions in it of the stretches' own frames, in order. Gathered with
        this context, they are what the same frames are in the original.
    """
    reach = [(max(first - context, 0), min(end + context, len(frames))) for first, end in stretches]
    copied = np.concatenate([[0], np.cumsum([high - low for low, high in reach])]).astype(int)
    features = np.empty((copied[-1], frames.features.shape[1]), np.float16)
    targets = np.empty(copied[-1], np.uint16)
    # The empty beginnings are for no stretch at all.
    ends, positions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number, ((first, end), (low, high)) in enumerate(zip(stretches, reach, strict=True)):
        here, next_ = copied[number : number + 2]
        features[here:next_] = frames.features[low:high]
        targets[here:next_] = frames.targets[low:high]
        inside = frames.ends[np.searchsorted(frames.ends, low, side="right") :]
        inside = inside[: np.searchsorted(inside, high)]
        ends += [inside - low + here, np.array([next_])]
        positions.append(np.arange(first, end) - low + here)
        if number % 64 == 63:  # the system maps far more around a stretch than what is read
            frames.release()
    frames.release()
    return Frames(features, targets, np.concatenate(ends)), np.concatenate(positions)


class Minibatches:
    """The minibatches of one worker: every frame of the split once an epoch, in random order.

    The split is cut into blocks. In every epoch the blocks are put into a random order, the same
    on all workers, and worker r takes the r-th of N equal parts of it, to a frame. It reads its
    part window by window, and draws minibatches without order from the window in memory. So a
    worker reads only its own part, in bounded memory; and the number of steps is the same on all
    workers whatever the number of frames: in the last steps a minibatch may be smaller, or empty.

    Args:
        split: to draw from.
        context: frames on each side.
        minibatch: frames per worker and step.
        workers: N.
        rank: of this worker, 0 to N - 1.
    """

    def __init__(self, split: Split, context: int, minibatch: int, workers: int, rank: int) -> None:
        self._split, self._context, self._minibatch = split, context, minibatch
        self._workers = workers
        self._first, self._end = share(len(split), workers, rank)
        # As many windows on all workers, of the same size but for the last one's remainder.
        windows = -(-self.steps * minibatch // max(POOL // workers, WINDOW, minibatch))
        self._per_window = -(-self.steps // windows) * minibatch
        self._reader = FrameReader(split, context, minibatch)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        largest = -(-len(self._split) // self._workers)
        return -(-largest // self._minibatch)

    def begin_epoch(
        self, blocks: np.random.Generator, window: Callable[[int], np.random.Generator]
    ) -> None:
        """Draw the order of an epoch.

        Args:
            blocks: the stream that orders the blocks; alike on all workers.
            window: number of a window -> the stream that orders its frames, this worker's own.
        """
        frames = len(self._split)
        self._blocks = blocks.permutation(-(-frames // BLOCK))
        sizes = np.minimum(self._blocks * BLOCK + BLOCK, frames) - self._blocks * BLOCK
        self._block_ends = np.cumsum(sizes)
        self._window_stream = window
        self._window = -1

    def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Inputs and targets of this worker's minibatch at `step` (0 to steps - 1)."""
        window, first = divmod(step * self._minibatch, self._per_window)
        if window != self._window:
            self._load(window)
        return self._reader.gather(self._positions[first : first + self._minibatch])

    def _load(self, window: int) -> None:
        first = min(self._first + window * self._per_window, self._end)
        end = min(first + self._per_window, self._end)
        copy, positions = excerpt(self._split, self._stretches(first, end), self._context)
        self._reader.read_from(copy)
        self._positions = self._window_stream(window).permutation(positions)
        self._window = window

    def _stretches(self, first: int, end: int) -> list[tuple[int, int]]:
        """The places in the split of frames `first` to `end` - 1 in the order of the blocks."""
        stretches = []
        number = int(np.searchsorted(self._block_ends, first, side="right"))
        while first < end:
            stop = min(int(self._block_ends[number]), end)
            block_end = min(int(self._blocks[number] + 1) * BLOCK, len(self._split))
            place = block_end - int(self._block_ends[number])
            stretches.append((first + place, stop + place))
            first, number = stop, number + 1
        return stretches
