"""Scoring a model: frame and phone error rates of a split, by speaker, with their uncertainty.

Utterances are dealt out over the ranks. Each goes through the network by itself, so that its scores
do not depend on how many ranks there are: any number of them gives the same results.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf import corpus, decode, kernels
from gtcbmuf.corpus import Corpus, Split
from gtcbmuf.drawing import drawn
from gtcbmuf.errors import UserError
from gtcbmuf.model import MLP, Shape
from gtcbmuf.modelfile import load_model
from gtcbmuf.score import BATCH, Outputs, check_fit
from gtcbmuf.storage import write_json, writing
from gtcbmuf.topology import agree, in_turn, on_root

#: Pairs of language weight and insertion penalty, of which the one with the fewest phone errors on
#: valid is taken; of equal ones the first.
GRID = tuple(
    (float(weight), float(penalty))
    for weight in (1, 2, 3, 4, 5, 6)
    for penalty in (-6, -4, -2, 0, 2)
)
#: The most utterances of valid, spread evenly over it, that they are tuned on.
TUNING_UTTERANCES = 100

#: Of the bootstrap.
RESAMPLES = 1000


@dataclass(frozen=True)
class Counts:
    """Frames, phones without silence, and their errors, in some utterances."""

    frames: int
    frame_errors: int
    phones: int
    insertions: int
    deletions: int
    substitutions: int

    @property
    def fer(self) -> float:
        """Frame error rate, in per cent."""
        return _percent(self.frame_errors, self.frames)

    @property
    def per(self) -> float:
        """Phone error rate, in per cent."""
        return _percent(self.insertions + self.deletions + self.substitutions, self.phones)


@dataclass(frozen=True)
class Result:
    """What `score_model` found.

    Attributes:
        language_weight, insertion_penalty: of the decoder, tuned.
        tuned_on: utterances of valid.
        total: of the split.
        fer_interval, per_interval: ends of the 95 % confidence intervals, in per cent. They hold
            for a model by itself; two models err on the same utterances, so that their difference
            is far more certain: pair them by utterance.
        speakers: of each speaker, in the split's order.
        utterances: of each utterance, in the split's order.
        confusions: (P, P) int64: frames of phone i that the network takes for phone j at [i, j].
    """

    language_weight: float
    insertion_penalty: float
    tuned_on: int
    total: Counts
    fer_interval: tuple[float, float]
    per_interval: tuple[float, float]
    speakers: dict[str, Counts]
    utterances: tuple[Counts, ...]
    confusions: NDArray[np.int64]


def score(
    world: MPI.Comm,
    model: Path,
    path: Path,
    split: str,
    out: Path | None = None,
    picture: Path | None = None,
) -> None:
    """Score a saved model on a split of a corpus, and print what was found; collective.

    Args:
        world: the workers.
        model, path: of the model and of the corpus.
        split: "train", "valid" or "test".
        out: a JSON file for all of it, also utterance by utterance.
        picture: a PNG file for the confusions.

    Raises:
        CollectiveError: on all ranks alike: the model or the corpus cannot be read, one does not
            fit the other, or `out` or `picture` cannot be written.
    """
    frames = agree(world, lambda: corpus.read(path))
    parameters, shape, context = agree(world, lambda: load_model(model))
    agree(world, lambda: _check(model, shape, context, frames))
    in_turn(world, kernels.compile_all)
    result = score_model(world, MLP(shape, BATCH), parameters, context, frames, split)
    if out is not None:
        on_root(world, lambda: _write(out, model, frames, split, result))
    if picture is not None:
        on_root(world, lambda: _draw(picture, frames.phones, result.confusions))
    if world.rank == 0:
        print(f"{model} on {split} of {path}:\n{_text(result)}", flush=True)


def _check(model: Path, shape: Shape, context: int, frames: Corpus) -> None:
    check_fit(model, shape, context, frames)
    if not frames.has_phones:
        raise UserError(
            f"{frames.path}: its targets are pdf-ids of phones that are not known, so there is no "
            "phone error rate; the frame error rate is in the summary.json of a run"
        )


def score_model(
    world: MPI.Comm,
    mlp: MLP,
    parameters: NDArray[np.float32],
    context: int,
    frames: Corpus,
    split: str,
) -> Result:
    """Frame and phone error rates of a model on a split; collective.

    The decoder's language weight and insertion penalty are tuned on valid, and its priors and
    bigram come from the targets of train.

    Args:
        world: the workers.
        mlp: with a capacity of at least `gtcbmuf.score.BATCH`.
        parameters: (n,) of the model, the same on all workers.
        context: frames on each side.
        frames: the corpus, which the model must fit.
        split: "train", "valid" or "test".

    Returns:
        The same on all workers, whatever their number.
    """
    in_turn(world, decode.compile_all)
    loop = on_root(
        world,
        lambda: decode.PhoneLoop(frames.train.pieces(), frames.target_phone, len(frames.phones)),
    )
    valid = _Utterances(mlp, parameters, context, frames, frames.valid, loop)
    tuned_on = min(TUNING_UTTERANCES, len(valid))
    weight, penalty = _tune(world, valid, np.arange(tuned_on) * len(valid) // tuned_on)

    scored = frames.split(split)
    utterances = _Utterances(mlp, parameters, context, frames, scored, loop)
    mine = [
        utterances.counts(utterance, weight, penalty)
        for utterance in range(world.rank, len(utterances), world.size)
    ]
    dealt: list[list[Counts]] = world.gather(mine) or []
    world.Allreduce(MPI.IN_PLACE, utterances.confusions)

    def result() -> Result:
        counts = [dealt[u % world.size][u // world.size] for u in range(len(utterances))]
        by_speaker: dict[str, list[Counts]] = {}
        for speaker, of_utterance in zip(scored.speakers, counts, strict=True):
            by_speaker.setdefault(speaker, []).append(of_utterance)
        return Result(
            language_weight=weight,
            insertion_penalty=penalty,
            tuned_on=tuned_on,
            total=_sum(counts),
            fer_interval=_interval([(c.frame_errors, c.frames) for c in counts]),
            per_interval=_interval(
                [(c.insertions + c.deletions + c.substitutions, c.phones) for c in counts]
            ),
            speakers={speaker: _sum(of_speaker) for speaker, of_speaker in by_speaker.items()},
            utterances=tuple(counts),
            confusions=utterances.confusions,
        )

    return on_root(world, result)


class _Utterances(Outputs):
    """The utterances of a split, through the network and the decoder.

    Attributes:
        confusions: of the frames that `counts` saw, see `Result`.
    """

    def __init__(
        self,
        mlp: MLP,
        parameters: NDArray[np.float32],
        context: int,
        frames: Corpus,
        split: Split,
        loop: decode.PhoneLoop,
    ) -> None:
        super().__init__(mlp, parameters, context, split)
        self._corpus, self._loop = frames, loop
        self.confusions = np.zeros((len(frames.phones), len(frames.phones)), np.int64)

    def truth(self, utterance: int) -> NDArray[np.int64]:
        """The right phones, without silence."""
        targets = self.targets(utterance)
        truth, _ = decode.collapse(targets, np.array([len(targets)]), self._corpus.target_phone)
        return decode.without_silence(truth, self._corpus.phones)

    def edits(
        self,
        truth: NDArray[np.int64],
        scores: NDArray[np.float32],
        weight: float,
        penalty: float,
    ) -> decode.Edits:
        """The decoder's errors, without silence."""
        decoded = self._loop.decode(scores, weight, penalty)
        return decode.edit_distance(truth, decode.without_silence(decoded, self._corpus.phones))

    def counts(self, utterance: int, weight: float, penalty: float) -> Counts:
        """Of the utterance, with the decoder at this language weight and insertion penalty."""
        scores, targets = self.scores(utterance), self.targets(utterance)
        decided = scores.argmax(axis=1)
        frame_errors = int(np.count_nonzero(decided != targets))
        phone_of = self._corpus.target_phone
        np.add.at(self.confusions, (phone_of[targets], phone_of[decided]), 1)
        truth = self.truth(utterance)
        edits = self.edits(truth, scores, weight, penalty)
        return Counts(len(targets), frame_errors, len(truth), *edits)


def _tune(
    world: MPI.Comm, utterances: _Utterances, chosen: NDArray[np.int64]
) -> tuple[float, float]:
    """The pair of GRID with the fewest phone errors on the chosen utterances; collective."""
    errors = np.zeros(len(GRID), np.int64)
    for utterance in chosen[world.rank :: world.size]:
        truth, scores = utterances.truth(utterance), utterances.scores(utterance)
        for pair, (weight, penalty) in enumerate(GRID):
            errors[pair] += sum(utterances.edits(truth, scores, weight, penalty))
    world.Allreduce(MPI.IN_PLACE, errors)
    return GRID[int(errors.argmin())]


def _sum(counts: Sequence[Counts]) -> Counts:
    columns = zip(*(asdict(one).values() for one in counts), strict=True)
    return Counts(*map(sum, columns))


def _percent(errors: int, count: int) -> float:
    # Of nothing (an utterance of silence has no phones) a rate is told as if of one.
    return 100 * errors / max(count, 1)


def _interval(utterances: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """95 % percentile bootstrap of a rate over utterances (Bisani and Ney, ICASSP 2004).

    Args:
        utterances: errors and count of each.

    Returns:
        Both ends, in per cent.
    """
    errors, counts = np.array(utterances).T
    stream = np.random.Generator(np.random.PCG64(0))  # the same resamples for every model
    rates = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        drawn = stream.integers(0, len(errors), len(errors))
        rates[resample] = _percent(int(errors[drawn].sum()), int(counts[drawn].sum()))
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)


def _text(result: Result) -> str:
    """A row for each speaker and one for all, then the intervals and what was tuned."""
    rows = {**result.speakers, "all": result.total}
    width = max(map(len, ("speaker", *rows)))
    lines = [f"{'speaker':<{width}}   frames  FER %   phones  PER %  ins %  del %  sub %"]
    for name, counts in rows.items():
        parts = (counts.insertions, counts.deletions, counts.substitutions)
        lines.append(
            f"{name:<{width}} {counts.frames:>8,} {counts.fer:>6.2f} {counts.phones:>8,} "
            f"{counts.per:>6.2f} "
            + " ".join(f"{_percent(part, counts.phones):>6.2f}" for part in parts)
        )
    for name, rate, (low, high) in (
        ("FER", result.total.fer, result.fer_interval),
        ("PER", result.total.per, result.per_interval),
    ):
        lines.append(f"{name} {rate:.2f} %, 95 % interval over utterances {low:.2f} to {high:.2f}")
    lines.append(
        f"language weight {result.language_weight:g}, insertion penalty "
        f"{result.insertion_penalty:g}: tuned on {result.tuned_on} utterances of valid"
    )
    return "\n".join(lines)


def _write(out: Path, model: Path, frames: Corpus, split: str, result: Result) -> None:
    scored = frames.split(split)
    whole: dict[str, Any] = {
        "model": str(model),
        "corpus": str(frames.path),
        "split": split,
        "language_weight": result.language_weight,
        "insertion_penalty": result.insertion_penalty,
        "tuned_on": result.tuned_on,
        **_facts(result.total),
        "fer_interval": result.fer_interval,
        "per_interval": result.per_interval,
        "speakers": [{"speaker": name, **_facts(c)} for name, c in result.speakers.items()],
        "confusions": {"phones": frames.phones, "frames": result.confusions.tolist()},
        "utterances": [
            {"name": name, "speaker": speaker, **_facts(counts)}
            for name, speaker, counts in zip(
                scored.names, scored.speakers, result.utterances, strict=True
            )
        ],
    }
    with writing(out, "--out"):
        write_json(out, whole)


def _draw(path: Path, phones: Sequence[str], confusions: NDArray[np.int64]) -> None:
    """A square for each pair of phones: the share of one's frames that are taken for the other."""
    size = max(6, 0.18 * len(phones) + 1.5)
    with drawn(path, size, size) as axes:
        shares = 100 * confusions / np.maximum(confusions.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="magma_r", norm="log", vmin=0.1, vmax=100)
        axes.set(xlabel="taken for", ylabel="phone")
        axes.set_xticks(range(len(phones)), phones, rotation=90, fontsize=7)
        axes.set_yticks(range(len(phones)), phones, fontsize=7)
        axes.figure.colorbar(image, label="% of the phone's frames", shrink=0.7)


def _facts(counts: Counts) -> dict[str, float]:
    return {"fer": counts.fer, "per": counts.per, **asdict(counts)}
