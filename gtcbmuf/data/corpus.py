"""Reads a corpus file: frames of features, each with a target.

docs/corpus.md describes the format. `gtcbmuf.data.corpus_writer` writes it.
"""

import mmap
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.hdf5 import READ_ERRORS, get_attributes, get_dataset
from gtcbmuf.data.corpus_format import (
    CHECKSUM_FRAMES,
    FORMAT,
    USER_BLOCK,
    VERSION,
    format_user_block,
    hash_content,
)

SPLITS = ("train", "valid", "test")
#: The phone of pauses. The phone error rate ignores it.
SILENCE = "sil"
#: The largest number of frames in memory at a time: 3 hours, 84 MB.
POOL = 2**20


@dataclass(frozen=True)
class Frames:
    """The frames of some utterances, one utterance after the other.

    Attributes:
        features: (T, D) float16.
        targets: (T,) uint16.
        ends: (U,) int64. The frame after the last one of each utterance.
    """

    features: NDArray[np.float16]
    targets: NDArray[np.uint16]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def release(self) -> None:
        """Give the memory of mapped pages back to the system, which reads them again on demand."""
        for array in (self.features, self.targets):
            base: object = array.base
            if isinstance(base, mmap.mmap):
                base.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Split(Frames):
    """The frames of one split, as read-only maps of the file that the ranks of a host share.

    Attributes:
        names, speakers: (U,) of the utterances.
    """

    names: tuple[str, ...]
    speakers: tuple[str, ...]

    def pieces(self) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.int64]]]:
        """Yield the targets and ends of successive groups of utterances.

        A piece has at most POOL frames, or a single utterance, so that memory stays bounded.
        """
        begin = first = 0
        while first < len(self.ends):
            end = max(int(np.searchsorted(self.ends, begin + POOL, side="right")), first + 1)
            yield self.targets[begin : self.ends[end - 1]], self.ends[first:end] - begin
            begin, first = int(self.ends[end - 1]), end
            self.release()

    def counts(self, target_count: int) -> NDArray[np.int64]:
        """Return the number of frames of each target: (target_count,)."""
        counts = np.zeros(target_count, np.int64)
        for targets, _ in self.pieces():
            counts += np.bincount(targets, minlength=target_count)
        return counts


@dataclass(frozen=True)
class Corpus:
    """An open corpus file.

    Attributes:
        path: of the file.
        digest: text of the user block, with the hash of the content. `find_damage` checks it.
        attributes: of the file, such as its source and its normalisation.
        feature_dim: D.
        phones: (P,) names.
        target_phone: (C,) uint16. The phone of each target.
        train, valid, test: the splits.
    """

    path: Path
    digest: str
    attributes: dict[str, Any]
    feature_dim: int
    phones: tuple[str, ...]
    target_phone: NDArray[np.uint16]
    train: Split
    valid: Split
    test: Split

    def split(self, name: str) -> Split:
        """Return the split "train", "valid" or "test"."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]

    @property
    def target_count(self) -> int:
        """Number of targets, C."""
        return len(self.target_phone)

    @property
    def normalisation(self) -> str:
        """The frames over which features have mean 0 and variance 1.

        One of "speaker", "utterance", "none" and "statistics" (Kaldi's), or "" if the file does not
        say.
        """
        return str(self.attributes.get("normalisation", ""))

    @property
    def has_phones(self) -> bool:
        """Whether the phones are known. Without them, each target (a pdf-id) is its own phone."""
        return self.attributes.get("targets") != "pdf"


def open_corpus(path: Path | str) -> Corpus:
    """Open a corpus file; the frames stay on disk until they are used.

    Args:
        path: of the file.

    Raises:
        UserError: the file does not exist, is no corpus, has another version, or has arrays that
            contradict each other.

    >>> from tempfile import TemporaryDirectory
    >>> from gtcbmuf.data.corpus_writer import CorpusWriter, Utterance
    >>> folder = TemporaryDirectory()
    >>> path = Path(folder.name, "corpus.h5")
    >>> features, targets = np.ones((5, 2), np.float32), np.array([0, 0, 1, 1, 1], np.uint16)
    >>> with CorpusWriter(path, phones=["sil", "a"], target_phone=[0, 1], attributes={}) as writer:
    ...     for split in SPLITS:
    ...         writer.add(split, Utterance(f"{split}-1", f"{split} speaker", features, targets))
    >>> corpus = open_corpus(path)
    >>> corpus.train.features.shape, corpus.train.names, corpus.phones
    ((5, 2), ('train-1',), ('sil', 'a'))
    >>> folder.cleanup()
    """
    path = Path(path)
    with _refusing_unreadable(path):
        if not path.exists():
            raise UserError(
                f"{path}: no such file; make a corpus with "
                f"gtcbmuf corpus synth --preset small --out {path}, import-kaldi or import-audio"
            )
        with path.open("rb") as raw:
            digest = raw.read(USER_BLOCK).rstrip(b"\0").decode(errors="replace")
        with h5py.File(path, "r") as file:
            attributes = get_attributes(file)
            version = attributes.get("version")
            if attributes.get("format") != FORMAT:
                raise UserError(f"{path}: an HDF5 file, but not a corpus of ours")
            if version != VERSION:
                raise UserError(f"{path}: corpus format {version}; this program reads {VERSION}")
            phones = _read_text(get_dataset(file, "phones"))
            target_phone = get_dataset(file, "target_phone")[:].astype(np.uint16)
            if not (len(target_phone) and target_phone.max() < len(phones)):
                raise UserError(f"{path}: target_phone names a phone that is not there")
            train, valid, test = (
                _read_split(path, file, name, len(target_phone)) for name in SPLITS
            )
    feature_dim = train.features.shape[1]
    if not feature_dim == valid.features.shape[1] == test.features.shape[1]:
        raise UserError(f"{path}: train, valid and test differ in their feature dimensions")
    return Corpus(path, digest, attributes, feature_dim, phones, target_phone, train, valid, test)


def find_damage(path: Path) -> list[str]:
    """Compare every byte of a corpus file with the hash and the checksums in it.

    Returns:
        A line for each damaged part. An intact file gives an empty list.

    Raises:
        UserError: the damage makes the file unreadable.
    """
    corpus = open_corpus(path)
    with path.open("rb") as file:
        user_block = file.read(USER_BLOCK)
    if user_block == format_user_block(hash_content(path)):
        return []
    faults = []
    with _refusing_unreadable(path), h5py.File(path, "r") as file:
        for split_name in SPLITS:
            split = corpus.split(split_name)
            for name, array in (("features", split.features), ("targets", split.targets)):
                checksums = get_dataset(file, f"{split_name}/{name}_crc32")[:]
                faults += [
                    f"{split_name}: {name} of frames {first} to "
                    f"{min(first + CHECKSUM_FRAMES, len(split)) - 1}"
                    for first in _find_wrong_checksums(array, checksums)
                ]
    return faults or ["the checksum of the file is wrong, those of its frames are right"]


def _find_wrong_checksums(
    array: NDArray[np.generic], checksums: NDArray[np.uint32]
) -> Iterator[int]:
    """Yield the first frame under each wrong or missing checksum."""
    for number, first in enumerate(range(0, len(array), CHECKSUM_FRAMES)):
        expected = number < len(checksums) and checksums[number]
        frames = np.ascontiguousarray(array[first : first + CHECKSUM_FRAMES])
        if zlib.crc32(frames.data) != expected:
            yield first


@contextmanager
def _refusing_unreadable(path: Path) -> Iterator[None]:
    """Turn what HDF5 and NumPy raise for a damaged or foreign file into a UserError."""
    try:
        yield
    except READ_ERRORS as error:
        raise UserError(f"{path}: cannot be read as a corpus: {error}") from None


def _read_text(dataset: h5py.Dataset) -> tuple[str, ...]:
    if dataset.dtype.kind != "S" or dataset.ndim != 1:
        raise ValueError(f"{dataset.name} is no list of text of fixed length")
    return tuple(sys.intern(text.decode()) for text in dataset[:])  # speakers repeat


def _read_split(path: Path, file: h5py.File, name: str, target_count: int) -> Split:
    features = _map_dataset(path, get_dataset(file, f"{name}/features"), np.float16, 2)
    targets = _map_dataset(path, get_dataset(file, f"{name}/targets"), np.uint16, 1)
    lengths = get_dataset(file, f"{name}/lengths")[:]
    ends = np.cumsum(lengths, dtype=np.int64)
    if not (len(ends) and len(features) == len(targets) == ends[-1] and np.all(lengths > 0)):
        raise UserError(f"{path}: {name}: features, targets and lengths differ in their frames")
    names = _read_text(get_dataset(file, f"{name}/names"))
    speakers = _read_text(get_dataset(file, f"{name}/speakers"))
    if not len(names) == len(speakers) == len(ends):
        raise UserError(f"{path}: {name}: lengths, names and speakers differ in their utterances")
    split = Split(features, targets, ends, names, speakers)
    for first in range(0, len(split), POOL):
        largest = targets[first : first + POOL].max()
        if largest >= target_count:
            raise UserError(f"{path}: {name}: target {largest} of only {target_count}")
        split.release()
    return split


def _map_dataset(
    path: Path, dataset: h5py.Dataset, dtype: type[np.generic], ndim: int
) -> np.memmap:
    offset = dataset.id.get_offset()
    if dataset.dtype != dtype or dataset.ndim != ndim or offset is None:
        raise ValueError(f"{dataset.name} is not a contiguous {ndim}-D array of {dtype.__name__}")
    if offset % dataset.dtype.itemsize:  # NumPy would copy the whole array at each access
        raise ValueError(f"{dataset.name} is not aligned: it begins at byte {offset} of the file")
    return np.memmap(path, dtype, "r", offset, dataset.shape)
