"""Frames with their context, and the minibatches of a worker."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.partition import share
from gtcbmuf.data.corpus import POOL, Frames, Split

#: Number of frames in a segment: 2.5 s, 20 kB. Segments are shuffled across the whole split.
SEGMENT = 256
#: Smallest window of a worker, in frames: 11 minutes, 5 MB. If this bound allows it, the windows of
#: all workers add up to POOL frames. The shuffle is then as thorough for any number of workers.
WINDOW = 2**16


class FrameReader:
    """Gathers frames with their context into preallocated buffers.

    Args:
        frames: source of the frames.
        context: number of context frames on each side. Beyond an end of the utterance, its first
            or last frame is repeated.
        capacity: largest number of frames per call.

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
        self._features = np.empty((capacity, width, dim), np.float16)
        self._inputs = np.empty((capacity, width * dim), np.float32)
        self._targets = np.empty(capacity, np.uint16)

    def read_from(self, frames: Frames) -> None:
        """Replace the source by other frames of the same dimension."""
        self._frames = frames
        self._begins = np.concatenate([[0], frames.ends[:-1]])

    def gather(
        self, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Gather frames with their context.

        Args:
            positions: indices of the frames in the source, (B,). B is at most the capacity.

        Returns:
            Inputs (B, (2 * context + 1) * D) float32 and targets (B,) uint16. Both are views of
            the reader's buffers, and the next call overwrites them.
        """
        count = len(positions)
        index, features = self._index[:count], self._features[:count]
        inputs = self._inputs[:count]
        utterance = np.searchsorted(self._frames.ends, positions, side="right")
        np.add(positions[:, None], self._offsets, out=index)
        np.maximum(index, self._begins[utterance][:, None], out=index)
        np.minimum(index, self._frames.ends[utterance][:, None] - 1, out=index)
        # No index is out of bounds, but only with "clip" does take() write into `out` directly.
        np.take(self._frames.features, index, axis=0, out=features, mode="clip")
        inputs[...] = features.reshape(inputs.shape)
        targets = np.take(self._frames.targets, positions, out=self._targets[:count], mode="clip")
        return inputs, targets


def copy_ranges(
    frames: Frames, ranges: Sequence[tuple[int, int]], context: int
) -> tuple[Frames, NDArray[np.int64]]:
    """Copy ranges of frames into memory, together with their context.

    Args:
        frames: source of the frames.
        ranges: first and end frame of each range. No range is empty.
        context: number of context frames on each side.

    Returns:
        The copy, and the positions of the ranges' frames in the copy, in order. A FrameReader with
        the same context gathers the same inputs from the copy as from the source.
    """
    spans = [(max(first - context, 0), min(end + context, len(frames))) for first, end in ranges]
    offsets = np.concatenate([[0], np.cumsum([high - low for low, high in spans])]).astype(int)
    features = np.empty((offsets[-1], frames.features.shape[1]), np.float16)
    targets = np.empty(offsets[-1], np.uint16)
    # The empty arrays let concatenate() accept an empty list of ranges.
    ends, positions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for number, ((first, end), (low, high)) in enumerate(zip(ranges, spans, strict=True)):
        offset, next_offset = offsets[number : number + 2]
        features[offset:next_offset] = frames.features[low:high]
        targets[offset:next_offset] = frames.targets[low:high]
        inner_ends = frames.ends[np.searchsorted(frames.ends, low, side="right") :]
        inner_ends = inner_ends[: np.searchsorted(inner_ends, high)]
        ends += [inner_ends - low + offset, np.array([next_offset])]
        positions.append(np.arange(first, end) - low + offset)
        if number % 64 == 63:  # the system maps many more pages than those of the range
            frames.release()
    frames.release()
    return Frames(features, targets, np.concatenate(ends)), np.concatenate(positions)


class Minibatches:
    """The minibatches of one worker. Together, the workers use every frame once per epoch.

    In every epoch, the segments of the split get a random order, which is the same on all workers.
    Worker r takes the r-th of N parts of this order. The sizes of the parts differ by at most one
    frame. The worker copies its part into memory window by window. The frames of a window are
    shuffled and then divided into minibatches.

    A worker reads only its own part, and its memory is bounded. All workers take the same number
    of steps for any number of frames. In the last steps, a minibatch may be smaller or empty.

    Args:
        split: source of the frames.
        context: number of context frames on each side.
        minibatch: frames per worker and step.
        workers: number of workers, N.
        rank: rank of this worker, from 0 to N - 1.

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
        # All workers have the same number of windows. All windows but the last have the same size.
        windows = -(-self.steps * minibatch // max(POOL // workers, WINDOW, minibatch))
        self._window_frames = -(-self.steps // windows) * minibatch
        self._reader = FrameReader(split, context, minibatch)

    @property
    def steps(self) -> int:
        """Number of steps per epoch, the same on all workers."""
        largest_share = -(-len(self._split) // self._workers)
        return -(-largest_share // self._minibatch)

    def begin_epoch(
        self,
        segment_stream: np.random.Generator,
        window_stream: Callable[[int], np.random.Generator],
    ) -> None:
        """Draw the order of the frames in an epoch.

        Args:
            segment_stream: random stream for the order of the segments, the same on all workers.
            window_stream: function that maps the number of a window to the random stream for the
                order of the window's frames. Each worker has its own streams.
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
            step: number of the step, from 0 to `steps` - 1.

        Returns:
            Inputs (B, (2 * context + 1) * D) float32 and targets (B,) uint16. Both are views of
            buffers, and the next call overwrites them.
        """
        window, first = divmod(step * self._minibatch, self._window_frames)
        if window != self._window:
            self._load(window)
        return self._reader.gather(self._positions[first : first + self._minibatch])

    def _load(self, window: int) -> None:
        """Copy a window into memory, and shuffle its frames."""
        first = min(self._first + window * self._window_frames, self._end)
        end = min(first + self._window_frames, self._end)
        copy, positions = copy_ranges(self._split, self._find_ranges(first, end), self._context)
        self._reader.read_from(copy)
        self._positions = self._window_stream(window).permutation(positions)
        self._window = window

    def _find_ranges(self, first: int, end: int) -> list[tuple[int, int]]:
        """Return the ranges of the split that hold the frames `first` to `end` - 1 of the epoch."""
        ranges = []
        number = int(np.searchsorted(self._segment_ends, first, side="right"))
        while first < end:
            stop = min(int(self._segment_ends[number]), end)
            segment_end = min(int(self._segments[number] + 1) * SEGMENT, len(self._split))
            offset = segment_end - int(self._segment_ends[number])
            ranges.append((first + offset, stop + offset))
            first, number = stop, number + 1
        return ranges
