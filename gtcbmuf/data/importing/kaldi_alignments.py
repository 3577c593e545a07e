"""Kaldi's alignments, with one pdf-id or phone per frame."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import writing
from gtcbmuf.data.importing.kaldi_archives import read_vectors
from gtcbmuf.data.importing.names import NameTable

#: Largest number of targets: a corpus stores them in 16 bits.
MAX_TARGETS = 1 << 16
#: Advice on the conversion of transition-ids, for messages.
CONVERSION = (
    'convert alignments with ali-to-pdf final.mdl ark:"gunzip -c ali.1.gz|" ark:- '
    "(or ali-to-phones --per-frame)"
)


class KaldiAlignments:
    """The targets of all utterances. A spool file holds them, to save memory.

    Args:
        archives: paths of the archives.
        spool: empty file, open for reading and writing.
        out: path of the corpus, for messages.

    Attributes:
        target_count: one more than the largest target.

    Raises:
        UserError: an archive cannot be read or holds transition-ids, an utterance has two
            alignments, or the disk is full.
    """

    def __init__(self, archives: Sequence[Path], spool: IO[bytes], out: Path) -> None:
        self._spool = spool
        # Offset in bytes and number of targets of each utterance.
        self._extents: NameTable[tuple[int, int]] = NameTable()
        counts = np.zeros(MAX_TARGETS, np.int64)
        repeats = np.zeros(MAX_TARGETS, np.int64)
        for archive in archives:
            for name, targets in read_vectors(archive):
                if name in self._extents:
                    raise UserError(
                        f"{archive}: {name}: second alignment of this utterance; expected one"
                    )
                if len(targets) and not 0 <= targets.min() <= targets.max() < MAX_TARGETS:
                    raise UserError(
                        f"{archive}: {name}: targets from {targets.min()} to {targets.max()}; "
                        f"expected 0 to {MAX_TARGETS - 1}; "
                        f"if these are transition-ids, {CONVERSION}"
                    )
                self._extents[name] = (spool.tell(), len(targets))
                with writing(out):
                    spool.write(targets.astype(np.uint16).tobytes())
                np.add.at(counts, targets, 1)
                np.add.at(repeats, targets[1:][targets[1:] == targets[:-1]], 1)
        with writing(out):
            spool.flush()
        _refuse_transition_ids(archives[0], counts, repeats)
        self.target_count = int(counts.nonzero()[0].max(initial=-1)) + 1

    def __contains__(self, name: str) -> bool:
        return name in self._extents

    def length(self, name: str) -> int:
        """Return the number of targets of an utterance."""
        return self._extents[name][1]

    def __getitem__(self, name: str) -> NDArray[np.uint16]:
        """Read the targets of an utterance, (frames,) uint16."""
        offset, length = self._extents[name]
        self._spool.seek(offset)
        return np.frombuffer(self._spool.read(2 * length), np.uint16)


def _refuse_transition_ids(
    archive: Path, counts: NDArray[np.int64], repeats: NDArray[np.int64]
) -> None:
    """Refuse transition-ids below 65536, which could pass for pdf-ids.

    A state has one transition-id on its first frame, and another one, that of the self-loop, on
    all further frames. So half of the ids never occur on two consecutive frames. A frequent pdf-id
    or phone often does. Also, no transition-id is 0, but one pdf-id is.

    Args:
        archive: path of an archive, for the message.
        counts: number of frames with each id, (65536,).
        repeats: number of frames with each id that follow a frame with the same id, (65536,).
    """
    frequent = counts >= 10
    single = np.count_nonzero(frequent & (repeats == 0))
    if not counts[0] and 3 * single > np.count_nonzero(frequent):
        raise UserError(
            f"{archive}: probably transition-ids: {single} of {np.count_nonzero(frequent)} "
            f"frequent ids never repeat, and none is 0; expected pdf-ids; {CONVERSION}"
        )
