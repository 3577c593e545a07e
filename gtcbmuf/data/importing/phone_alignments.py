"""Phone alignments: the labels of phones and their times in recordings."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Fault of an alignment without a recording.
NO_AUDIO = "no audio"
#: Largest difference between two times that count as equal, in seconds.
TIME_TOLERANCE = 0.001
# Tools that round begin and duration make neighbours overlap by up to one frame shift, in seconds.
_LARGEST_OVERLAP = 0.010
_FLOAT_ERROR = 1e-6  # seconds: errors of binary fractions are smaller


class Alignment(NamedTuple):
    """The labelled intervals of an utterance.

    Attributes:
        labels: number of each interval's label, (n,) int32.
        times: begin and end of each interval in seconds, (n, 2) float64.
    """

    labels: NDArray[np.int32]
    times: NDArray[np.float64]


@dataclass
class PhoneAlignments:
    """The alignments of all utterances.

    Attributes:
        label_numbers: number of each label, in order from 0.
        alignments: alignment of each utterance, by name.
        faults: reason why an utterance has no usable alignment, by name.
    """

    label_numbers: dict[str, int] = field(default_factory=dict)
    alignments: dict[str, Alignment] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Return the names of all utterances, including those with a fault."""
        return {*self.alignments, *self.faults}

    def number_label(self, label: str) -> int:
        """Return the number of a label. A new label gets the next number."""
        return self.label_numbers.setdefault(label, len(self.label_numbers))

    def add(self, name: str, alignment: Alignment) -> None:
        """Add the alignment of an utterance. If it is invalid, add its fault instead.

        An interval that extends into the next one by up to one frame shift ends where that begins.
        """
        if fault := _find_fault(alignment.times):
            self.faults[name] = fault
        else:
            self.alignments[name] = alignment._replace(times=_cut_overlaps(alignment.times))


def _find_fault(times: NDArray[np.float64]) -> str:
    """Return the fault in the times of intervals, (n, 2), or "" if they are valid."""
    if not np.isfinite(times).all():
        return "a time that is NaN or infinite"
    begins, ends = times.T
    latest_begin, latest_end = (
        np.maximum.accumulate(np.append(0, earlier))[:-1] for earlier in (begins, ends)
    )
    is_faulty = (
        (begins < latest_begin - TIME_TOLERANCE)
        | (begins < latest_end - _LARGEST_OVERLAP - _FLOAT_ERROR)
        | (ends < begins - TIME_TOLERANCE)
    )
    if not is_faulty.any():
        return ""
    begin, end = times[is_faulty.argmax()]
    return (
        f"the interval from {begin:.3f} to {end:.3f} s is out of order or overlaps an earlier one"
    )


def _cut_overlaps(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the times of intervals, (n, 2), each cut at the begin of the next one.

    Intervals overlap because their times were rounded. Rounding separates others by as much, so
    such gaps are closed, too.
    """
    begins, ends = times.T
    next_begins = np.minimum.accumulate(np.append(begins, np.inf)[:0:-1])[::-1]
    overlap = (ends - next_begins).max(initial=0)
    if overlap <= _FLOAT_ERROR:
        return times
    is_rounded = np.abs(ends - next_begins) <= overlap + _FLOAT_ERROR
    return np.stack([begins, np.where(is_rounded, next_begins, ends)], axis=1)


def fill_silence(
    phones: NDArray[np.int64], bounds: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Fill the time without a phone with silence, phone 0.

    Adjacent silences are merged.

    Args:
        phones: index of each phone, (n,).
        bounds: first sample of each phone and the sample after its last one, (n, 2).
        length: number of samples, at least one.

    Returns:
        Phones (m,) and bounds (m + 1,), for `gtcbmuf.data.features.frame_targets`.
    """
    rising = np.maximum.accumulate(bounds.ravel()).clip(0, length)
    begins, ends = np.append(0, rising), np.append(rising, length)
    sequence = np.zeros(len(begins), np.int64)
    sequence[1::2] = phones
    begins, sequence = begins[begins < ends], sequence[begins < ends]
    is_first = np.append(True, (sequence[1:] != 0) | (sequence[:-1] != 0))
    return sequence[is_first], np.append(begins[is_first], length)
