"""Reads CTM files, which have one line per phone with its utterance and times."""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.exclusions import EXAMPLES
from gtcbmuf.data.importing.phone_alignments import NO_AUDIO, Alignment, PhoneAlignments
from gtcbmuf.data.importing.text_lines import read_lines
from gtcbmuf.data.importing.utterance_files import find_candidates


def read_ctm(path: Path, recordings: Mapping[str, Path]) -> PhoneAlignments:
    """Read the alignments of all recordings from a CTM.

    Each line starts with the name of an utterance, or with the file name of its recording without
    the suffix.

    Args:
        path: path of the CTM.
        recordings: file of each utterance.

    Returns:
        The alignments. A name that stands for no recording, or for several, has a fault. So has a
        recording with several channels, or under several names.

    Raises:
        UserError: the file is not a CTM.
    """
    alignments = PhoneAlignments()
    candidates_of = find_candidates(recordings)
    segments_of: defaultdict[str, _Segments] = defaultdict(_Segments)
    for phone in _read_phones(path):
        match candidates_of.get(phone.utterance, []):
            case []:
                alignments.faults[phone.utterance] = NO_AUDIO
            case [name]:
                segments_of[name].add(phone, alignments.number_label(phone.label))
            case [*names]:
                examples = ", ".join(names[:EXAMPLES])
                alignments.faults[phone.utterance] = f"ambiguous name of {examples}"
    for name, segments in segments_of.items():
        if fault := segments.find_fault():
            alignments.faults[name] = fault
        else:
            alignments.add(name, segments.alignment())
    return alignments


class _Phone(NamedTuple):
    """A line of a CTM, with times in seconds."""

    utterance: str
    channel: str
    begin: float
    end: float
    label: str


@dataclass
class _Segments:
    """All phones of a recording.

    Attributes:
        names: names of the recording in the CTM.
        channels: channels of the phones.
        labels: number of each phone's label.
        times: begin and end of each phone.
    """

    names: set[str] = field(default_factory=set)
    channels: set[str] = field(default_factory=set)
    labels: "array[int]" = field(default_factory=lambda: array("i"))
    times: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, phone: _Phone, label: int) -> None:
        self.names.add(phone.utterance)
        self.channels.add(phone.channel)
        self.labels.append(label)
        self.times.extend((phone.begin, phone.end))

    def find_fault(self) -> str:
        """Return why the phones are not one alignment, or "" if they are."""
        for kind, several in (
            ("alignments under the names", self.names),
            ("channels", self.channels),
        ):
            if len(several) > 1:
                return f"{kind} {' and '.join(sorted(several))}; expected one"
        return ""

    def alignment(self) -> Alignment:
        times = np.frombuffer(self.times, np.float64).reshape(-1, 2)
        return Alignment(np.frombuffer(self.labels, np.int32), times)


def _read_phones(path: Path) -> Iterator[_Phone]:
    """Yield the phone of each line."""
    is_empty = True
    for number, line in enumerate(read_lines(path), 1):
        if line.startswith(";;") or not line.strip():
            continue
        try:
            utterance, channel, begin, duration, label = line.split(maxsplit=5)[:5]
            phone = _Phone(utterance, channel, float(begin), float(begin) + float(duration), label)
        except ValueError:
            raise UserError(
                f"{path}: line {number}: {line[:80]!r}: expected "
                "UTTERANCE CHANNEL START DURATION PHONE"
            ) from None
        is_empty = False
        yield phone
    if is_empty:
        raise UserError(f"{path}: no phones; expected one line per phone")
