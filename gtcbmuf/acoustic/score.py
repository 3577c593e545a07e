"""Scores a saved model on a corpus, as a table, a JSON file and a picture of the confusions."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.acoustic.bootstrap import Interval, percent
from gtcbmuf.acoustic.evaluation import Counts, Evaluation, evaluate
from gtcbmuf.acoustic.model import BuildModel
from gtcbmuf.acoustic.model_file import load_model
from gtcbmuf.acoustic.posteriors import BATCH, check_fit
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import check_output, write_json, writing
from gtcbmuf.base.plotting import check_suffix, picture
from gtcbmuf.data.corpus import Corpus, open_corpus
from gtcbmuf.mpi.job import agree, on_root
from gtcbmuf.mpi.topology import compile_in_turn


def score(
    world: MPI.Comm,
    model: Path | str,
    corpus: Path | str,
    split: str = "test",
    out: Path | None = None,
    picture: Path | None = None,
    *,
    build: BuildModel | None = None,
) -> Evaluation:
    """Score a saved model on a split of a corpus, and print the error rates. Collective.

    Args:
        world: communicator of the workers.
        model, corpus: paths of the model file and the corpus file.
        split: "train", "valid" or "test".
        out: path of a JSON file for all results, including those of each utterance.
        picture: path of a PNG file for the phone confusions.
        build: function that builds the network, if it is not the MLP.

    Returns:
        The evaluation, the same on all workers.

    Raises:
        CollectiveError: raised on every rank. The model or the corpus cannot be read, the model
            does not fit the corpus, or `out` or `picture` cannot be written. The same error is
            raised if a picture is requested and the corpus does not name its phones.

    Examples:
        >>> import tempfile
        >>> from gtcbmuf import Architecture, CorpusWriter, Utterance
        >>> from gtcbmuf.acoustic.model_file import SavedModel, save_model
        >>> folder, targets = Path(tempfile.mkdtemp()), np.array([0, 1, 1, 0], np.uint16)
        >>> with CorpusWriter(
        ...     folder / "corpus.h5", phones=["a", "b"], target_phone=[0, 1], attributes={}
        ... ) as corpus:
        ...     for name in ("train", "valid", "test"):
        ...         corpus.add(name, Utterance(name, name, np.eye(2, dtype="f4")[targets], targets))
        >>> vector = np.array([9, 0, 0, 9, 0, 0], np.float32)  # scores are the features
        >>> identity = SavedModel(vector, Architecture((2, 2), "relu"), 0, np.full(2, 2), "")
        >>> save_model(folder / "model.h5", identity)
        >>> result = score(MPI.COMM_SELF, folder / "model.h5", folder / "corpus.h5")
        ... # doctest: +ELLIPSIS
        /...
        FER 0.00 %
        ...
        >>> result.total.fer
        0.0
    """
    model, corpus = Path(model), Path(corpus)
    frames = agree(world, lambda: open_corpus(corpus))
    saved = agree(world, lambda: load_model(model))
    agree(world, lambda: check_fit(model, saved, frames))
    on_root(world, lambda: _check_outputs(out, picture, model, frames))
    network = agree(world, lambda: saved.build(BATCH, build))
    compile_in_turn(world)
    evaluation = evaluate(world, network, saved.vector, frames, split)
    if world.rank == 0:
        print(f"{model} on {split} of {corpus}:\n{_text(evaluation)}", flush=True)
    if out is not None:
        on_root(world, lambda: _write(out, model, frames, split, evaluation))
    decoding = evaluation.decoding
    if picture is not None and decoding is not None:
        on_root(world, lambda: _draw(picture, frames.phones, decoding.confusions))
    return evaluation


def _check_outputs(out: Path | None, picture: Path | None, model: Path, frames: Corpus) -> None:
    if out is not None:
        check_output(out, "--out", [model, frames.path])
    if picture is None:
        return
    check_output(picture, "--picture", [model, frames.path])
    check_suffix(picture, "--picture")
    if not frames.has_phones:
        raise UserError(
            f"--picture {picture}: the targets of {frames.path} are pdf-ids of unknown phones; "
            "expected a corpus with known phones"
        )


def _text(result: Evaluation) -> str:
    """Format a row for each speaker, a row for all, the intervals and the tuned parameters."""
    rows, decoding = {**result.speakers, "all": result.total}, result.decoding
    width = max(map(len, ("speaker", *rows)))
    of_phones = "   phones  PER %  ins %  del %  sub %" if decoding else ""
    lines = [f"{'speaker':<{width}}   frames  FER %{of_phones}"]
    for name, counts in rows.items():
        line = f"{name:<{width}} {counts.frames:>8,} {counts.fer:>6.2f}"
        if decoding:
            parts = (counts.insertions, counts.deletions, counts.substitutions)
            line += f" {counts.phones:>8,} {counts.per:>6.2f} " + " ".join(
                f"{percent(part, counts.phones):>6.2f}" for part in parts
            )
        lines.append(line)
    lines.append(
        _rate("FER", result.total.fer, result.fer_interval, result.fer_interval_over_speakers)
    )
    if decoding:
        ends = decoding.per_interval, decoding.per_interval_over_speakers
        lines.append(_rate("PER", result.total.per, *ends))
        lines.append(
            f"language weight {decoding.language_weight:g}, insertion penalty "
            f"{decoding.insertion_penalty:g}: tuned on {decoding.tuned_on} utterances of valid"
        )
    return "\n".join(lines)


def _rate(
    name: str, rate: float, over_utterances: Interval | None, over_speakers: Interval | None
) -> str:
    """Format an error rate with its confidence intervals."""
    ends = {"utterances": over_utterances, "speakers": over_speakers}
    known = [f"over {of} {both[0]:.2f} to {both[1]:.2f}" for of, both in ends.items() if both]
    return f"{name} {rate:.2f} %{', 95 % interval ' if known else ''}{', '.join(known)}"


def _write(out: Path, model: Path, frames: Corpus, split: str, result: Evaluation) -> None:
    utterances, decoding = frames.split(split), result.decoding

    def facts(counts: Counts) -> dict[str, float]:
        if decoding:
            return {"fer": counts.fer, "per": counts.per, **asdict(counts)}
        return {"fer": counts.fer, "frames": counts.frames, "frame_errors": counts.frame_errors}

    content: dict[str, Any] = {"model": str(model), "corpus": str(frames.path), "split": split}
    if decoding:
        content |= {
            "language_weight": decoding.language_weight,
            "insertion_penalty": decoding.insertion_penalty,
            "tuned_on": decoding.tuned_on,
        }
    content |= {
        **facts(result.total),
        "fer_interval": result.fer_interval,
        "fer_interval_over_speakers": result.fer_interval_over_speakers,
    }
    if decoding:
        content |= {
            "per_interval": decoding.per_interval,
            "per_interval_over_speakers": decoding.per_interval_over_speakers,
            "confusions": {"phones": frames.phones, "frames": decoding.confusions.tolist()},
        }
    content |= {
        "speakers": [{"speaker": name, **facts(c)} for name, c in result.speakers.items()],
        "utterances": [
            {"name": name, "speaker": speaker, **facts(counts)}
            for name, speaker, counts in zip(
                utterances.names, utterances.speakers, result.utterances, strict=True
            )
        ],
    }
    with writing(out, "--out"):
        write_json(out, content)


def _draw(path: Path, phones: Sequence[str], confusions: NDArray[np.int64]) -> None:
    """Draw the confusion matrix of the phones.

    A square shows the share of one phone's frames that the network takes for the other phone.
    """
    size = max(6, 0.18 * len(phones) + 1.5)
    with picture(path, size, size, "--picture") as axes:
        shares = 100 * confusions / np.maximum(confusions.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="magma_r", norm="log", vmin=0.1, vmax=100)
        axes.set(xlabel="taken for", ylabel="phone")
        axes.set_xticks(range(len(phones)), phones, rotation=90, fontsize=7)
        axes.set_yticks(range(len(phones)), phones, fontsize=7)
        axes.figure.colorbar(image, label="% of the phone's frames", shrink=0.7)
