"""Reads Praat's TextGrids, such as those of the Montreal Forced Aligner."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.text import is_utf16
from gtcbmuf.data.importing.names import NameTable
from gtcbmuf.data.importing.phone_alignments import (
    NO_AUDIO,
    TIME_TOLERANCE,
    Alignment,
    PhoneAlignments,
)
from gtcbmuf.data.importing.praat_text import PraatValues
from gtcbmuf.data.importing.utterance_files import find_utterance_files


def read_textgrids(directory: Path, recordings: Mapping[str, Path]) -> PhoneAlignments:
    """Read the TextGrids of all recordings.

    Args:
        directory: directory of the TextGrids, with the same layout as that of the recordings.
        recordings: file of each utterance.

    Returns:
        The alignments. A TextGrid has a fault if it has no recording, if it is damaged, or if it
        does not have exactly one tier of phones.

    Raises:
        UserError: the directory has no TextGrid.
    """
    from tqdm import tqdm

    textgrids = find_utterance_files(directory, {".textgrid"})
    if not textgrids:
        raise UserError(
            f"{directory}: no alignments in this directory; expected .TextGrid files, or a CTM"
        )
    alignments = PhoneAlignments()
    utterances = NameTable((name, name) for name in recordings)
    for file_name, path in tqdm(textgrids.items(), "alignments", unit="file", disable=None):
        if file_name not in utterances:
            alignments.faults[file_name] = NO_AUDIO
            continue
        name = utterances[file_name]
        try:
            phones = read_phones(path)
        except UserError as error:
            alignments.faults[name] = str(error)
            continue
        numbers = [alignments.number_label(label) for label in phones.labels]
        # A TextGrid may begin before its recording.
        times = np.array(phones.times, np.float64).reshape(-1, 2).clip(0)
        alignments.add(name, Alignment(np.array(numbers, np.int32), times))
    return alignments


class Tier(NamedTuple):
    """A tier of a TextGrid.

    Attributes:
        name: name of the tier.
        kind: "IntervalTier" or "TextTier".
        end: end of the tier in seconds.
        size: number of intervals or points that the file states.
        labels: label of each interval or point.
        times: begin and end of each interval in seconds, or the time of each point.
    """

    name: str
    kind: str
    end: float
    size: float
    labels: Sequence[str]
    times: Sequence[tuple[float, ...]]

    @property
    def has_phones(self) -> bool:
        """Whether this is an interval tier with the name of a tier of phones."""
        has_name = self.name == "phones" or self.name.endswith(" - phones")
        return has_name and self.kind == "IntervalTier"

    @property
    def is_truncated(self) -> bool:
        """Whether intervals are missing at the end."""
        last = max((end for *_, end in self.times), default=0.0)
        return len(self.labels) < self.size and last < self.end - TIME_TOLERANCE


def read_phones(path: Path) -> Tier:
    """Read the tier of phones of a TextGrid.

    Raises:
        UserError: the file is not a TextGrid, is truncated, or has no tier of phones, or several.
    """
    tiers = read_tiers(path)
    phone_tiers = [tier for tier in tiers if tier.has_phones]
    if len(phone_tiers) != 1:
        raise UserError(
            f'{path}: expected one interval tier "phones" or "SPEAKER - phones", found '
            f"{len(phone_tiers)} in the tiers: {', '.join(tier.name for tier in tiers)}"
        )
    (phones,) = phone_tiers
    if phones.is_truncated:
        raise UserError(
            f"{path}: truncated: expected {phones.size:g} intervals up to {phones.end:g} s in the "
            f'tier "{phones.name}", found {len(phones.labels)}'
        )
    return phones


def read_tiers(path: Path) -> list[Tier]:
    """Read the tiers of a TextGrid.

    Raises:
        UserError: the file is not a TextGrid.
    """
    try:
        return _take_tiers(PraatValues(_read_text(path)))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected a TextGrid in Praat's text format, in UTF-8 or UTF-16: {error}"
        ) from None


def _take_tiers(values: PraatValues) -> list[Tier]:
    file_type, object_class = values.take_text(), values.take_text()
    if not (file_type.startswith("ooTextFile") and object_class == "TextGrid"):
        raise ValueError(
            f'"{file_type}" and "{object_class}"; expected "ooTextFile" and "TextGrid"'
        )
    for _ in ("begin", "end"):
        values.take_number()
    if values.take_flag() != "exists":
        return []
    count = values.take_number()
    tiers = []
    while values.kind != "end":
        tiers.append(_take_tier(values))
    if len(tiers) < count:
        raise ValueError(f"truncated after {len(tiers)} of {count:g} tiers")
    return tiers


def _take_tier(values: PraatValues) -> Tier:
    line = values.line
    kind, name = values.take_text(), values.take_text()
    if kind not in ("IntervalTier", "TextTier"):
        raise ValueError(f'line {line}: "{kind}"; expected a tier, "IntervalTier" or "TextTier"')
    _, end, size = (values.take_number() for _ in ("begin", "end", "size"))
    labels, times = [], []
    # A hand-edited tier may have more or fewer intervals than its size.
    while values.kind == "number":
        begin = values.take_number()
        times.append((begin, values.take_number()) if kind == "IntervalTier" else (begin,))
        labels.append(values.take_text().strip())
    return Tier(name, kind, end, size, labels, times)


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    text = data.decode("utf-16" if is_utf16(data) else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")
