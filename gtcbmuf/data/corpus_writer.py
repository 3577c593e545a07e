"""Writes corpus files, utterance by utterance."""

import tempfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import h5py
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.files import replacing, writing
from gtcbmuf.base.hdf5 import create_file, set_attributes, text_array
from gtcbmuf.data.corpus import SPLITS
from gtcbmuf.data.corpus_format import (
    ALIGNMENT,
    CHECKSUM_FRAMES,
    FORMAT,
    USER_BLOCK,
    VERSION,
    format_user_block,
    hash_content,
)


@dataclass(frozen=True)
class Utterance:
    """A few seconds of speech of one speaker, as T frames with targets.

    Attributes:
        name: name of the utterance.
        speaker: name of the speaker.
        features: normalised features, (T, D) float32.
        targets: target of each frame, (T,) uint16.

    Examples:
        >>> silence = Utterance("a-1", "a", np.zeros((9, 40), np.float32), np.zeros(9, np.uint16))
        >>> len(silence.targets)
        9
    """

    name: str
    speaker: str
    features: NDArray[np.float32]
    targets: NDArray[np.uint16]


class _Spool:
    """The utterances of one split, in temporary files without a name.

    The system removes these files when the process ends.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        def open_file() -> IO[bytes]:
            return stack.enter_context(tempfile.TemporaryFile(dir=folder))

        self.features, self.targets = open_file(), open_file()
        self.lengths: list[int] = []
        self.names: list[str] = []
        self.speakers: list[str] = []


class CorpusWriter:
    """Writes a corpus file, utterance by utterance. Use it in a `with` statement.

    The file appears when the `with` statement ends without an exception. After an exception, an
    earlier file remains unchanged. The same calls write the same bytes. The memory does not grow
    with the number of frames.

    Args:
        path: path of the HDF5 file.
        phones: names of the phones.
        target_phone: index of each target's phone.
        attributes: origin of the corpus, such as its source and its normalisation. With `split_by`
            = "utterance", a speaker may be in several splits.

    Raises:
        UserError: the file cannot be written, or the disk is full.
        ValueError: a split has no utterance when the `with` statement ends.

    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> path = Path(folder.name, "corpus.h5")
    >>> features, targets = np.ones((5, 2), np.float32), np.array([0, 0, 1, 1, 1], np.uint16)
    >>> with CorpusWriter(path, phones=["sil", "a"], target_phone=[0, 1], attributes={}) as writer:
    ...     for split in ("train", "valid", "test"):
    ...         writer.add(split, Utterance(f"{split}-1", f"{split} speaker", features, targets))
    >>> path.exists()
    True
    >>> folder.cleanup()
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
        self._split_of: dict[str, str] = {}  # by speaker

    def __enter__(self) -> "CorpusWriter":
        with writing(self.path), ExitStack() as stack:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._spools = {name: _Spool(self.path.parent, stack) for name in SPLITS}
            self._stack = stack.pop_all()
        return self

    def add(self, split: str, utterance: Utterance) -> None:
        """Add an utterance to a split.

        Args:
            split: "train", "valid" or "test".
            utterance: utterance of a speaker who is in no other split, unless the corpus is split
                by utterance.

        Raises:
            ValueError: the features and targets have no frames or different numbers of frames. The
                features do not fit into float16, or have another dimension than those of earlier
                utterances. A target is out of range. The speaker is in another split.
            UserError: the disk is full.
        """
        name, frames = utterance.name, len(utterance.targets)
        with np.errstate(over="ignore"):  # the check for finite values catches an overflow
            features = utterance.features.astype(np.float16)
        if features.ndim != 2 or len(features) != frames or not frames:
            raise ValueError(
                f"{name}: features of shape {features.shape} and {frames} targets; "
                "expected (T, D) and T, with T above 0"
            )
        self._dim = self._dim or features.shape[1]
        if features.shape[1] != self._dim:
            raise ValueError(
                f"{name}: {features.shape[1]} features per frame; expected {self._dim}, as in "
                "earlier utterances"
            )
        if not np.isfinite(features).all():
            raise ValueError(f"{name}: features that are NaN, infinite or too large for float16")
        if not 0 <= utterance.targets.min() <= utterance.targets.max() < len(self._target_phone):
            raise ValueError(
                f"{name}: targets from {utterance.targets.min()} to {utterance.targets.max()}; "
                f"expected 0 to {len(self._target_phone) - 1}"
            )
        speaker_split = self._split_of.setdefault(utterance.speaker, split)
        if speaker_split != split and self._attributes.get("split_by") != "utterance":
            raise ValueError(
                f"{name}: speaker {utterance.speaker} is already in {speaker_split}; expected no "
                "speaker in two splits"
            )
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
                self._write_file()

    def _write_file(self) -> None:
        empty_splits = [name for name, spool in self._spools.items() if not spool.lengths]
        if empty_splits:
            raise ValueError(
                f"{self.path}: {empty_splits[0]} has no utterance; expected at least one"
            )
        with replacing(self.path) as part:
            with create_file(
                part,
                track_order=True,
                userblock_size=USER_BLOCK,
                alignment_threshold=1,
                alignment_interval=ALIGNMENT,
            ) as file:
                set_attributes(file, self._attributes)
                file["phones"] = text_array(self._phones)
                file["target_phone"] = np.array(self._target_phone, np.uint16)
                for name, spool in self._spools.items():
                    self._write_split(file.create_group(name), spool)
            with part.open("r+b") as raw:
                raw.write(format_user_block(hash_content(part)))

    def _write_split(self, group: h5py.Group, spool: _Spool) -> None:
        frames = sum(spool.lengths)
        _write_array(group, "features", spool.features, (frames, self._dim), np.float16)
        _write_array(group, "targets", spool.targets, (frames,), np.uint16)
        group["lengths"] = np.array(spool.lengths, np.int32)
        group["names"] = text_array(spool.names)
        group["speakers"] = text_array(spool.speakers)


def _write_array(
    group: h5py.Group,
    name: str,
    spool: IO[bytes],
    shape: tuple[int, ...],
    dtype: type[np.generic],
) -> None:
    """Write a dataset with one row per frame, and the checksums of its frames."""
    dataset = group.create_dataset(name, shape, dtype)
    row_bytes = dataset.dtype.itemsize * int(np.prod(shape[1:]))
    spool.seek(0)
    checksums = []
    for first in range(0, shape[0], CHECKSUM_FRAMES):
        data = spool.read(CHECKSUM_FRAMES * row_bytes)
        frames = np.frombuffer(data, dtype).reshape(-1, *shape[1:])
        dataset[first : first + CHECKSUM_FRAMES] = frames
        checksums.append(zlib.crc32(data))
    group[f"{name}_crc32"] = np.array(checksums, np.uint32)
