"""Evaluates a model: frame and phone error rates by speaker, with confidence intervals.

A corpus whose targets are pdf-ids of unknown phones has frame error rates only.

The utterances are distributed over the ranks. Each passes through the network by itself, so its
scores do not depend on the number of ranks. Any number of ranks gives the same results.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.acoustic.bootstrap import Interval, interval, percent
from gtcbmuf.acoustic.model import Model
from gtcbmuf.acoustic.phone_loop import (
    Edits,
    PhoneLoop,
    collapse,
    edit_distance,
    without_silence,
)
from gtcbmuf.acoustic.posteriors import UtteranceScores
from gtcbmuf.data.corpus import Corpus
from gtcbmuf.mpi.job import on_root

#: Candidate pairs of language weight and insertion penalty. The decoder uses the pair with the
#: fewest phone errors on valid, and the first of several equal pairs.
GRID = tuple(
    (float(weight), float(penalty))
    for weight in (1, 2, 3, 4, 5, 6)
    for penalty in (-6, -4, -2, 0, 2)
)
#: Largest number of valid utterances for this tuning. They are spread evenly over valid.
TUNING_UTTERANCES = 100


@dataclass(frozen=True)
class Counts:
    """Number of frames, of phones without silence, and of their errors in a set of utterances."""

    frames: int
    frame_errors: int
    phones: int
    insertions: int
    deletions: int
    substitutions: int

    @property
    def fer(self) -> float:
        """Frame error rate, in per cent."""
        return percent(self.frame_errors, self.frames)

    @property
    def phone_errors(self) -> int:
        """Number of insertions, deletions and substitutions."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def per(self) -> float:
        """Phone error rate, in per cent."""
        return percent(self.phone_errors, self.phones)


@dataclass(frozen=True)
class Decoding:
    """Phone-level results of a corpus with known phones.

    Attributes:
        language_weight, insertion_penalty: tuned parameters of the decoder.
        tuned_on: number of valid utterances that they were tuned on.
        per_interval, per_interval_over_speakers: confidence intervals of the phone error rate, as
            those of the frame error rate in `Evaluation`.
        confusions: (P, P) int64. Entry [i, j] is the number of frames of phone i that the network
            takes for phone j.
    """

    language_weight: float
    insertion_penalty: float
    tuned_on: int
    per_interval: Interval | None
    per_interval_over_speakers: Interval | None
    confusions: NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """The results of `evaluate`.

    Attributes:
        total: counts of the whole split.
        fer_interval: ends of the 95 % confidence interval of the frame error rate over utterances,
            in per cent; None for a single utterance. It holds for one model by itself. Two models
            err on the same utterances, so their difference is far more certain: `gtcbmuf compare`.
        fer_interval_over_speakers: the same over speakers, for other voices; None for a single one.
        speakers: counts of each speaker, in the split's order.
        utterances: counts of each utterance, in the split's order.
        decoding: phone-level results. None if the phones are unknown; the counts then contain no
            phones.
    """

    total: Counts
    fer_interval: Interval | None
    fer_interval_over_speakers: Interval | None
    speakers: dict[str, Counts]
    utterances: tuple[Counts, ...]
    decoding: Decoding | None


def evaluate(
    world: MPI.Comm,
    model: Model,
    vector: NDArray[np.float32],
    corpus: Corpus,
    split: str,
) -> Evaluation:
    """Return the frame and phone error rates of a model on a split. Collective.

    Phone error rates need a corpus with known phones. The decoder's language weight and insertion
    penalty are tuned on valid. Its priors and bigram come from the targets of train.

    Args:
        world: communicator of the workers.
        model: the network, with a capacity of at least `gtcbmuf.acoustic.posteriors.BATCH`.
        vector: the network's parameters (n,), the same on all workers.
        corpus: a corpus that the model fits.
        split: "train", "valid" or "test".

    Returns:
        The evaluation, the same on all workers and for any number of them.
    """
    targets = corpus.target_count
    decoder = None
    if corpus.has_phones:
        valid = UtteranceScores(model, vector, corpus.valid, targets)
        decoder = _Decoder(world, corpus, valid)
    utterances = corpus.split(split)
    outputs = UtteranceScores(model, vector, utterances, targets)
    counts_of_rank = [
        _counts(outputs, utterance, decoder)
        for utterance in range(world.rank, len(outputs), world.size)
    ]
    counts_by_rank: list[list[Counts]] = world.gather(counts_of_rank) or []
    if decoder:
        world.Allreduce(MPI.IN_PLACE, decoder.confusions)

    def result() -> Evaluation:
        ranks = [(u % world.size, u // world.size) for u in range(len(outputs))]
        counts = [counts_by_rank[rank][index] for rank, index in ranks]
        by_speaker: dict[str, list[Counts]] = {}
        for speaker, of_utterance in zip(utterances.speakers, counts, strict=True):
            by_speaker.setdefault(speaker, []).append(of_utterance)
        speakers = {speaker: _sum(of_speaker) for speaker, of_speaker in by_speaker.items()}
        by_voice = list(speakers.values())
        decoding = None
        if decoder:
            decoding = Decoding(
                decoder.language_weight,
                decoder.insertion_penalty,
                decoder.tuned_on,
                _per_interval(counts),
                _per_interval(by_voice),
                decoder.confusions,
            )
        return Evaluation(
            total=_sum(counts),
            fer_interval=_fer_interval(counts),
            fer_interval_over_speakers=_fer_interval(by_voice),
            speakers=speakers,
            utterances=tuple(counts),
            decoding=decoding,
        )

    return on_root(world, result)


class _Decoder:
    """Decodes phones with parameters tuned on valid, and counts errors. Construction is collective.

    Args:
        world: communicator of the workers.
        frames: the corpus.
        valid: the network's scores on the valid split.

    Attributes:
        language_weight, insertion_penalty, tuned_on: see `Decoding`.
        confusions: see `Decoding`. It covers the frames passed to `counts` so far.
    """

    def __init__(self, world: MPI.Comm, frames: Corpus, valid: UtteranceScores) -> None:
        self._phones, self._phone_of = frames.phones, frames.target_phone
        self.confusions = np.zeros((len(frames.phones), len(frames.phones)), np.int64)
        self._loop = on_root(
            world,
            lambda: PhoneLoop(frames.train.pieces(), self._phone_of, len(self._phones)),
        )
        self.tuned_on = min(TUNING_UTTERANCES, len(valid))
        tuning = np.arange(self.tuned_on) * len(valid) // self.tuned_on
        errors = np.zeros(len(GRID), np.int64)
        for utterance in tuning[world.rank :: world.size]:
            truth, scores = self._truth(valid.targets(utterance)), valid.scores(utterance)
            for number, pair in enumerate(GRID):
                errors[number] += sum(self._edits(truth, scores, *pair))
        world.Allreduce(MPI.IN_PLACE, errors)
        self.language_weight, self.insertion_penalty = GRID[int(errors.argmin())]

    def counts(
        self, scores: NDArray[np.float32], targets: NDArray[np.uint16]
    ) -> tuple[int, int, int, int]:
        """Count the phones, insertions, deletions and substitutions of an utterance.

        Args:
            scores: (T, C) the network's scores.
            targets: (T,) the correct targets.
        """
        np.add.at(self.confusions, (self._phone_of[targets], self._phone_of[scores.argmax(1)]), 1)
        truth = self._truth(targets)
        edits = self._edits(truth, scores, self.language_weight, self.insertion_penalty)
        return len(truth), *edits

    def _truth(self, targets: NDArray[np.uint16]) -> NDArray[np.int64]:
        """Return the correct phones, without silence."""
        truth, _ = collapse(targets, np.array([len(targets)]), self._phone_of)
        return without_silence(truth, self._phones)

    def _edits(
        self, truth: NDArray[np.int64], scores: NDArray[np.float32], weight: float, penalty: float
    ) -> Edits:
        """Decode an utterance and return its phone errors, without silence."""
        decoded = self._loop.decode(scores, weight, penalty)
        return edit_distance(truth, without_silence(decoded, self._phones))


def _counts(outputs: UtteranceScores, utterance: int, decoder: _Decoder | None) -> Counts:
    """Return the counts of an utterance. Without a decoder its number of phones is 0."""
    scores, targets = outputs.scores(utterance), outputs.targets(utterance)
    frame_errors = int(np.count_nonzero(scores.argmax(axis=1) != targets))
    phones = decoder.counts(scores, targets) if decoder else (0, 0, 0, 0)
    return Counts(len(targets), frame_errors, *phones)


def _fer_interval(counts: Sequence[Counts]) -> Interval | None:
    return interval([c.frame_errors for c in counts], [c.frames for c in counts])


def _per_interval(counts: Sequence[Counts]) -> Interval | None:
    return interval([c.phone_errors for c in counts], [c.phones for c in counts])


def _sum(counts: Sequence[Counts]) -> Counts:
    columns = zip(*(asdict(count).values() for count in counts), strict=True)
    return Counts(*map(sum, columns))
