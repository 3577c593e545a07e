"""Writes posteriors as a Kaldi archive, for a Kaldi decoder."""

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
from gtcbmuf.base.files import check_output, replacing, writing
from gtcbmuf.data.corpus import Frames, open_corpus
from gtcbmuf.data.importing.kaldi_features import read_features

#: Iterator over the name and the scores (frames, targets) of each utterance.
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
    """Write log-posteriors as a Kaldi archive, and return a line that summarises it.

    The archive is binary and holds a float matrix (frames, targets) for each utterance. The
    utterances are in the order of the corpus. Those of a FEATS.scp are written speaker by speaker.

    Args:
        model: path of the model file.
        path: path of a corpus file, or of Kaldi features if the suffix is .scp. Such features need
            no alignment. They must be of the same kind as those of the model's training data.
        ark: path of the archive. An earlier archive is replaced.
        split: split of the corpus: "train", "valid" or "test" (the default). For a corpus only.
        utt2spk, cmvn: as for `gtcbmuf.data.importing.kaldi.import_kaldi`. For Kaldi features only.
        minus_log_priors: subtract the log priors of the targets, counted in the model's training
            data. The result is a log-likelihood up to a constant per frame, as decoders expect
            (Bourlard and Morgan 1994, chapter 7).

    Raises:
        UserError: the model or the frames cannot be read, or the model does not fit the frames.
            The same error is raised if Kaldi does not allow an utterance's name or if the archive
            cannot be written. It is also raised if an argument applies only to the other kind of
            input.
    """
    check_output(ark, "--ark", [model, path, utt2spk, cmvn])
    saved, is_corpus = load_model(model), path.suffix != ".scp"
    for option, value in {"utt2spk": utt2spk, "cmvn": cmvn, "split": split}.items():
        if value is not None and is_corpus != (option == "split"):
            source = "FEATS.scp" if is_corpus else "a corpus"
            raise UserError(f"--{option} {value}: applies to {source}, not to {path}")
    if is_corpus:
        split = split or "test"
        scores, source = _score_corpus(model, saved, path, split), split
    else:
        scores, source = _score_features(saved, path, ark, utt2spk, cmvn), str(path)
    return f"{_write_archive(ark, saved, scores, minus_log_priors)} of {source}"


def _score_corpus(path: Path, saved: SavedModel, corpus_path: Path, split: str) -> Scores:
    corpus = open_corpus(corpus_path)
    check_fit(path, saved, corpus)
    frames = corpus.split(split)
    for name in frames.names:
        if len(name.split()) != 1:
            raise UserError(f"{corpus_path}: utterance {name!r}: expected a name without spaces")
    outputs = UtteranceScores(saved.build(BATCH), saved.vector, frames, corpus.target_count)
    return ((name, outputs.scores(number)) for number, name in enumerate(frames.names))


def _score_features(
    saved: SavedModel, path: Path, ark: Path, utt2spk: Path | None, cmvn: Path | None
) -> Scores:
    speakers = read_features(
        path, saved.feature_dim, saved.normalisation, utt2spk=utt2spk, cmvn=cmvn, ark=ark
    )
    model, targets = saved.build(BATCH), len(saved.target_counts)

    def scores(name: str, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            features = matrix.astype(np.float16)  # as in a corpus file
        if not np.isfinite(features).all():
            raise UserError(f"{path}: {name}: features out of the range of float16")
        frames = Frames(features, np.zeros(len(features), np.uint16), np.array([len(features)]))
        return UtteranceScores(model, saved.vector, frames, targets).scores(0)

    return ((name, scores(name, matrix)) for speaker in speakers for name, matrix in speaker)


def _write_archive(ark: Path, saved: SavedModel, scores: Scores, minus_log_priors: bool) -> str:
    prior = log_prior(saved.target_counts) if minus_log_priors else 0
    count = 0
    with writing(ark, "--ark"), replacing(ark) as temporary, temporary.open("wb") as file:
        for name, values in tqdm(scores, "forward", unit="utterance", disable=None):
            posteriors = values - np.logaddexp.reduce(values, axis=1, keepdims=True)
            # Not written with kaldi_native_io: it runs the text after a bar in a file's name.
            file.write(name.encode() + b" \0BFM ")
            file.write(struct.pack("<bibi", 4, len(values), 4, values.shape[1]))
            file.write((posteriors - prior).astype("<f4").tobytes())
            count += 1
    what = "log-posteriors minus log priors" if minus_log_priors else "log-posteriors"
    return f"{ark}: {what} of {count} utterances"
