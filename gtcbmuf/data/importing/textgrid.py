"""Reads Praat's TextGrids, such as those of the Montreal Forced Aligner.

praatio parses them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.phone_alignments import TIME_TOLERANCE, Alignment, PhoneAlignments
from gtcbmuf.data.importing.utterance_files import find_utterance_files


def read_textgrids(directory: Path, recordings: Mapping[str, Path]) -> PhoneAlignments:
    """Read the TextGrids of all recordings.

    Args:
        directory: directory of the TextGrids, with the same layout as that of the recordings.
        recordings: file of each utterance.

    Returns:
        The alignments. A TextGrid without a recording, or without exactly one tier of phones, has a
        fault.

    Raises:
        UserError: the directory has no TextGrid, or a file is not a valid TextGrid.
    """
    from tqdm import tqdm

    textgrids = find_utterance_files(directory, {".textgrid"})
    if not textgrids:
        raise UserError(
            f"{directory}: no alignments in this directory; expected .TextGrid files, or a CTM"
        )
    alignments = PhoneAlignments()
    for name, path in tqdm(textgrids.items(), "alignments", unit="file", disable=None):
        if name not in recordings:
            alignments.faults[name] = "no audio"
            continue
        tiers = read_tiers(path)
        phone_tiers = [tier for tier in tiers if tier.has_phones]
        if len(phone_tiers) == 1:
            labels, times = read_intervals(path, phone_tiers[0])
            numbers = np.array([alignments.number_label(label) for label in labels], np.int32)
            alignments.add(name, Alignment(numbers, times))
        else:
            alignments.faults[name] = (
                'expected one interval tier "phones" or "SPEAKER - phones", found '
                f"{len(phone_tiers)} in the tiers: {', '.join(tier.name for tier in tiers)}"
            )
    return alignments


class Tier(NamedTuple):
    """A tier of a TextGrid.

    Attributes:
        name: name of the tier.
        kind: "IntervalTier" or "TextTier".
        end: end of the tier in seconds.
        entries: begin, end and label of each interval, as praatio returns them.
    """

    name: str
    kind: str
    end: float
    entries: Sequence[tuple[str, ...]]

    @property
    def has_phones(self) -> bool:
        """Whether this is an interval tier with the name of a tier of phones."""
        has_name = self.name == "phones" or self.name.endswith(" - phones")
        return has_name and self.kind == "IntervalTier"


def read_tiers(path: Path) -> list[Tier]:
    """Read the tiers of a TextGrid.

    Raises:
        UserError: the file is not a TextGrid.
    """
    from praatio.utilities.textgrid_io import parseTextgridStr

    # praatio does not check its input and may raise any exception. Without the newline, it would
    # lose an interval in the last line.
    try:
        tiers = parseTextgridStr(_read_text(path) + "\n", includeEmptyIntervals=True)["tiers"]
        return [Tier(t["name"], t["class"], float(t["xmax"]), t["entries"]) for t in tiers]
    except Exception as error:
        raise _invalid_textgrid(path, error) from None


def read_intervals(path: Path, tier: Tier) -> tuple[list[str], NDArray[np.float64]]:
    """Return the labels of an interval tier and their times (n, 2), in seconds.

    Raises:
        UserError: a time is not a number, or the tier is truncated.
    """
    try:
        labels = [label for _, _, label in tier.entries]
        times = np.array([(begin, end) for begin, end, _ in tier.entries], np.float64)
    except (ValueError, TypeError) as error:
        raise _invalid_textgrid(path, error) from None
    # Intervals fill their tier. praatio does not report a truncated file.
    end = times.max(initial=0)
    if end < tier.end - TIME_TOLERANCE:
        raise _invalid_textgrid(path, f"the phones end at {end:g} s, the tier at {tier.end:g} s")
    return labels, times.reshape(-1, 2)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-16")
    except UnicodeError:  # the file has no byte-order mark
        return path.read_text(encoding="utf-8")


def _invalid_textgrid(path: Path, reason: object) -> UserError:
    return UserError(f"{path}: expected a long or short TextGrid in UTF-8 or UTF-16: {reason}")
