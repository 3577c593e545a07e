"""Reads CTM files, which have one line per phone with its utterance and times."""

from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.exclusions import EXAMPLES
from gtcbmuf.data.importing.phone_alignments import Alignment, PhoneAlignments


def read_ctm(path: Path, recordings: Mapping[str, Path]) -> PhoneAlignments:
    """Read the alignments of all recordings from a CTM.

    Each line starts with the name of an utterance, or with the file name of its recording without
    the suffix.

    Args:
        path: path of the CTM.
        recordings: file of each utterance.

    Returns:
        The alignments. A name that stands for no recording, or for several, has a fault.

    Raises:
        UserError: the file is not a CTM, or has two alignments of a recording.
    """
    alignments = PhoneAlignments()
    candidates_of = _find_candidates(recordings)
    ctm_names: dict[str, str] = {}  # name of each recording in the CTM
    labels: dict[str, array[int]] = {}
    times: dict[str, array[float]] = {}
    for ctm_name, begin, end, label in _read_phones(path):
        match candidates_of.get(ctm_name, []):
            case []:
                alignments.faults[ctm_name] = "no audio"
            case [name]:
                if ctm_names.setdefault(name, ctm_name) != ctm_name:
                    raise UserError(
                        f"{path}: {ctm_names[name]} and {ctm_name} are two alignments of {name}; "
                        "expected one"
                    )
                labels.setdefault(name, array("i")).append(alignments.number_label(label))
                times.setdefault(name, array("d")).extend((begin, end))
            case [*names]:
                alignments.faults[ctm_name] = f"ambiguous name of {', '.join(names[:EXAMPLES])}"
    for name, numbers in labels.items():
        pairs = np.frombuffer(times[name], np.float64).reshape(-1, 2)
        alignments.add(name, Alignment(np.frombuffer(numbers, np.int32), pairs))
    return alignments


def _find_candidates(recordings: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return the recordings that each name in a CTM may stand for."""
    candidates_of: dict[str, list[str]] = {}
    for name, path in recordings.items():
        candidates_of.setdefault(path.stem, []).append(name)
    return candidates_of | {name: [name] for name in recordings}


def _read_phones(path: Path) -> Iterator[tuple[str, float, float, str]]:
    """Yield the utterance, the begin and end in seconds, and the label of each line."""
    is_empty = True
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.startswith(";;") or line.isspace():
                    continue
                try:
                    utterance, _, begin, duration, label = line.split(maxsplit=5)[:5]
                    yield utterance, float(begin), float(begin) + float(duration), label
                    is_empty = False
                except ValueError:
                    raise UserError(
                        f"{path}: line {number}: {line[:80]!r}: expected "
                        "UTTERANCE CHANNEL START DURATION PHONE"
                    ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a CTM: {error}") from None
    if is_empty:
        raise UserError(f"{path}: no phones; expected one line per phone")
