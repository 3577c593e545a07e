"""Compares models that `gtcbmuf score` scored on the same utterances, with confidence intervals.

Two models err on the same utterances and speakers, so their difference is more certain than the
error rate of each. The bootstrap is paired: every resample has the same units for both sides
(Bisani and Ney, ICASSP 2004, section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from gtcbmuf.acoustic.bootstrap import Interval, interval, percent
from gtcbmuf.base import tables
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import reading

#: With fewer speakers, an interval over them is too narrow to rely on.
FEWEST_SPEAKERS = 10

_Amount = Annotated[int, Meta(ge=0, lt=2**53)]


class ScoredUtterance(Struct, frozen=True):
    """An utterance in the JSON file of `gtcbmuf score`. Without phones, their counts are 0."""

    name: str
    speaker: str
    frames: _Amount
    frame_errors: _Amount
    phones: _Amount = 0
    insertions: _Amount = 0
    deletions: _Amount = 0
    substitutions: _Amount = 0

    @property
    def phone_errors(self) -> int:
        """Number of insertions, deletions and substitutions."""
        return self.insertions + self.deletions + self.substitutions


class Score(Struct, frozen=True):
    """What a comparison needs of the JSON file of `gtcbmuf score`."""

    corpus: str
    split: str
    utterances: list[ScoredUtterance]


@dataclass(frozen=True)
class Difference:
    """The difference between two sides in an error rate.

    Attributes:
        rate: "FER" or "PER".
        baseline, new: error rates over all models of a side, in per cent.
        over_utterances, over_speakers: 95 % intervals of new - baseline, in percentage points;
            None for a single utterance or speaker.
    """

    rate: str
    baseline: float
    new: float
    over_utterances: Interval | None
    over_speakers: Interval | None


def read_score(path: Path) -> Score:
    """Read the JSON file of `gtcbmuf score --out`.

    Raises:
        UserError: the file cannot be read, or is no such file.
    """
    with reading(path):
        content = path.read_bytes()
    try:
        score = msgspec.json.decode(content, type=Score)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a file of `gtcbmuf score --out`: {error}") from None
    if not score.utterances:
        raise UserError(f"{path}: no utterances; expected at least one")
    for utterance in score.utterances:
        if utterance.frame_errors > utterance.frames:
            raise UserError(
                f"{path}: utterance {utterance.name}: {utterance.frame_errors:,} wrong frames; "
                f"expected at most {utterance.frames:,}, as many as it has"
            )
    return score


def compare_scores(baseline: Sequence[Path], new: Sequence[Path]) -> str:
    """Compare the models of two sides, such as the seeds of two methods.

    Args:
        baseline, new: files of `gtcbmuf score --out`, one for each model of a side.

    Returns:
        Two lines about the data, and a table with a row for each error rate.

    Raises:
        UserError: a file cannot be read, or has other utterances than the first one.
    """
    for option, paths in {"--baseline": baseline, "FILE.json": new}.items():
        if len({path.absolute() for path in paths}) < len(paths):
            raise UserError(f"{option}: {' '.join(map(str, paths))}: expected different files")
    scores = {path: read_score(path) for path in (*baseline, *new)}
    first = scores[baseline[0]]
    for path, score in scores.items():
        _check_utterances(path, score, baseline[0], first)
    elsewhere = {
        path: score.corpus for path, score in scores.items() if score.corpus != first.corpus
    }
    differences = [
        _difference(rate, [scores[path] for path in baseline], [scores[path] for path in new])
        for rate in ("FER", "PER")
        if rate == "FER" or any(utterance.phones for utterance in first.utterances)
    ]
    speakers = len({utterance.speaker for utterance in first.utterances})
    lines = [
        f"{first.split} of {first.corpus}: {_count(len(first.utterances), 'utterance')} of "
        f"{_count(speakers, 'speaker')}",
        f"{_count(len(new), 'model')} against a baseline of {_count(len(baseline), 'model')}",
        *(f"{path} was scored on {corpus}" for path, corpus in elsewhere.items()),
        "",
        _format(differences),
    ]
    if 1 < speakers < FEWEST_SPEAKERS:
        lines += ["", f"The interval over {_count(speakers, 'speaker')} is too narrow to rely on."]
    return "\n".join(lines)


def _check_utterances(path: Path, score: Score, first_path: Path, first: Score) -> None:
    """Check that two files have the same utterances with the same reference.

    Raises:
        UserError: they differ.
    """

    def reference(utterance: ScoredUtterance) -> tuple[str, str, int, int]:
        return utterance.name, utterance.speaker, utterance.frames, utterance.phones

    if score.split != first.split:
        raise UserError(f"{path}: scored on {score.split}; expected {first.split}, as {first_path}")
    if len(score.utterances) != len(first.utterances):
        raise UserError(
            f"{path}: {len(score.utterances)} utterances; expected the {len(first.utterances)} of "
            f"{first_path}"
        )
    for ours, theirs in zip(score.utterances, first.utterances, strict=True):
        if reference(ours) != reference(theirs):
            raise UserError(
                f"{path}: {_describe(ours)}; expected {_describe(theirs)}, as in {first_path}"
            )


def _describe(utterance: ScoredUtterance) -> str:
    return (
        f"utterance {utterance.name} of {utterance.speaker} with "
        f"{_count(utterance.frames, 'frame')} and {_count(utterance.phones, 'phone')}"
    )


def _difference(rate: str, baseline: Sequence[Score], new: Sequence[Score]) -> Difference:
    """Compute the difference in an error rate. Models of a side are averaged."""
    utterances = baseline[0].utterances
    units = np.array([u.frames if rate == "FER" else u.phones for u in utterances])
    errors = np.stack([_mean_errors(rate, side) for side in (baseline, new)])
    _, speaker_of = np.unique([u.speaker for u in utterances], return_inverse=True)
    by_speaker = np.stack([np.bincount(speaker_of, row) for row in (*errors, units)])
    return Difference(
        rate,
        baseline=percent(errors[0].sum(), units.sum()),
        new=percent(errors[1].sum(), units.sum()),
        over_utterances=interval(errors[1] - errors[0], units),
        over_speakers=interval(by_speaker[1] - by_speaker[0], by_speaker[2]),
    )


def _mean_errors(rate: str, side: Sequence[Score]) -> NDArray[np.float64]:
    """Return the errors in each utterance, as means over the models of a side."""
    errors = np.zeros(len(side[0].utterances))
    for score in side:
        errors += [u.frame_errors if rate == "FER" else u.phone_errors for u in score.utterances]
    return errors / len(side)


def _format(differences: Sequence[Difference]) -> str:
    headers = ("", "baseline", "new", "new - baseline", "over utterances", "over speakers")
    rows = [
        (
            f"{d.rate} %",
            f"{d.baseline:.2f}",
            f"{d.new:.2f}",
            f"{d.new - d.baseline:+.2f}",
            *map(_format_interval, (d.over_utterances, d.over_speakers)),
        )
        for d in differences
    ]
    return tables.markdown(headers, rows)


def _format_interval(ends: Interval | None) -> str:
    return f"{ends[0]:+.2f} to {ends[1]:+.2f}" if ends else "-"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
