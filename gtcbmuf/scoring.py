"""Scoring a model: frame and phone error rates of a split, by speaker, with their uncertainty.

Where targets are pdf-ids of phones that are not known, there are frame error rates alone.

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
from gtcbmuf.corpus import Corpus
from gtcbmuf.drawing import drawn
from gtcbmuf.errors import UserError
from gtcbmuf.model import MLP
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
class Decoding:
    """What there is besides where the phones are known.

    Attributes:
        language_weight, insertion_penalty: of the decoder, tuned.
        tuned_on: utterances of valid.
        per_interval: as `Result.fer_interval`.
        confusions: (P, P) int64: frames of phone i that the network takes for phone j at [i, j].
    """

    language_weight: float
    insertion_penalty: float
    tuned_on: int
    per_interval: tuple[float, float]
    confusions: NDArray[np.int64]


@dataclass(frozen=True)
class Result:
    """What `score_model` found.

    Attributes:
        total: of the split.
        fer_interval: ends of the 95 % confidence interval, in per cent. It holds for a model by
            itself; two models err on the same utterances, so that their difference is far more
            certain: pair them by utterance.
        speakers: of each speaker, in the split's order.
        utterances: of each utterance, in the split's order.
        decoding: None where the phones are not known; then the counts have none.
    """

    total: Counts
    fer_interval: tuple[float, float]
    speakers: dict[str, Counts]
    utterances: tuple[Counts, ...]
    decoding: Decoding | None


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
        picture: a PNG file for the confusions of phones.

    Raises:
        CollectiveError: on all ranks alike: the model or the corpus cannot be read, one does not
            fit the other, `out` or `picture` cannot be written, or there are no phones to confuse.
    """
    frames = agree(world, lambda: corpus.read(path))
    saved = agree(world, lambda: load_model(model))
    agree(world, lambda: check_fit(model, saved, frames))
    agree(world, lambda: _check_phones(picture, frames))
    in_turn(world, kernels.compile_all)
    mlp = MLP(saved.shape, BATCH)
    result = score_model(world, mlp, saved.vector, saved.context, frames, split)
    if out is not None:
        on_root(world, lambda: _write(out, model, frames, split, result))
    decoding = result.decoding
    if picture is not None and decoding is not None:
        on_root(world, lambda: _draw(picture, frames.phones, decoding.confusions))
    if world.rank == 0:
        print(f"{model} on {split} of {path}:\n{_text(result)}", flush=True)


def _check_phones(picture: Path | None, frames: Corpus) -> None:
    if picture is not None and not frames.has_phones:
        raise UserError(
            f"--picture {picture}: the targets of {frames.path} are pdf-ids of phones that are not "
            "known, so it cannot show which are confused"
        )


def score_model(
    world: MPI.Comm,
    mlp: MLP,
    parameters: NDArray[np.float32],
    context: int,
    frames: Corpus,
    split: str,
) -> Result:
    """Frame and, where phones are known, phone error rates of a model on a split; collective.

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
    decoder = None
    if frames.has_phones:
        in_turn(world, decode.compile_all)
        decoder = _Decoder(world, frames, Outputs(mlp, parameters, context, frames.valid))
    scored = frames.split(split)
    outputs = Outputs(mlp, parameters, context, scored)
    mine = [
        _counts(outputs, utterance, decoder)
        for utterance in range(world.rank, len(outputs), world.size)
    ]
    dealt: list[list[Counts]] = world.gather(mine) or []
    if decoder:
        world.Allreduce(MPI.IN_PLACE, decoder.confusions)

    def result() -> Result:
        counts = [dealt[u % world.size][u // world.size] for u in range(len(outputs))]
        by_speaker: dict[str, list[Counts]] = {}
        for speaker, of_utterance in zip(scored.speakers, counts, strict=True):
            by_speaker.setdefault(speaker, []).append(of_utterance)
        decoding = None
        if decoder:
            edits = [(c.insertions + c.deletions + c.substitutions, c.phones) for c in counts]
            decoding = Decoding(
                decoder.language_weight,
                decoder.insertion_penalty,
                decoder.tuned_on,
                _interval(edits),
                decoder.confusions,
            )
        return Result(
            total=_sum(counts),
            fer_interval=_interval([(c.frame_errors, c.frames) for c in counts]),
            speakers={speaker: _sum(of_speaker) for speaker, of_speaker in by_speaker.items()},
            utterances=tuple(counts),
            decoding=decoding,
        )

    return on_root(world, result)


class _Decoder:
    """Decodes phones, with what is tuned on valid, and counts how they are wrong; collective.

    Args:
        world: the workers.
        frames: the corpus.
        valid: the network's, of its valid split.

    Attributes:
        language_weight, insertion_penalty, tuned_on, confusions: see `Decoding`; the last of the
            frames that `counts` saw.
    """

    def __init__(self, world: MPI.Comm, frames: Corpus, valid: Outputs) -> None:
        self._phones, self._phone_of = frames.phones, frames.target_phone
        self.confusions = np.zeros((len(frames.phones), len(frames.phones)), np.int64)
        self._loop = on_root(
            world,
            lambda: decode.PhoneLoop(frames.train.pieces(), self._phone_of, len(self._phones)),
        )
        self.tuned_on = min(TUNING_UTTERANCES, len(valid))
        chosen = np.arange(self.tuned_on) * len(valid) // self.tuned_on
        errors = np.zeros(len(GRID), np.int64)
        for utterance in chosen[world.rank :: world.size]:
            truth, scores = self._truth(valid.targets(utterance)), valid.scores(utterance)
            for number, pair in enumerate(GRID):
                errors[number] += sum(self._edits(truth, scores, *pair))
        world.Allreduce(MPI.IN_PLACE, errors)
        self.language_weight, self.insertion_penalty = GRID[int(errors.argmin())]

    def counts(
        self, scores: NDArray[np.float32], targets: NDArray[np.uint16]
    ) -> tuple[int, int, int, int]:
        """Phones of an utterance, insertions, deletions and substitutions.

        Args:
            scores: (T, C).
            targets: (T,), the right ones.
        """
        np.add.at(self.confusions, (self._phone_of[targets], self._phone_of[scores.argmax(1)]), 1)
        truth = self._truth(targets)
        edits = self._edits(truth, scores, self.language_weight, self.insertion_penalty)
        return len(truth), *edits

    def _truth(self, targets: NDArray[np.uint16]) -> NDArray[np.int64]:
        """The right phones, without silence."""
        truth, _ = decode.collapse(targets, np.array([len(targets)]), self._phone_of)
        return decode.without_silence(truth, self._phones)

    def _edits(
        self, truth: NDArray[np.int64], scores: NDArray[np.float32], weight: float, penalty: float
    ) -> decode.Edits:
        """The errors, without silence."""
        decoded = self._loop.decode(scores, weight, penalty)
        return decode.edit_distance(truth, decode.without_silence(decoded, self._phones))


def _counts(outputs: Outputs, utterance: int, decoder: _Decoder | None) -> Counts:
    """Of an utterance; without a decoder it has no phones."""
    scores, targets = outputs.scores(utterance), outputs.targets(utterance)
    frame_errors = int(np.count_nonzero(scores.argmax(axis=1) != targets))
    phones = decoder.counts(scores, targets) if decoder else (0, 0, 0, 0)
    return Counts(len(targets), frame_errors, *phones)


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
    rows, decoding = {**result.speakers, "all": result.total}, result.decoding
    width = max(map(len, ("speaker", *rows)))
    of_phones = "   phones  PER %  ins %  del %  sub %" if decoding else ""
    lines = [f"{'speaker':<{width}}   frames  FER %{of_phones}"]
    for name, counts in rows.items():
        line = f"{name:<{width}} {counts.frames:>8,} {counts.fer:>6.2f}"
        if decoding:
            parts = (counts.insertions, counts.deletions, counts.substitutions)
            line += f" {counts.phones:>8,} {counts.per:>6.2f} " + " ".join(
                f"{_percent(part, counts.phones):>6.2f}" for part in parts
            )
        lines.append(line)
    rates = [("FER", result.total.fer, result.fer_interval)]
    if decoding:
        rates.append(("PER", result.total.per, decoding.per_interval))
    for name, rate, (low, high) in rates:
        lines.append(f"{name} {rate:.2f} %, 95 % interval over utterances {low:.2f} to {high:.2f}")
    if decoding:
        lines.append(
            f"language weight {decoding.language_weight:g}, insertion penalty "
            f"{decoding.insertion_penalty:g}: tuned on {decoding.tuned_on} utterances of valid"
        )
    return "\n".join(lines)


def _write(out: Path, model: Path, frames: Corpus, split: str, result: Result) -> None:
    scored, decoding = frames.split(split), result.decoding

    def facts(counts: Counts) -> dict[str, float]:
        if decoding:
            return {"fer": counts.fer, "per": counts.per, **asdict(counts)}
        return {"fer": counts.fer, "frames": counts.frames, "frame_errors": counts.frame_errors}

    whole: dict[str, Any] = {"model": str(model), "corpus": str(frames.path), "split": split}
    if decoding:
        whole |= {
            "language_weight": decoding.language_weight,
            "insertion_penalty": decoding.insertion_penalty,
            "tuned_on": decoding.tuned_on,
        }
    whole |= {**facts(result.total), "fer_interval": result.fer_interval}
    if decoding:
        whole |= {
            "per_interval": decoding.per_interval,
            "confusions": {"phones": frames.phones, "frames": decoding.confusions.tolist()},
        }
    whole |= {
        "speakers": [{"speaker": name, **facts(c)} for name, c in result.speakers.items()],
        "utterances": [
            {"name": name, "speaker": speaker, **facts(counts)}
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
