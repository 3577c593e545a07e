"""The times of phones in recordings."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Largest difference, in seconds, between two times that should be equal.
TIME_TOLERANCE = 0.001


class Alignment(NamedTuple):
    """The labelled intervals of an utterance.

    Attributes:
        labels: (n,) int32. Numbers of the labels.
        times: (n, 2) float64. Begin and end of each interval, in seconds.
    """

    labels: NDArray[np.int32]
    times: NDArray[np.float64]


@dataclass
class PhoneAlignments:
    """The alignments of all utterances.

    Attributes:
        label_numbers: the number of each label, in order from 0.
        alignments: by the name of the utterance.
        faults: by the name of the utterance, the reason why it has no usable alignment.
    """

    label_numbers: dict[str, int] = field(default_factory=dict)
    alignments: dict[str, Alignment] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Return the names of all utterances, also of those with a fault."""
        return {*self.alignments, *self.faults}

    def number_label(self, label: str) -> int:
        """Return the number of a label, which may be new."""
        return self.label_numbers.setdefault(label, len(self.label_numbers))

    def add(self, name: str, alignment: Alignment) -> None:
        """Add the alignment of an utterance, or its fault."""
        if fault := _find_fault(alignment.times):
            self.faults[name] = fault
        else:
            self.alignments[name] = alignment


def _find_fault(times: NDArray[np.float64]) -> str:
    """Return the fault of the times (n, 2) of intervals, or "" if there is none."""
    if not np.isfinite(times).all():
        return "a time that is no finite number"
    sequence = np.concatenate([[0], times.ravel()])
    backward = np.flatnonzero(sequence[1:] < np.maximum.accumulate(sequence)[:-1] - TIME_TOLERANCE)
    if not len(backward):
        return ""
    begin, end = times[backward[0] // 2]
    return f"the interval from {begin:.3f} to {end:.3f} s goes backward or overlaps an earlier one"


def fill_silence(
    phones: NDArray[np.int64], bounds: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Insert silence (phone 0) between phones, so that they fill all samples.

    Adjacent silences become one.

    Args:
        phones: (n,).
        bounds: (n, 2). The first sample of each phone, and the sample after its last one.
        length: number of samples, at least one.

    Returns:
        Phones (m,) and their bounds (m + 1,), as `gtcbmuf.data.features.frame_targets` takes them.
    """
    rising = np.maximum.accumulate(bounds.ravel()).clip(0, length)
    begins, ends = np.append(0, rising), np.append(rising, length)
    sequence = np.zeros(len(begins), np.int64)
    sequence[1::2] = phones
    begins, sequence = begins[begins < ends], sequence[begins < ends]
    is_first = np.append(True, (sequence[1:] != 0) | (sequence[:-1] != 0))
    return sequence[is_first], np.append(begins[is_first], length)
