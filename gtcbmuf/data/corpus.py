"""Reads corpus files. A corpus holds frames of features, with one target per frame.

docs/reference/files.md describes the format. `gtcbmuf.data.corpus_writer` writes such files.
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
from gtcbmuf.base.hdf5 import READ_ERRORS, get_attributes, get_dataset, open_file
from gtcbmuf.data.corpus_format import (
    CHECKSUM_FRAMES,
    FORMAT,
    USER_BLOCK,
    VERSION,
    format_user_block,
    hash_content,
)

SPLITS = ("train", "valid", "test")
#: Phone of silence. The phone error rate ignores it.
SILENCE = "sil"
#: Largest number of frames in memory at a time: 3 hours, or 84 MB at 40 features per frame.
POOL = 2**20


@dataclass(frozen=True)
class Frames:
    """The frames of several utterances, one utterance after the other.

    Attributes:
        features: features of the T frames, (T, D) float16.
        targets: target of each frame, (T,) uint16.
        ends: end of each utterance, (U,) int64. This is the index of the frame after its last one.
    """

    features: NDArray[np.float16]
    targets: NDArray[np.uint16]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def release(self) -> None:
        """Release the memory of mapped pages. The system reads them again on demand."""
        for array in (self.features, self.targets):
            base: object = array.base
            if isinstance(base, mmap.mmap):
                base.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Split(Frames):
    """The frames of one split, mapped from the file read-only.

    The ranks of a host share the mapped pages.

    Attributes:
        names: names of the U utterances.
        speakers: names of the speakers of the U utterances.
    """

    names: tuple[str, ...]
    speakers: tuple[str, ...]

    def pieces(self) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.int64]]]:
        """Yield the targets and the ends of the utterances, piece by piece.

        A piece consists of whole utterances: at most POOL frames, or one longer utterance. This
        bounds the memory. The ends count from the start of the piece.
        """
        begin = first = 0
        while first < len(self.ends):
            end = max(int(np.searchsorted(self.ends, begin + POOL, side="right")), first + 1)
            yield self.targets[begin : self.ends[end - 1]], self.ends[first:end] - begin
            begin, first = int(self.ends[end - 1]), end
            self.release()

    def counts(self, target_count: int) -> NDArray[np.int64]:
        """Count the frames of each target, (target_count,) int64."""
        counts = np.zeros(target_count, np.int64)
        for targets, _ in self.pieces():
            counts += np.bincount(targets, minlength=target_count)
        return counts


@dataclass(frozen=True)
class Corpus:
    """An open corpus file.

    Attributes:
        path: path of the file.
        digest: text of the user block, which contains the hash of the content. Only `find_damage`
            compares the content with this hash.
        attributes: attributes of the file, such as its source and its normalisation.
        feature_dim: number of features per frame, D.
        phones: names of the phones.
        target_phone: index of each target's phone, (C,) uint16.
        train: split for training.
        valid: split for validation.
        test: split for the final evaluation.
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
        """Scope of the normalisation of the features to mean 0 and variance 1.

        "speaker", "utterance", "none" or "statistics" (from Kaldi). An empty string if the file
        does not state it.
        """
        return str(self.attributes.get("normalisation", ""))

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz. 0 if the file does not state it, as after an import from Kaldi."""
        return int(self.attributes.get("sample_rate", 0))

    @property
    def frame_shift_ms(self) -> float:
        """Time from a frame to the next in ms. 0 if the file does not state it."""
        return float(self.attributes.get("frame_shift_ms", 0))

    @property
    def has_phones(self) -> bool:
        """Whether the phones are known. If not, each target is a pdf-id and its own phone."""
        return self.attributes.get("targets") != "pdf"


def open_corpus(path: Path | str) -> Corpus:
    """Open a corpus file.

    The frames stay on disk until they are read.

    Args:
        path: path of the corpus file.

    Returns:
        The open corpus.

    Raises:
        UserError: the file does not exist or is not a corpus. Its format has another version, or
            its arrays contradict each other.

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
                f"{path}: no such file; create it with "
                f"gtcbmuf corpus synth --preset small --out {path}, or with import-kaldi or "
                "import-audio"
            )
        with path.open("rb") as raw:
            digest = raw.read(USER_BLOCK).rstrip(b"\0").decode(errors="replace")
        with open_file(path) as file:
            attributes = get_attributes(file)
            version = attributes.get("version")
            if attributes.get("format") != FORMAT:
                raise UserError(f"{path}: an HDF5 file, but not a gtcbmuf corpus")
            if version != VERSION:
                raise UserError(f"{path}: corpus format version {version}; expected {VERSION}")
            phones = _read_text(get_dataset(file, "phones"))
            target_phone = get_dataset(file, "target_phone")[:].astype(np.uint16)
            if not (len(target_phone) and target_phone.max() < len(phones)):
                raise UserError(
                    f"{path}: target_phone: expected at least one target, with phones below "
                    f"{len(phones)}"
                )
            train, valid, test = (
                _read_split(path, file, name, len(target_phone)) for name in SPLITS
            )
    dims = [split.features.shape[1] for split in (train, valid, test)]
    if len(set(dims)) > 1:
        raise UserError(
            f"{path}: train, valid and test have {dims[0]}, {dims[1]} and {dims[2]} features per "
            "frame; expected equal numbers"
        )
    return Corpus(path, digest, attributes, dims[0], phones, target_phone, train, valid, test)


def find_damage(path: Path) -> list[str]:
    """Compare every byte of a corpus file with its hash and its checksums.

    Args:
        path: path of the corpus file.

    Returns:
        One line per damaged part. The list is empty for an intact file.

    Raises:
        UserError: the file is too damaged to be read.
    """
    corpus = open_corpus(path)
    with path.open("rb") as file:
        user_block = file.read(USER_BLOCK)
    if user_block == format_user_block(hash_content(path)):
        return []
    faults = []
    with _refusing_unreadable(path), open_file(path) as file:
        for split_name in SPLITS:
            split = corpus.split(split_name)
            for name, array in (("features", split.features), ("targets", split.targets)):
                checksums = get_dataset(file, f"{split_name}/{name}_crc32")[:]
                faults += [
                    f"{split_name}: {name} of frames {first} to "
                    f"{min(first + CHECKSUM_FRAMES, len(split)) - 1}"
                    for first in _find_wrong_checksums(array, checksums)
                ]
    return faults or ["the hash of the file is wrong, but the checksums of all frames are right"]


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
    """Raise a UserError in place of the errors that HDF5 and NumPy raise for a bad file."""
    try:
        yield
    except READ_ERRORS as error:
        raise UserError(f"{path}: cannot be read as a corpus: {error}") from None


def _read_text(dataset: h5py.Dataset) -> tuple[str, ...]:
    if dataset.dtype.kind != "S" or dataset.ndim != 1:
        raise ValueError(f"{dataset.name} is not a 1-D array of fixed-length text")
    # Interned, because a speaker's name occurs once per utterance.
    return tuple(sys.intern(text.decode()) for text in dataset[:])


def _read_split(path: Path, file: h5py.File, name: str, target_count: int) -> Split:
    features = _map_dataset(path, get_dataset(file, f"{name}/features"), np.float16, 2)
    targets = _map_dataset(path, get_dataset(file, f"{name}/targets"), np.uint16, 1)
    lengths = get_dataset(file, f"{name}/lengths")[:]
    ends = np.cumsum(lengths, dtype=np.int64)
    if not (len(ends) and len(features) == len(targets) == ends[-1] and np.all(lengths > 0)):
        raise UserError(
            f"{path}: {name}: {len(features)} frames of features, {len(targets)} targets, and "
            f"lengths with the sum {ends[-1:].sum()}; expected equal numbers, and lengths above 0"
        )
    names = _read_text(get_dataset(file, f"{name}/names"))
    speakers = _read_text(get_dataset(file, f"{name}/speakers"))
    if not len(names) == len(speakers) == len(ends):
        raise UserError(
            f"{path}: {name}: {len(ends)} lengths, {len(names)} names and {len(speakers)} "
            "speakers; expected one of each per utterance"
        )
    split = Split(features, targets, ends, names, speakers)
    for first in range(0, len(split), POOL):
        largest = targets[first : first + POOL].max()
        if largest >= target_count:
            raise UserError(f"{path}: {name}: target {largest}; expected 0 to {target_count - 1}")
        split.release()
    return split


def _map_dataset(
    path: Path, dataset: h5py.Dataset, dtype: type[np.generic], ndim: int
) -> np.memmap:
    offset = dataset.id.get_offset()
    if dataset.dtype != dtype or dataset.ndim != ndim or offset is None:
        raise ValueError(f"{dataset.name} is not a contiguous {ndim}-D array of {dtype.__name__}")
    if offset % dataset.dtype.itemsize:  # NumPy would copy the whole array at each access
        raise ValueError(
            f"{dataset.name} is not aligned: it starts at byte {offset}; expected a multiple of "
            f"{dataset.dtype.itemsize}"
        )
    return np.memmap(path, dtype, "r", offset, dataset.shape)
