"""A corpus on disk: frames of features with a target each, in HDF5.

Version 1 of the format:

    attributes       format = "gtcbmuf-corpus", version = 1, and how the corpus was made
    /phones          (P,) names
    /target_phone    (C,) uint16: the phone that each of the C targets is a state of
    /train, /valid, /test, each with
        features     (T, D) float16, normalised, contiguous: readers map it into memory
        targets      (T,) uint16, below C
        lengths      (U,) int32: frames of each utterance, in order; their sum is T
        names        (U,) of the utterances
        speakers     (U,) of the utterances; no speaker is in two splits
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.errors import UserError
from gtcbmuf.storage import get_attributes, replacing, set_attributes, text_array

FORMAT = "gtcbmuf-corpus"
VERSION = 1
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Utterance:
    """Some seconds of one speaker: features (T, D) float32, normalised; targets (T,) uint16."""

    name: str
    speaker: str
    features: NDArray[np.float32]
    targets: NDArray[np.uint16]


def write(
    path: Path,
    splits: Mapping[str, Sequence[Utterance]],
    *,
    phones: Sequence[str],
    target_phone: Sequence[int],
    attributes: Mapping[str, str | int | float | bool],
) -> None:
    """Write a corpus beside `path`, then rename it: never half a file.

    The same arguments give the same bytes.

    Args:
        path: of the HDF5 file; an earlier one is replaced.
        splits: the utterances of "train", "valid" and "test".
        phones: names.
        target_phone: for each target, the index of its phone.
        attributes: how the corpus was made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside, h5py.File(beside, "w", libver="v110", track_order=True) as file:
        set_attributes(file, {**attributes, "format": FORMAT, "version": VERSION})
        file["phones"] = text_array(phones)
        file["target_phone"] = np.array(target_phone, np.uint16)
        for split in SPLITS:
            _write_split(file.create_group(split), splits[split])


def _write_split(group: h5py.Group, utterances: Sequence[Utterance]) -> None:
    for utterance in utterances:
        if len(utterance.features) != len(utterance.targets):
            raise ValueError(f"{utterance.name}: features and targets differ in their frames")
    features = np.concatenate([u.features for u in utterances]).astype(np.float16)
    if not np.isfinite(features).all():
        raise ValueError("features hold NaN, or values that float16 cannot")
    group["features"] = features
    group["targets"] = np.concatenate([u.targets for u in utterances]).astype(np.uint16)
    group["lengths"] = np.array([len(u.targets) for u in utterances], np.int32)
    group["names"] = text_array([u.name for u in utterances])
    group["speakers"] = text_array([u.speaker for u in utterances])


@dataclass(frozen=True)
class Split:
    """The frames of one split, utterance after utterance.

    Attributes:
        features: (T, D) float16, a read-only map of the file, which ranks of a host share.
        targets: (T,) uint16, likewise.
        ends: (U,) int64: the frame after the last one of each utterance.
    """

    features: NDArray[np.float16]
    targets: NDArray[np.uint16]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Corpus:
    """A corpus that `read` opened."""

    path: Path
    feature_dim: int
    target_count: int
    train: Split
    valid: Split
    test: Split


def read(path: Path) -> Corpus:
    """Open a corpus; its frames stay on disk until they are used.

    Raises:
        UserError: no such file, no corpus, another version, or arrays that contradict each other.
    """
    try:
        if not path.exists():
            raise UserError(
                f"corpus.path = {str(path)!r}: no such file; make one: "
                f"gtcbmuf corpus synth --preset small --out {path}"
            )
        with h5py.File(path, "r") as file:
            attributes = get_attributes(file)
            version = attributes.get("version")
            if attributes.get("format") != FORMAT:
                raise UserError(f"{path}: an HDF5 file, but not a corpus of ours")
            if version != VERSION:
                raise UserError(f"{path}: corpus format {version}; this program reads {VERSION}")
            target_count = file["target_phone"].size
            train, valid, test = (_read_split(path, file, name, target_count) for name in SPLITS)
    except (OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a corpus: {error}") from None
    feature_dim = train.features.shape[1]
    if not feature_dim == valid.features.shape[1] == test.features.shape[1]:
        raise UserError(f"{path}: train, valid and test differ in their feature dimensions")
    return Corpus(path, feature_dim, target_count, train, valid, test)


def _read_split(path: Path, file: h5py.File, name: str, target_count: int) -> Split:
    features = _map(path, file[name]["features"], np.float16, 2)
    targets = _map(path, file[name]["targets"], np.uint16, 1)
    lengths = file[name]["lengths"][:]
    ends = np.cumsum(lengths, dtype=np.int64)
    if not (len(ends) and len(features) == len(targets) == ends[-1] and np.all(lengths > 0)):
        raise UserError(f"{path}: {name}: features, targets and lengths differ in their frames")
    if targets.max() >= target_count:
        raise UserError(f"{path}: {name}: target {targets.max()} of only {target_count}")
    return Split(features, targets, ends)


def _map(path: Path, dataset: h5py.Dataset, dtype: type[np.generic], ndim: int) -> np.memmap:
    offset = dataset.id.get_offset()
    if dataset.dtype != dtype or dataset.ndim != ndim or offset is None:
        raise ValueError(f"{dataset.name} is not a contiguous {ndim}-D array of {dtype.__name__}")
    return np.memmap(path, dtype, "r", offset, dataset.shape)


class FrameReader:
    """Gathers frames with their context, into buffers that are made once.

    Args:
        split: to read from.
        context: frames on each side, clamped at the utterance's ends.
        capacity: the most frames at once.
    """

    def __init__(self, split: Split, context: int, capacity: int) -> None:
        self._split = split
        self._begins = np.concatenate([[0], split.ends[:-1]])
        self._offsets = np.arange(-context, context + 1)
        width, dim = len(self._offsets), split.features.shape[1]
        self._index = np.empty((capacity, width), np.int64)
        self._half = np.empty((capacity, width, dim), np.float16)
        self._inputs = np.empty((capacity, width * dim), np.float32)
        self._targets = np.empty(capacity, np.uint16)

    def gather(self, frames: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Inputs (B, (2 context + 1) D) and targets (B,) of frames (B,), B <= capacity.

        Both are views of the reader's buffers, valid until the next call.
        """
        count = len(frames)
        index, half, inputs = self._index[:count], self._half[:count], self._inputs[:count]
        utterance = np.searchsorted(self._split.ends, frames, side="right")
        np.add(frames[:, None], self._offsets, out=index)
        np.maximum(index, self._begins[utterance][:, None], out=index)
        np.minimum(index, self._split.ends[utterance][:, None] - 1, out=index)
        # "clip" lets take() write into out directly; no index is out of bounds.
        np.take(self._split.features, index, axis=0, out=half, mode="clip")
        inputs[...] = half.reshape(inputs.shape)
        targets = np.take(self._split.targets, frames, out=self._targets[:count], mode="clip")
        return inputs, targets


def share(frames: int, workers: int, rank: int) -> tuple[int, int]:
    """First and end of a worker's part of `frames`: parts differ by one frame at the most."""
    return frames * rank // workers, frames * (rank + 1) // workers


class Minibatches:
    """The minibatches of one worker: every frame of the split once an epoch, in random order.

    All workers draw the same permutation, cut it into global batches of workers * minibatch
    frames, and take their share of each. So the number of steps is the same on all of them
    whatever the number of frames; in the last step a worker's share may be smaller, or empty.
    And N workers see, step by step, the frames that one worker sees with an N-fold minibatch.

    Args:
        split: to draw from.
        context: frames on each side.
        minibatch: frames per worker and step.
        workers: N.
        rank: of this worker, 0 to N - 1.
    """

    def __init__(self, split: Split, context: int, minibatch: int, workers: int, rank: int) -> None:
        self._reader = FrameReader(split, context, minibatch)
        self._frames = len(split)
        self._batch = workers * minibatch
        self._workers, self._rank = workers, rank
        self._order = np.arange(self._frames)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self._frames // self._batch)

    def global_size(self, step: int) -> int:
        """Frames of all workers together at `step`."""
        return min(self._batch, self._frames - step * self._batch)

    def shuffle(self, stream: np.random.Generator) -> None:
        """Draw the order of an epoch; `stream` must be alike on all workers."""
        self._order = stream.permutation(self._frames)

    def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
        """Inputs and targets of this worker's minibatch at `step` (0 to steps - 1)."""
        batch = self._order[step * self._batch : (step + 1) * self._batch]
        first, end = share(len(batch), self._workers, self._rank)
        return self._reader.gather(batch[first:end])
