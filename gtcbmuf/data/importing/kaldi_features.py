"""Reads Kaldi's features for a model that is trained already; needs the extra `kaldi`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.kaldi_cmvn import CmvnNormaliser
from gtcbmuf.data.importing.kaldi_tables import (
    read_matrix,
    read_scp,
    read_speakers,
    require_kaldi_native_io,
)
from gtcbmuf.data.importing.normalisation import NORMALISATIONS, normalise_speaker

#: Names and features (frames, dim) of all utterances of a speaker.
SpeakerFeatures = list[tuple[str, NDArray[np.float32]]]


def read_features(
    feats: Path,
    dim: int,
    normalisation: str,
    *,
    utt2spk: Path | None = None,
    cmvn: Path | None = None,
) -> Iterator[SpeakerFeatures]:
    """Return an iterator over the speakers, each with the features of all utterances.

    Args:
        feats, utt2spk, cmvn: as for `gtcbmuf.data.importing.kaldi.import_kaldi`.
        dim: dimension of the features that the model takes.
        normalisation: of the features that the model takes, as
            `gtcbmuf.data.corpus.Corpus.normalisation`.

    Raises:
        UserError: the extra is not installed, a file is missing or damaged, features cannot be
            used, or the normalisation needs another argument.
    """
    require_kaldi_native_io()
    if normalisation == "speaker" and utt2spk is None:
        raise UserError("the model takes features normalised by speaker: give --utt2spk")
    if (normalisation == "statistics") != (cmvn is not None):
        advice = "give --cmvn" if cmvn is None else f"it goes without --cmvn {cmvn}"
        raise UserError(f"the model takes features with normalisation = {normalisation}: {advice}")
    locations = read_scp(feats)
    speaker_of = read_speakers(utt2spk, locations)
    normaliser = None if cmvn is None else CmvnNormaliser(cmvn, speaker_of)
    speakers: dict[str, list[str]] = {}
    for name in locations:
        if name not in speaker_of:
            raise UserError(f"{feats}: {name}: no speaker in {utt2spk}")
        if normaliser and (fault := normaliser.find_fault(name)):
            raise UserError(f"{feats}: {name}: {fault}")
        speakers.setdefault(speaker_of[name], []).append(name)

    def read_utterance(name: str) -> NDArray[np.float32]:
        matrix = read_matrix(feats, name, locations[name], "features")
        if matrix.shape[1] != dim:
            raise UserError(f"{feats}: {name}: {matrix.shape[1]} features a frame; expected {dim}")
        if not len(matrix) or not np.isfinite(matrix).all():
            raise UserError(f"{feats}: {name}: no frames, or features that are no numbers")
        return normaliser.apply(name, matrix) if normaliser else matrix

    def read_speaker(names: list[str]) -> SpeakerFeatures:
        utterances = [read_utterance(name) for name in names]
        scope = normalisation if normalisation in NORMALISATIONS else "none"
        return list(zip(names, normalise_speaker(utterances, scope), strict=True))

    return map(read_speaker, speakers.values())
