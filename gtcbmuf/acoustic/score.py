"""Scores a saved model on a corpus: tables, JSON, a picture of the confusions."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.acoustic.evaluation import Counts, Evaluation, _percent, evaluate
from gtcbmuf.acoustic.model import BuildModel
from gtcbmuf.acoustic.model_file import load_model
from gtcbmuf.acoustic.posteriors import BATCH, check_fit
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_json, writing
from gtcbmuf.base.plotting import picture
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
    """Score a saved model on a split of a corpus, and print the error rates; collective.

    Args:
        world: the workers.
        model, corpus: files.
        split: "train", "valid" or "test".
        out: a JSON file for all of it, also utterance by utterance.
        picture: a PNG file for the confusions of phones.
        build: of a network that is not the MLP.

    Returns:
        The same on all workers.

    Raises:
        CollectiveError: on all ranks alike: the model or the corpus cannot be read, one does not
            fit the other, `out` or `picture` cannot be written, or there are no phones to confuse.

    Example:
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
        FER 0.00 %, 95 % interval over utterances 0.00 to 0.00
        ...
        >>> result.total.fer
        0.0
    """
    model, corpus = Path(model), Path(corpus)
    frames = agree(world, lambda: open_corpus(corpus))
    saved = agree(world, lambda: load_model(model))
    agree(world, lambda: check_fit(model, saved, frames))
    agree(world, lambda: _check_phones(picture, frames))
    network = agree(world, lambda: saved.build(BATCH, build))
    compile_in_turn(world)
    evaluation = evaluate(world, network, saved.vector, frames, split)
    if out is not None:
        on_root(world, lambda: _write(out, model, frames, split, evaluation))
    decoding = evaluation.decoding
    if picture is not None and decoding is not None:
        on_root(world, lambda: _draw(picture, frames.phones, decoding.confusions))
    if world.rank == 0:
        print(f"{model} on {split} of {corpus}:\n{_text(evaluation)}", flush=True)
    return evaluation


def _check_phones(picture: Path | None, frames: Corpus) -> None:
    if picture is not None and not frames.has_phones:
        raise UserError(
            f"--picture {picture}: the targets of {frames.path} are pdf-ids of phones that are not "
            "known, so it cannot show which are confused"
        )


def _text(result: Evaluation) -> str:
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


def _write(out: Path, model: Path, frames: Corpus, split: str, result: Evaluation) -> None:
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
    with picture(path, size, size) as axes:
        shares = 100 * confusions / np.maximum(confusions.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="magma_r", norm="log", vmin=0.1, vmax=100)
        axes.set(xlabel="taken for", ylabel="phone")
        axes.set_xticks(range(len(phones)), phones, rotation=90, fontsize=7)
        axes.set_yticks(range(len(phones)), phones, fontsize=7)
        axes.figure.colorbar(image, label="% of the phone's frames", shrink=0.7)
