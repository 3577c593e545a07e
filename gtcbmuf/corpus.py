"""A corpus on disk: frames of features with a target each, in HDF5.

docs/corpus.md describes the format, version 1.
"""

import hashlib
import mmap
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.errors import UserError
from gtcbmuf.storage import (
    READ_ERRORS,
    get_attributes,
    get_dataset,
    replacing,
    set_attributes,
    text_array,
    writing,
)

FORMAT = "gtcbmuf-corpus"
VERSION = 1
SPLITS = ("train", "valid", "test")
#: Frames that have a checksum together.
CHUNK = 4096
#: The most frames that are in memory at a time: 3 hours, 84 MB.
POOL = 2**20
_USER_BLOCK = 512
_ALIGNMENT = 64


@dataclass(frozen=True)
class Utterance:
    """Some seconds of one speaker: features (T, D) float32, normalised; targets (T,) uint16."""

    name: str
    speaker: str
    features: NDArray[np.float32]
    targets: NDArray[np.uint16]


class _Spool:
    """What was added to a split, in files without a name: nothing stays if the process dies."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        def file() -> IO[bytes]:
            return stack.enter_context(tempfile.TemporaryFile(dir=folder))

        self.features, self.targets = file(), file()
        self.lengths: list[int] = []
        self.names: list[str] = []
        self.speakers: list[str] = []


class Writer:
    """Writes a corpus utterance by utterance; to be used in a `with` block.

    The file takes its place when the block ends without an exception: never half a file, and an
    earlier one stays otherwise. The same calls give the same bytes. Memory does not grow with the
    frames.

    A place that cannot be written to, or that is full, is a UserError.

    Args:
        path: of the HDF5 file.
        phones: names.
        target_phone: for each target, the index of its phone.
        attributes: how the corpus was made.
    """

    def __init__(
        self,
        path: Path,
        *,
        phones: Sequence[str],
        target_phone: Sequence[int],
        attributes: Mapping[str, str | int | float | bool],
    ) -> None:
        self.path = path
        self._phones, self._target_phone = phones, target_phone
        self._attributes = {**attributes, "format": FORMAT, "version": VERSION}
        self._dim = 0
        self._speakers: dict[str, str] = {}

    def __enter__(self) -> "Writer":
        with writing(self.path), ExitStack() as stack:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._spools = {name: _Spool(self.path.parent, stack) for name in SPLITS}
            self._stack = stack.pop_all()
        return self

    def add(self, split: str, utterance: Utterance) -> None:
        """Add an utterance to "train", "valid" or "test".

        Raises:
            ValueError: features and targets that differ in their frames, have another dimension
                than those before, are not finite in float16, a target that there is not, or a
                speaker of another split.
        """
        name, frames = utterance.name, len(utterance.targets)
        with np.errstate(over="ignore"):  # refused below
            features = utterance.features.astype(np.float16)
        if features.ndim != 2 or len(features) != frames or not frames:
            raise ValueError(f"{name}: features {features.shape} and {frames} targets differ")
        self._dim = self._dim or features.shape[1]
        if features.shape[1] != self._dim:
            raise ValueError(f"{name}: {features.shape[1]} features a frame, not {self._dim}")
        if not np.isfinite(features).all():
            raise ValueError(f"{name}: features hold NaN, or values that float16 cannot")
        if not 0 <= utterance.targets.min() <= utterance.targets.max() < len(self._target_phone):
            raise ValueError(f"{name}: a target is not below {len(self._target_phone)}")
        if self._speakers.setdefault(utterance.speaker, split) != split:
            raise ValueError(f"{name}: speaker {utterance.speaker} is in another split already")
        spool = self._spools[split]
        with writing(self.path):
            spool.features.write(features.tobytes())
            spool.targets.write(utterance.targets.astype(np.uint16).tobytes())
        spool.lengths.append(frames)
        spool.names.append(name)
        spool.speakers.append(utterance.speaker)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with writing(self.path), self._stack:
            if error is None:
                self._finish()

    def _finish(self) -> None:
        empty = [name for name, spool in self._spools.items() if not spool.lengths]
        if empty:
            raise ValueError(f"{self.path}: no utterance in {empty[0]}")
        with replacing(self.path) as beside:
            with h5py.File(
                beside,
                "w",
                libver="v110",
                track_order=True,
                userblock_size=_USER_BLOCK,
                alignment_threshold=1,
                alignment_interval=_ALIGNMENT,
            ) as file:
                set_attributes(file, self._attributes)
                file["phones"] = text_array(self._phones)
                file["target_phone"] = np.array(self._target_phone, np.uint16)
                for name, spool in self._spools.items():
                    self._write_split(file.create_group(name), spool)
            with beside.open("r+b") as raw:
                raw.write(_user_block(_digest(beside)))

    def _write_split(self, group: h5py.Group, spool: _Spool) -> None:
        frames = sum(spool.lengths)
        _write_frames(group, "features", spool.features, (frames, self._dim), np.float16)
        _write_frames(group, "targets", spool.targets, (frames,), np.uint16)
        group["lengths"] = np.array(spool.lengths, np.int32)
        group["names"] = text_array(spool.names)
        group["speakers"] = text_array(spool.speakers)


def _write_frames(
    group: h5py.Group,
    name: str,
    spool: IO[bytes],
    shape: tuple[int, ...],
    dtype: type[np.generic],
) -> None:
    dataset = group.create_dataset(name, shape, dtype)
    row = dataset.dtype.itemsize * int(np.prod(shape[1:]))
    spool.seek(0)
    checksums = []
    for first in range(0, shape[0], CHUNK):
        chunk = spool.read(CHUNK * row)
        dataset[first : first + CHUNK] = np.frombuffer(chunk, dtype).reshape(-1, *shape[1:])
        checksums.append(zlib.crc32(chunk))
    group[f"{name}_crc32"] = np.array(checksums, np.uint32)


def _digest(path: Path) -> str:
    """SHA-256, in hexadecimal, of all that follows the user block."""
    with path.open("rb") as file:
        file.seek(_USER_BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _user_block(digest: str) -> bytes:
    return f"{FORMAT} {VERSION}\nsha256 {digest}\n".encode().ljust(_USER_BLOCK, b"\0")


def verify(path: Path) -> list[str]:
    """What is damaged in a corpus, a line each; nothing if no byte of it was changed.

    Raises:
        UserError: it is damaged so that it cannot be read at all.
    """
    corpus = read(path)
    with path.open("rb") as file:
        block = file.read(_USER_BLOCK)
    if block == _user_block(_digest(path)):
        return []
    faults = []
    with _reading(path), h5py.File(path, "r") as file:
        for name in SPLITS:
            split = corpus.split(name)
            for what, frames in (("features", split.features), ("targets", split.targets)):
                faults += [
                    f"{name}: {what} of frames {first} to {min(first + CHUNK, len(split)) - 1}"
                    for first in _damaged(frames, get_dataset(file, f"{name}/{what}_crc32")[:])
                ]
    return faults or ["the checksum of the file is wrong, those of its frames are right"]


def _damaged(frames: NDArray[np.generic], checksums: NDArray[np.uint32]) -> Iterator[int]:
    """First frame of each chunk whose checksum is wrong."""
    for number, first in enumerate(range(0, len(frames), CHUNK)):
        right = number < len(checksums) and checksums[number]
        if zlib.crc32(np.ascontiguousarray(frames[first : first + CHUNK]).data) != right:
            yield first


@dataclass(frozen=True)
class Frames:
    """Frames, utterance after utterance.

    Attributes:
        features: (T, D) float16.
        targets: (T,) uint16.
        ends: (U,) int64: the frame after the last one of each utterance.
    """

    features: NDArray[np.float16]
    targets: NDArray[np.uint16]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def release(self) -> None:
        """Give back the memory of what was read from a file; it is read again where needed."""
        for frames in (self.features, self.targets):
            base: object = frames.base
            if isinstance(base, mmap.mmap):
                base.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Split(Frames):
    """The frames of one split: read-only maps of the file, which the ranks of a host share.

    Attributes:
        names, speakers: (U,) of the utterances.
    """

    names: tuple[str, ...]
    speakers: tuple[str, ...]

    def pieces(self) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.int64]]]:
        """Targets and ends of some utterances after others, so that memory holds some at a time."""
        begin = first = 0
        while first < len(self.ends):
            # As many as fit, but one at least.
            end = max(int(np.searchsorted(self.ends, begin + POOL, side="right")), first + 1)
            yield self.targets[begin : self.ends[end - 1]], self.ends[first:end] - begin
            begin, first = int(self.ends[end - 1]), end
            self.release()

    def counts(self, targets: int) -> NDArray[np.int64]:
        """How often each of `targets` targets occurs: (targets,)."""
        counts = np.zeros(targets, np.int64)
        for piece, _ in self.pieces():
            counts += np.bincount(piece, minlength=targets)
        return counts


@dataclass(frozen=True)
class Corpus:
    """A corpus that `read` opened.

    Attributes:
        path: of the file.
        digest: the hash that was written with it: `verify` tells whether it still holds.
        attributes: how it was made; targets = "pdf" says that the phones are not known.
        feature_dim: D.
        phones: (P,) names.
        target_phone: (C,) uint16: the phone of each target.
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
        """The split "train", "valid" or "test"."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]

    @property
    def target_count(self) -> int:
        """C."""
        return len(self.target_phone)

    @property
    def normalisation(self) -> str:
        """Over what features have mean 0 and variance 1: "speaker", "utterance", "none"; by Kaldi's
        "statistics"; or "" where that is not said.
        """
        return str(self.attributes.get("normalisation", ""))

    @property
    def has_phones(self) -> bool:
        """Whether the phones are known; of imported pdf-ids they are not, and each has its own."""
        return self.attributes.get("targets") != "pdf"


def read(path: Path) -> Corpus:
    """Open a corpus; its frames stay on disk until they are used.

    Raises:
        UserError: no such file, no corpus, another version, or arrays that contradict each other.
    """
    with _reading(path):
        if not path.exists():
            raise UserError(
                f"{path}: no such file; make a corpus with "
                f"gtcbmuf corpus synth --preset small --out {path}, import-kaldi or import-audio"
            )
        with path.open("rb") as raw:
            digest = raw.read(_USER_BLOCK).rstrip(b"\0").decode(errors="replace")
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


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever HDF5 and NumPy say of a file that is no corpus, or a damaged one, in one line."""
    try:
        yield
    except READ_ERRORS as error:
        raise UserError(f"{path}: cannot be read as a corpus: {error}") from None


def _read_text(dataset: h5py.Dataset) -> tuple[str, ...]:
    if dataset.dtype.kind != "S" or dataset.ndim != 1:
        raise ValueError(f"{dataset.name} is no list of text of fixed length")
    return tuple(sys.intern(text.decode()) for text in dataset[:])  # speakers come often


def _read_split(path: Path, file: h5py.File, name: str, target_count: int) -> Split:
    features = _map(path, get_dataset(file, f"{name}/features"), np.float16, 2)
    targets = _map(path, get_dataset(file, f"{name}/targets"), np.uint16, 1)
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


def _map(path: Path, dataset: h5py.Dataset, dtype: type[np.generic], ndim: int) -> np.memmap:
    offset = dataset.id.get_offset()
    if dataset.dtype != dtype or dataset.ndim != ndim or offset is None:
        raise ValueError(f"{dataset.name} is not a contiguous {ndim}-D array of {dtype.__name__}")
    if offset % dataset.dtype.itemsize:  # NumPy would copy the whole array at each access
        raise ValueError(f"{dataset.name} is not aligned: it begins at byte {offset} of the file")
    return np.memmap(path, dtype, "r", offset, dataset.shape)
