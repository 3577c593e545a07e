"""Reads Kaldi's features for a trained model. Needs the extra `kaldi`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import check_output
from gtcbmuf.data.importing.finite_features import describe_non_finite
from gtcbmuf.data.importing.kaldi_cmvn import CmvnNormaliser
from gtcbmuf.data.importing.kaldi_matrices import KaldiMatrices
from gtcbmuf.data.importing.kaldi_tables import read_speakers, require_kaldi_native_io
from gtcbmuf.data.importing.names import NameTable
from gtcbmuf.data.importing.normalisation import NORMALISATIONS, normalise_speaker

#: Name and features (frames, dim) of each utterance of a speaker.
SpeakerFeatures = list[tuple[str, NDArray[np.float32]]]


def read_features(
    feats: Path,
    dim: int,
    normalisation: str,
    *,
    utt2spk: Path | None = None,
    cmvn: Path | None = None,
    ark: Path | None = None,
) -> Iterator[SpeakerFeatures]:
    """Read the normalised features of all utterances, speaker by speaker.

    Args:
        feats: path of the scp of the features.
        dim: number of features per frame that the model takes.
        normalisation: normalisation of the features that the model takes, as in
            `gtcbmuf.data.corpus.Corpus.normalisation`.
        utt2spk: path of the table of speakers. Normalisation by speaker requires it.
        cmvn: path of the scp of the statistics. Normalisation by statistics requires it.
        ark: path of the archive that is made from the features, and must not replace them.

    Returns:
        An iterator over the speakers, with the features of each speaker's utterances.

    Raises:
        UserError: the extra is not installed, or a file is missing or damaged. The features do not
            fit the model, or the normalisation requires other arguments.
    """
    require_kaldi_native_io()
    if normalisation == "speaker" and utt2spk is None:
        raise UserError("the model takes features normalised by speaker: give --utt2spk")
    if (normalisation == "statistics") != (cmvn is not None):
        advice = "give --cmvn" if cmvn is None else f"remove --cmvn {cmvn}"
        raise UserError(f"the model takes features with normalisation = {normalisation}: {advice}")
    matrices = KaldiMatrices(feats, "features")
    speaker_of = read_speakers(utt2spk, matrices)
    normaliser = None if cmvn is None else CmvnNormaliser(cmvn, speaker_of)
    if ark:
        check_output(ark, "--ark", matrices.files | (normaliser.files if normaliser else set()))
    speakers: NameTable[list[str]] = NameTable()
    for name in matrices:
        if name not in speaker_of:
            raise UserError(f"{feats}: {name}: no speaker in {utt2spk}")
        if normaliser and (fault := normaliser.find_fault(name)):
            raise UserError(f"{feats}: {name}: {fault}")
        speakers.setdefault(speaker_of[name], []).append(name)

    def read_utterance(name: str) -> NDArray[np.float32]:
        matrix = matrices[name]
        if not len(matrix):
            raise UserError(f"{feats}: {name}: empty matrix; expected one or more frames")
        if matrix.shape[1] != dim:
            raise UserError(
                f"{feats}: {name}: {matrix.shape[1]} features per frame; expected {dim}"
            )
        if fault := describe_non_finite(matrix):
            raise UserError(f"{feats}: {name}: {fault}")
        return normaliser.apply(name, matrix) if normaliser else matrix

    def read_speaker(names: list[str]) -> SpeakerFeatures:
        utterances = [read_utterance(name) for name in names]
        scope = normalisation if normalisation in NORMALISATIONS else "none"
        return list(zip(names, normalise_speaker(utterances, scope), strict=True))

    return map(read_speaker, speakers.values())
