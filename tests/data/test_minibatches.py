"""Frames with their context, and the minibatches of workers."""

import itertools
import math
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.corpora import write_corpus
from support.launch import ROOT

from gtcbmuf.base.partition import share
from gtcbmuf.data.corpus import Frames, Split, open_corpus
from gtcbmuf.data.minibatches import SEGMENT, WINDOW, FrameReader, Minibatches, copy_ranges


def split_of(lengths: list[int], dim: int = 1) -> Split:
    """Make a split. Feature 0 of each frame is the number of the frame."""
    frames = sum(lengths)
    features = np.arange(frames * dim).reshape(frames, dim) / dim
    targets = np.arange(frames) % 1000
    names = tuple(f"u{i}" for i in range(len(lengths)))
    ends = np.cumsum(lengths)
    return Split(features.astype(np.float16), targets.astype(np.uint16), ends, names, names)


def gather_slowly(split: Frames, context: int, frame: int) -> list[float]:
    """Gather the inputs of one frame in a loop."""
    ends = split.ends.tolist()
    utterance = next(u for u, end in enumerate(ends) if frame < end)
    first, last = (ends[utterance - 1] if utterance else 0), ends[utterance] - 1
    inputs: list[float] = []
    for position in range(frame - context, frame + context + 1):
        inputs += split.features[min(max(position, first), last)].tolist()
    return inputs


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@settings(deadline=None)
@given(lengths=LENGTHS, dim=st.integers(1, 3), context=st.integers(0, 12), data=st.data())
def test_gather_clamps_context_at_the_ends_of_utterances(
    lengths: list[int], dim: int, context: int, data: st.DataObject
) -> None:
    split = split_of(lengths, dim)
    reader = FrameReader(split, context, 10)
    for _ in range(2):  # the second call reuses the buffers of the first
        numbers = data.draw(st.lists(st.integers(0, len(split) - 1), max_size=10))
        inputs, targets = reader.gather(np.array(numbers, np.int64))
        assert inputs.dtype == np.float32
        assert inputs.shape == (len(numbers), (2 * context + 1) * dim)
        assert inputs.tolist() == [gather_slowly(split, context, frame) for frame in numbers]
        assert targets.tolist() == [split.targets[frame] for frame in numbers]


def test_gather_reads_a_corpus_on_disk_like_one_in_memory(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5", train_frames=200)
    split = open_corpus(tmp_path / "corpus.h5").train
    inputs, targets = FrameReader(split, 3, 200).gather(np.arange(200))
    assert inputs.tolist() == [gather_slowly(split, 3, frame) for frame in range(200)]
    assert targets.tolist() == split.targets.tolist()


@given(st.integers(0, 10**6), st.integers(1, 300))
def test_shares_are_adjacent_and_differ_by_at_most_one(frames: int, workers: int) -> None:
    shares = [share(frames, workers, rank) for rank in range(workers)]
    assert shares[0][0] == 0
    assert shares[-1][1] == frames
    assert all(end == first for (_, end), (first, _) in itertools.pairwise(shares))
    sizes = {end - first for first, end in shares}
    assert max(sizes) - min(sizes) <= 1


@given(LENGTHS, st.integers(0, 4), st.data())
def test_a_copy_of_ranges_gathers_like_the_original(
    lengths: list[int], context: int, data: st.DataObject
) -> None:
    frames = split_of(lengths, 2)
    place = st.integers(0, len(frames) - 1)
    pairs = data.draw(st.lists(st.tuples(place, place), max_size=5))
    ranges = [(min(pair), max(pair) + 1) for pair in pairs]
    copy, positions = copy_ranges(frames, ranges, context)
    numbers = [frame for first, end in ranges for frame in range(first, end)]
    inputs, targets = FrameReader(copy, context, len(numbers)).gather(positions)
    assert inputs.tolist() == [gather_slowly(frames, context, frame) for frame in numbers]
    assert targets.tolist() == [frames.targets[frame] for frame in numbers]


def deal(
    split: Split, minibatch: int, workers: int, rank: int, epoch: int = 0
) -> list[list[float]]:
    """List the frames of a worker's minibatches, with small segments and windows."""
    with mock.patch.multiple("gtcbmuf.data.minibatches", SEGMENT=4, WINDOW=16, POOL=16):
        minibatches = Minibatches(split, 0, minibatch, workers, rank)
        minibatches.begin_epoch(
            np.random.default_rng([7, epoch]),
            lambda window: np.random.default_rng([8, rank, epoch, window]),
        )
        return [minibatches[step][0][:, 0].tolist() for step in range(minibatches.steps)]


DEALING = settings(deadline=None, max_examples=60)
FRAMES, MINIBATCH, WORKERS = st.integers(1, 200), st.integers(1, 40), st.integers(1, 9)


@DEALING
@given(FRAMES, MINIBATCH, WORKERS)
def test_every_frame_occurs_once_per_epoch(frames: int, minibatch: int, workers: int) -> None:
    split = split_of([frames])
    shares = [deal(split, minibatch, workers, rank) for rank in range(workers)]
    steps = math.ceil(math.ceil(frames / workers) / minibatch)
    assert {len(batches) for batches in shares} == {steps}
    epoch_frames = [frame for batches in shares for batch in batches for frame in batch]
    assert sorted(epoch_frames) == list(range(frames))


@DEALING
@given(FRAMES, MINIBATCH, WORKERS)
def test_shares_differ_by_one_frame_and_only_the_last_minibatches_are_smaller(
    frames: int, minibatch: int, workers: int
) -> None:
    split = split_of([frames])
    shares = [deal(split, minibatch, workers, rank) for rank in range(workers)]
    sizes = [sum(len(batch) for batch in batches) for batches in shares]
    assert max(sizes) - min(sizes) <= 1
    for batches in shares:
        lengths = [len(batch) for batch in batches]
        assert all(length == minibatch for length in lengths[:-2])
        assert lengths == sorted(lengths, reverse=True)


def test_a_share_may_be_empty() -> None:
    shares = [deal(split_of([2]), 4, 3, rank) for rank in range(3)]
    assert sorted(len(batches[0]) for batches in shares) == [0, 1, 1]


def test_every_epoch_has_its_own_order() -> None:
    split = split_of([50])
    first, repeat, second = (deal(split, 8, 1, 0, epoch) for epoch in (0, 0, 1))
    assert first == repeat != second
    for epoch in (first, second):
        assert sorted(itertools.chain(*epoch)) == list(range(50))
    assert first != [list(range(begin, min(begin + 8, 50))) for begin in range(0, 50, 8)]


def test_a_step_does_not_depend_on_earlier_steps() -> None:
    """A resumed run starts in the middle of an epoch."""
    split = split_of([500])

    def begin() -> Minibatches:
        minibatches = Minibatches(split, 2, 30, 1, 0)
        minibatches.begin_epoch(np.random.default_rng(0), np.random.default_rng)
        return minibatches

    with mock.patch.multiple("gtcbmuf.data.minibatches", SEGMENT=8, WINDOW=60, POOL=60):
        minibatches = begin()
        expected = [minibatches[step][0].copy() for step in range(minibatches.steps)]
        for step in (13, 3, 16, 0):
            np.testing.assert_array_equal(begin()[step][0], expected[step])


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """A worker reads its share window by window, and memory holds one window."""
    write_corpus(tmp_path / "corpus.h5", train_frames=60_000, dim=40)
    corpus = open_corpus(tmp_path / "corpus.h5")
    with mock.patch.multiple("gtcbmuf.data.minibatches", WINDOW=1000, POOL=1000):
        minibatches = Minibatches(corpus.train, 5, 100, 1, 0)
        minibatches.begin_epoch(np.random.default_rng(0), np.random.default_rng)
        minibatches[0]
        tracemalloc.start()
        for step in range(minibatches.steps):
            minibatches[step]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < corpus.train.features.nbytes / 10


def test_the_page_states_the_sizes() -> None:
    page = " ".join((ROOT / "docs/reference/files.md").read_text().split())
    assert f"segments of {SEGMENT} frames" in page
    assert WINDOW == 2**16
    assert "at least 2^16" in page
