"""Frames with their context, and the minibatches of a worker: all frames once an epoch."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.partition import share
from gtcbmuf.data.corpus import POOL, Frames, Split

#: Number of frames that stay together when an epoch is shuffled: 2.5 s, 20 kB.
SEGMENT = 256
#: The smallest window of a worker, in frames: 11 minutes, 5 MB. The windows of all workers together
#: have POOL frames if this bound allows it. So any number of workers shuffles as thoroughly.
WINDOW = 2**16


class FrameReader:
    """Gathers frames with their context into buffers that it allocates once.

    Args:
        frames: the source.
        context: frames on each side. At the ends of an utterance, its outermost frame is repeated.
        capacity: the largest number of frames in a call.

    >>> features = np.array([[0], [1], [2], [3]], np.float16)
    >>> targets, ends = np.array([7, 7, 8, 9], np.uint16), np.array([3, 4])
    >>> reader = FrameReader(Frames(features, targets, ends), context=1, capacity=2)
    >>> inputs, targets = reader.gather(np.array([0, 2]))
    >>> inputs.tolist(), targets.tolist()
    ([[0.0, 0.0, 1.0], [1.0, 2.0, 2.0]], [7, 8])
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
        """Change the source to other frames of the same dimension."""
        self._frames = frames
        self._begins = np.concatenate([[0], frames.ends[:-1]])

    def gather(
        self, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Gather the frames at some positions.

        Args:
            positions: (B,) in the source. B is at most the capacity.

        Returns:
            Inputs (B, (2 context + 1) D) float32 and targets (B,) uint16. Both are views of the
            reader's buffers, and the next call overwrites them.
        """
        count = len(positions)
        index, half, inputs = self._index[:count], self._half[:count], self._inputs[:count]
        utterance = np.searchsorted(self._frames.ends, positions, side="right")
        np.add(positions[:, None], self._offsets, out=index)
        np.maximum(index, self._begins[utterance][:, None], out=index)
        np.minimum(index, self._frames.ends[utterance][:, None] - 1, out=index)
        # "clip" lets take() write into `out` directly. No index is out of bounds.
        np.take(self._frames.features, index, axis=0, out=half, mode="clip")
        inputs[...] = half.reshape(inputs.shape)
        targets = np.take(self._frames.targets, positions, out=self._targets[:count], mode="clip")
        return inputs, targets


def copy_ranges(
    frames: Frames, ranges: Sequence[tuple[int, int]], context: int
) -> tuple[Frames, NDArray[np.int64]]:
    """Copy ranges of frames into memory, together with their context.

    Args:
        frames: the source.
        ranges: first and end frame of each range. None is empty.
        context: frames on each side.

    Returns:
        The copy, and the positions in it of the frames in the ranges, in order. A FrameReader with
        the same context gathers the same inputs from the copy as from the source.
    """
    reach = [(max(first - context, 0), min(end + context, len(frames))) for first, end in ranges]
    places = np.concatenate([[0], np.cumsum([high - low for low, high in reach])]).astype(int)
    features = np.empty((places[-1], frames.features.shape[1]), np.float16)
    targets = np.empty(places[-1], np.uint16)
    # The empty first items allow for no range at all.
    ends, positions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number, ((first, end), (low, high)) in enumerate(zip(ranges, reach, strict=True)):
        place, next_place = places[number : number + 2]
        features[place:next_place] = frames.features[low:high]
        targets[place:next_place] = frames.targets[low:high]
        inside = frames.ends[np.searchsorted(frames.ends, low, side="right") :]
        inside = inside[: np.searchsorted(inside, high)]
        ends += [inside - low + place, np.array([next_place])]
        positions.append(np.arange(first, end) - low + place)
        if number % 64 == 63:  # the system maps far more pages than the range itself
            frames.release()
    frames.release()
    return Frames(features, targets, np.concatenate(ends)), np.concatenate(positions)


class Minibatches:
    """The minibatches of one worker: every frame of the split once an epoch, in random order.

    Every epoch puts the segments of the split into a random order, the same on all workers. Worker
    r takes the r-th of N equal parts of this order, to a frame. It reads its part window by window,
    and draws minibatches from the window in memory without order.

    So a worker reads only its own part, in bounded memory. All workers make the same number of
    steps with any number of frames: the last minibatches may be smaller, or empty.

    Args:
        split: the source.
        context: frames on each side.
        minibatch: frames per worker and step.
        workers: number of workers, N.
        rank: of this worker, from 0 to N - 1.

    >>> features, targets = np.zeros((5, 1), np.float16), np.arange(5, dtype=np.uint16)
    >>> split = Split(features, targets, np.array([5]), ("utterance",), ("speaker",))
    >>> minibatches = Minibatches(split, context=0, minibatch=2, workers=1, rank=0)
    >>> minibatches.begin_epoch(np.random.default_rng(0), np.random.default_rng)
    >>> epoch = [minibatches[step][1].tolist() for step in range(minibatches.steps)]
    >>> [len(batch) for batch in epoch], sorted(sum(epoch, []))
    ([2, 2, 1], [0, 1, 2, 3, 4])
    """

    def __init__(self, split: Split, context: int, minibatch: int, workers: int, rank: int) -> None:
        self._split, self._context, self._minibatch = split, context, minibatch
        self._workers = workers
        self._first, self._end = share(len(split), workers, rank)
        # All workers have equally many windows. The windows are equal but for the last remainder.
        windows = -(-self.steps * minibatch // max(POOL // workers, WINDOW, minibatch))
        self._window_frames = -(-self.steps // windows) * minibatch
        self._reader = FrameReader(split, context, minibatch)

    @property
    def steps(self) -> int:
        """Number of steps in an epoch, the same on all workers."""
        largest_share = -(-len(self._split) // self._workers)
        return -(-largest_share // self._minibatch)

    def begin_epoch(
        self,
        segment_stream: np.random.Generator,
        window_stream: Callable[[int], np.random.Generator],
    ) -> None:
        """Draw the order of an epoch.

        Args:
            segment_stream: orders the segments. It must be the same on all workers.
            window_stream: returns, for the number of a window, the stream that orders its frames.
                It is this worker's own.
        """
        frames = len(self._split)
        self._segments = segment_stream.permutation(-(-frames // SEGMENT))
        begins = self._segments * SEGMENT
        self._segment_ends = np.cumsum(np.minimum(begins + SEGMENT, frames) - begins)
        self._window_stream = window_stream
        self._window = -1

    def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Return this worker's minibatch at a step of the epoch.

        Args:
            step: from 0 to `steps` - 1.

        Returns:
            Inputs (B, (2 context + 1) D) float32 and targets (B,) uint16, as
            `FrameReader.gather` returns them.
        """
        window, first = divmod(step * self._minibatch, self._window_frames)
        if window != self._window:
            self._load(window)
        return self._reader.gather(self._positions[first : first + self._minibatch])

    def _load(self, window: int) -> None:
        first = min(self._first + window * self._window_frames, self._end)
        end = min(first + self._window_frames, self._end)
        copy, positions = copy_ranges(self._split, self._find_ranges(first, end), self._context)
        self._reader.read_from(copy)
        self._positions = self._window_stream(window).permutation(positions)
        self._window = window

    def _find_ranges(self, first: int, end: int) -> list[tuple[int, int]]:
        """Return the ranges of the split that frames `first` to `end` - 1 of the epoch are in."""
        ranges = []
        number = int(np.searchsorted(self._segment_ends, first, side="right"))
        while first < end:
            stop = min(int(self._segment_ends[number]), end)
            segment_end = min(int(self._segments[number] + 1) * SEGMENT, len(self._split))
            offset = segment_end - int(self._segment_ends[number])
            ranges.append((first + offset, stop + offset))
            first, number = stop, number + 1
        return ranges
