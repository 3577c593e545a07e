"""Posteriors for a Kaldi decoder, as an archive of Kaldi's."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gtcbmuf.acoustic.model_file import SavedModel, load_model
from gtcbmuf.acoustic.phone_loop import log_prior
from gtcbmuf.acoustic.posteriors import BATCH, UtteranceScores, check_fit
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import replacing, writing
from gtcbmuf.data.corpus import Frames, open_corpus
from gtcbmuf.data.importing.kaldi_features import read_features

#: Names and scores (frames, targets) of utterances.
Scores = Iterator[tuple[str, NDArray[np.float32]]]


def export_posteriors(
    model: Path,
    path: Path,
    ark: Path,
    *,
    split: str | None = None,
    utt2spk: Path | None = None,
    cmvn: Path | None = None,
    minus_log_priors: bool = False,
) -> str:
    """Write log-posteriors as a Kaldi archive, and return a line about it.

    The archive is binary, a float matrix (frames, targets) for each utterance, in a corpus's order,
    or one speaker of FEATS.scp after the other.

    Args:
        model: of the model.
        path: of a corpus; or, with the suffix .scp, of Kaldi's features, which need no alignment
            and are to be like those that were imported to train the model.
        ark: of the archive; an earlier one is replaced.
        split: "train", "valid" or "test" (the default), of a corpus.
        utt2spk, cmvn: of features, as `gtcbmuf.data.importing.kaldi.import_kaldi` takes them.
        minus_log_priors: take off the log priors of the targets, counted in the model's training
            data: what is left is, but for a constant a frame, a log-likelihood, which decoders
            want (Bourlard and Morgan 1994, chapter 7).

    Raises:
        UserError: the model or the frames cannot be read, one does not fit the other, an
            utterance has a name that Kaldi cannot have, an argument is for the other kind of
            frames, or the archive cannot be written.
    """
    saved, is_corpus = load_model(model), path.suffix != ".scp"
    for option, value in {"utt2spk": utt2spk, "cmvn": cmvn, "split": split}.items():
        if value is not None and is_corpus != (option == "split"):
            owner = "FEATS.scp" if is_corpus else "a corpus"
            raise UserError(f"--{option} {value}: only with {owner}, not {path}")
    if is_corpus:
        split = split or "test"
        scores, where = _of_corpus(model, saved, path, split), split
    else:
        scores, where = _of_features(saved, path, utt2spk, cmvn), str(path)
    return f"{_written(ark, saved, scores, minus_log_priors)} of {where}"


def _of_corpus(path: Path, saved: SavedModel, corpus_path: Path, split: str) -> Scores:
    corpus = open_corpus(corpus_path)
    check_fit(path, saved, corpus)
    frames = corpus.split(split)
    for name in frames.names:
        if len(name.split()) != 1:
            raise UserError(f"{corpus_path}: utterance {name!r}: Kaldi takes no name with a space")
    outputs = UtteranceScores(saved.build(BATCH), saved.vector, frames, corpus.target_count)
    return ((name, outputs.scores(number)) for number, name in enumerate(frames.names))


def _of_features(saved: SavedModel, path: Path, utt2spk: Path | None, cmvn: Path | None) -> Scores:
    speakers = read_features(
        path, saved.feature_dim, saved.normalisation, utt2spk=utt2spk, cmvn=cmvn
    )
    model, targets = saved.build(BATCH), len(saved.target_counts)

    def scores(name: str, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            features = matrix.astype(np.float16)  # as a corpus keeps them
        if not np.isfinite(features).all():
            raise UserError(f"{path}: {name}: features beyond what float16 can hold")
        alone = Frames(features, np.zeros(len(features), np.uint16), np.array([len(features)]))
        return UtteranceScores(model, saved.vector, alone, targets).scores(0)

    return ((name, scores(name, matrix)) for speaker in speakers for name, matrix in speaker)


def _written(ark: Path, saved: SavedModel, scores: Scores, minus_log_priors: bool) -> str:
    prior = log_prior(saved.target_counts) if minus_log_priors else 0
    count = 0
    with writing(ark, "--ark"), replacing(ark) as beside, beside.open("wb") as file:
        for name, values in tqdm(scores, "forward", unit="utterance", disable=None):
            posteriors = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
            # Written here, for kaldi_native_io runs what is after a bar in a file's name.
            file.write(name.encode() + b" \0BFM ")
            file.write(struct.pack("<bibi", 4, len(values), 4, values.shape[1]))
            file.write((posteriors - prior).astype("<f4").tobytes())
            count += 1
    what = "log-posteriors minus log priors" if minus_log_priors else "log-posteriors"
    return f"{ark}: {what} of {count} utterances"
