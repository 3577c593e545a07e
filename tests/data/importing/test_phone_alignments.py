"""Times of phones: silence, overlaps, and times that were rounded."""

from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audio import (
    RATE,
    Interval,
    ctm,
    long_textgrid,
    make_directory,
    read_utterances,
    states_of,
)

from gtcbmuf.data import features
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.data.importing.ctm import read_ctm
from gtcbmuf.data.importing.phone_alignments import PhoneAlignments, fill_silence
from gtcbmuf.data.importing.textgrid import read_textgrids


def test_all_forms_of_silence_are_merged(tmp_path: Path) -> None:
    directory = make_directory(tmp_path)
    intervals = [
        (0.0, 0.1, "sil"),
        (0.1, 0.25, ""),
        (0.3, 0.4, "b"),
        (0.4, 0.4, "c"),
        (0.4, 0.5, "b"),
    ]
    for key in directory.recordings:
        directory.recordings[key] = np.arange(12000, dtype=np.int16)
        directory.alignments[key] = intervals
    directory.write().make()
    samples = [(0, 4800, "sil"), (4800, 6400, "b"), (6400, 8000, "b"), (8000, 12000, "sil")]
    targets = read_utterances(directory.out)["s05-a"].targets
    phones = open_corpus(directory.out).phones
    assert phones == ("sil", "b", "c")
    assert targets.tolist() == states_of(samples, phones, 73, RATE)


@given(
    gaps=st.lists(st.integers(0, 9), min_size=2, max_size=20),
    phones=st.lists(st.integers(0, 3), min_size=10, max_size=10),
    slack=st.integers(-5, 20),
)
def test_phones_fill_the_audio(gaps: list[int], phones: list[int], slack: int) -> None:
    times = np.cumsum(gaps[: len(gaps) // 2 * 2]).reshape(-1, 2)
    length = max(1, int(times[-1, 1]) + slack)
    filled, bounds = fill_silence(np.array(phones[: len(times)]), times, length)
    expected = np.zeros(length, int)
    for phone, (a, b) in zip(phones, times, strict=False):
        expected[a:b] = phone
    assert bounds[0] == 0
    assert bounds[-1] == length
    assert (np.diff(bounds) > 0).all()
    np.testing.assert_array_equal(np.repeat(filled, np.diff(bounds)), expected)
    assert not ((filled[1:] == 0) & (filled[:-1] == 0)).any()


def test_tiny_gaps_and_overlaps_of_intervals_are_ignored(tmp_path: Path) -> None:
    directory = make_directory(tmp_path)
    expected = directory.write().bytes()
    for key, intervals in directory.alignments.items():
        directory.alignments[key] = [
            (max(0, a - 2e-5 * (i % 2)), b + 1e-5, x) for i, (a, b, x) in enumerate(intervals)
        ]
    assert directory.write().bytes() == expected


# Rounded times

FRAME = 0.01  # frame shift in seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alignments")


@st.composite
def true_alignments(draw: st.DrawFn) -> list[Interval]:
    """Phones that differ from their neighbours, with silence that is not written."""
    lengths = draw(st.lists(st.floats(0.003, 0.3), min_size=1, max_size=25))
    gaps = draw(st.lists(st.just(0.0) | st.floats(0.03, 0.3), min_size=26, max_size=26))
    times = list(accumulate(x for pair in zip(gaps, lengths, strict=False) for x in pair))
    return [(a, b, f"p{i % 3}") for i, (a, b) in enumerate(zip(*[iter(times)] * 2, strict=True))]


def read_alignment(folder: Path, intervals: list[Interval], kind: str) -> PhoneAlignments:
    """Write a CTM or a TextGrid, and read it."""
    recordings = {"u": folder / "u.wav"}
    if kind == "ctm":
        (folder / "u.ctm").write_text(ctm({"u": intervals}))
        return read_ctm(folder / "u.ctm", recordings)
    (folder / "u.TextGrid").write_text(long_textgrid({"phones": intervals}))
    return read_textgrids(folder, recordings)


def frame_labels(alignments: PhoneAlignments, seconds: float) -> list[str]:
    """Return the label of each frame, "" for silence, as an import labels it."""
    labels, times = alignments.alignments["u"]
    bounds = np.rint(times * RATE).astype(np.int64)
    phones, starts = fill_silence(labels.astype(np.int64) + 1, bounds, round(seconds * RATE))
    centres = features.frame_centres(round(seconds / FRAME) - 4, RATE)
    names = ["", *alignments.label_numbers]
    return [names[phones[i]] for i in np.searchsorted(starts, centres, side="right") - 1]


@pytest.mark.parametrize("kind", ["ctm", "textgrid"])
@pytest.mark.parametrize("decimals", [2, 3])
@given(truth=true_alignments())
def test_rounded_times(folder: Path, kind: str, decimals: int, truth: list[Interval]) -> None:
    """Begin and duration were rounded: no frame's label is further away than one frame."""
    rounded = []
    for a, b, label in truth:
        begin, duration = round(a, decimals), round(b - a, decimals)
        rounded.append((begin, round(begin + duration, decimals), label))
    alignments = read_alignment(folder, rounded, kind)
    assert not alignments.faults
    # Gaps are closed in an alignment with overlaps, which show that its times were rounded.
    has_overlap = any(b > begin for (_, b, _), (begin, _, _) in pairwise(rounded))
    seconds = truth[-1][1] + 0.1
    spoken = [("", -1.0, truth[0][0]), ("", truth[-1][1], seconds)]
    spoken += [(label, a, b) for a, b, label in truth]
    spoken += [("", b, begin) for (_, b, _), (begin, _, _) in pairwise(truth) if b < begin]
    for i, label in enumerate(frame_labels(alignments, seconds)):
        centre, limit = i * FRAME + 0.0125, FRAME + 1 / RATE
        near = {x for x, a, b in spoken if a - limit <= centre <= b + limit}
        assert label in near or (label == "" and not has_overlap)


@pytest.mark.parametrize("kind", ["ctm", "textgrid"])
@given(truth=true_alignments())
def test_unrounded_times_stay_as_they_are(folder: Path, kind: str, truth: list[Interval]) -> None:
    alignments = read_alignment(folder, truth, kind)
    ends = [a + (b - a) if kind == "ctm" else b for a, b, _ in truth]
    expected = [(a, b) for (a, _, _), b in zip(truth, ends, strict=True)]
    assert alignments.alignments["u"].times.tolist() == [list(pair) for pair in expected]


@pytest.mark.parametrize("kind", ["ctm", "textgrid"])
def test_overlaps(tmp_path: Path, kind: str) -> None:
    """An overlap of one frame shift ends at the later begin. A larger one is a fault."""
    overlapping = [(0.0, 0.51, "a"), (0.5, 0.7, "b"), (0.71, 0.9, "c"), (0.93, 1.0, "d")]
    times = read_alignment(tmp_path, overlapping, kind).alignments["u"].times
    expected = [(0.0, 0.5), (0.5, 0.71), (0.71, 0.9), (0.93, 1.0)]
    np.testing.assert_allclose(times, expected, rtol=0, atol=1e-12)
    overlapping[0] = (0.0, 0.511, "a")
    (fault,) = read_alignment(tmp_path, overlapping, kind).faults.values()
    assert fault == "the interval from 0.500 to 0.700 s is out of order or overlaps an earlier one"
