"""Posteriors for a Kaldi decoder, as an archive of Kaldi's."""

import struct
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gtcbmuf import corpus
from gtcbmuf.decode import log_prior
from gtcbmuf.errors import UserError
from gtcbmuf.model import MLP
from gtcbmuf.modelfile import load_model
from gtcbmuf.score import BATCH, Outputs, check_fit
from gtcbmuf.storage import replacing, writing


def forward(
    model: Path, path: Path, ark: Path, *, split: str = "test", minus_log_priors: bool = False
) -> str:
    """Write the log-posteriors of a split as a Kaldi archive, and return a line about it.

    The archive is binary, a float matrix (frames, targets) for each utterance, in the corpus's
    order.

    Args:
        model, path: of the model and of the corpus.
        ark: of the archive; an earlier one is replaced.
        split: "train", "valid" or "test".
        minus_log_priors: take off the log priors of the targets, counted in train: what is left
            is, but for a constant a frame, a log-likelihood, which decoders want (Bourlard and
            Morgan 1994, chapter 7).

    Raises:
        UserError: the model or the corpus cannot be read, one does not fit the other, an
            utterance has a name that Kaldi cannot have, or the archive cannot be written.
    """
    frames = corpus.read(path)
    parameters, shape, context = load_model(model)
    check_fit(model, shape, context, frames)
    chosen = frames.split(split)
    for name in chosen.names:
        if len(name.split()) != 1:
            raise UserError(f"{path}: utterance {name!r}: Kaldi takes no name with a space")
    prior = log_prior(frames.train.counts(frames.target_count)) if minus_log_priors else 0
    outputs = Outputs(MLP(shape, BATCH), parameters, context, chosen)
    with writing(ark, "--ark"), replacing(ark) as beside, beside.open("wb") as file:
        for number, name in enumerate(tqdm(chosen.names, "forward", disable=None)):
            scores = outputs.scores(number)
            posteriors = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
            # Written here, for kaldi_native_io runs what is after a bar in a file's name.
            file.write(name.encode() + b" \0BFM ")
            file.write(struct.pack("<bibi", 4, len(scores), 4, scores.shape[1]))
            file.write((posteriors - prior).astype("<f4").tobytes())
    what = "log-posteriors minus log priors" if minus_log_priors else "log-posteriors"
    return f"{ark}: {what} of {len(outputs)} utterances of {split}"
