"""The phones and words of a path, and the files that hold them: TextGrids or a CTM."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.alignment.graph import Graph
from gtcbmuf.base.files import write_text
from gtcbmuf.data import features


class Interval(NamedTuple):
    """A labelled part of a recording, in seconds."""

    begin: float
    end: float
    label: str


class Tiers(NamedTuple):
    """The words and the phones of a recording. Each tier covers all of it."""

    words: list[Interval]
    phones: list[Interval]


def find_segments(
    graph: Graph,
    path: NDArray[np.int64],
    words: Sequence[str],
    phones: Sequence[str],
    *,
    seconds: float,
    sample_rate: int,
) -> Tiers:
    """Find the times of the phones and words of a path.

    A phone begins halfway between the middles of two frames.

    Args:
        graph, path: as in `gtcbmuf.alignment.viterbi.best_path`.
        words: the words of the utterance.
        phones: names of the phones.
        seconds: length of the recording.
        sample_rate: sample rate of the features in Hz.
    """
    centres = features.frame_centres(len(path), sample_rate)
    edges = (centres - features.frame_shift(sample_rate) / 2) / sample_rate

    def intervals(number_of: NDArray[np.integer], labels: Sequence[str]) -> list[Interval]:
        begins = np.append(0, np.flatnonzero(np.diff(number_of)) + 1)
        times = [0.0, *edges[begins[1:]].tolist(), seconds]
        return [Interval(a, b, labels[i]) for i, (a, b) in enumerate(pairwise(times))]

    chains = path // features.STATES  # all states of a chain are neighbours
    firsts = np.append(True, np.diff(chains) != 0)
    names = [phones[target // features.STATES] for target in graph.targets[path[firsts]]]
    word_of = graph.word[path]
    starts = np.append(True, np.diff(word_of) != 0)
    spoken = ["" if number < 0 else words[number] for number in word_of[starts]]
    return Tiers(intervals(word_of, spoken), intervals(chains, names))


def write_textgrids(folder: Path, tiers_of: Mapping[Path, Tiers]) -> None:
    """Write a TextGrid for each recording, by its path below the folder, without the suffix."""
    for path, tiers in tiers_of.items():
        write_text(folder / f"{path}.TextGrid", format_textgrid(tiers))


def format_textgrid(tiers: Tiers) -> str:
    """Format a TextGrid in Praat's long form."""
    end = tiers.phones[-1].end
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end:.6f}",
        "tiers? <exists>",
        "size = 2",
        "item []:",
    ]
    for number, (name, intervals) in enumerate(tiers._asdict().items(), 1):
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f'        name = "{name}"',
            "        xmin = 0",
            f"        xmax = {end:.6f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for i, interval in enumerate(intervals, 1):
            label = interval.label.replace('"', '""')
            lines += [
                f"        intervals [{i}]:",
                f"            xmin = {interval.begin:.6f}",
                f"            xmax = {interval.end:.6f}",
                f'            text = "{label}"',
            ]
    return "\n".join(lines) + "\n"


def format_ctm(tiers_of: Mapping[str, Tiers]) -> str:
    """Format a CTM of the phones: a line with utterance, channel, begin, duration and phone."""
    return "".join(
        f"{name} 1 {begin:.3f} {end - begin:.3f} {label}\n"
        for name, tiers in tiers_of.items()
        for begin, end, label in tiers.phones
    )
