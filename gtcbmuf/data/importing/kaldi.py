"""Imports Kaldi's features and alignments into a corpus. Needs the extra `kaldi`."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import writing
from gtcbmuf.data.corpus_writer import CorpusWriter
from gtcbmuf.data.importing.corpus_import import (
    LabelledFrames,
    check_import_output,
    write_imported_corpus,
)
from gtcbmuf.data.importing.exclusions import Exclusions
from gtcbmuf.data.importing.kaldi_alignments import CONVERSION, MAX_TARGETS, KaldiAlignments
from gtcbmuf.data.importing.kaldi_archives import find_archives
from gtcbmuf.data.importing.kaldi_cmvn import CmvnNormaliser
from gtcbmuf.data.importing.kaldi_matrices import KaldiMatrices, RangeError
from gtcbmuf.data.importing.kaldi_tables import (
    read_speakers,
    require_kaldi_native_io,
)
from gtcbmuf.data.importing.names import NameTable
from gtcbmuf.data.importing.normalisation import check_normalisation
from gtcbmuf.data.importing.splits import split_utterances

_CHAIN_MODEL = (
    "most alignments have one target per three frames, as from a chain model; expected alignments "
    f"from a model with one target per frame, such as tri3b; {CONVERSION}"
)


def import_kaldi(
    feats: Path,
    ali: Sequence[str],
    out: Path,
    *,
    utt2spk: Path | None = None,
    pdfs: int | None = None,
    split_by: str = "speaker",
    valid: str = "0.1",
    test: str = "0.1",
    normalise: str = "speaker",
    cmvn: Path | None = None,
    most_bad: float = 0.05,
) -> str:
    """Import Kaldi's features and alignments into a corpus.

    Unusable utterances are excluded. The log `out`.log lists them with the reasons. The same
    arguments and files give the same corpus. Memory holds the frames of one speaker at a time.

    Args:
        feats: path of the scp of the features. Each utterance has a matrix (frames, dim) in any of
            Kaldi's formats, or `gunzip -c PATH |`.
        ali: paths or glob patterns of the alignment archives, gzipped or not, with one pdf-id or
            phone per frame.
        out: path of the corpus. An existing file is replaced.
        utt2spk: path of the table of speakers. Without it, each utterance is its own speaker.
        pdfs: number of pdf-ids in the model. The default is one more than the largest pdf-id in
            the alignments.
        split_by: "speaker", so that no speaker is in two splits, or "utterance".
        valid: share of the frames, or path of a file that lists utterances or speakers, one per
            line.
        test: share of the frames, or path of a file, as for `valid`. All other utterances are for
            training.
        normalise: scope of the normalisation to mean 0 and variance 1: "speaker", "utterance" or
            "none".
        cmvn: path of the scp of the statistics of each speaker or utterance, from
            `compute-cmvn-stats`. With it, `normalise` has no effect.
        most_bad: largest share of the utterances that may be excluded.

    Returns:
        Lines with the path of the corpus, the size of each split, and the numbers of exclusions,
        of speakers, of silent frames and of targets.

    Raises:
        UserError: the extra is not installed, or an argument is invalid. A file is missing or
            damaged, or holds transition-ids. Too many utterances are unusable, or there are too
            few speakers.
    """
    require_kaldi_native_io()
    check_normalisation(normalise)
    check_import_output(out, [feats, utt2spk, cmvn, Path(valid), Path(test)])

    from importlib.metadata import version

    if utt2spk is None and normalise == "speaker":
        normalise = "utterance"  # each utterance is its own speaker
    matrices = KaldiMatrices(feats, "features")
    speaker_of = read_speakers(utt2spk, matrices)
    normaliser = None if cmvn is None else CmvnNormaliser(cmvn, speaker_of)
    archives = find_archives(ali)
    statistics = normaliser.files if normaliser else ()
    check_import_output(out, [*archives, *matrices.files, *statistics])

    with ExitStack() as stack:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            spool = stack.enter_context(tempfile.TemporaryFile(dir=out.parent))
        alignments = KaldiAlignments(archives, spool, out)
        exclusions = Exclusions(len(matrices), most_bad)
        speakers = _group_by_speaker(matrices, alignments, speaker_of, utt2spk, exclusions)
        known_names = {*matrices, *speaker_of, *speaker_of.values()}
        speaker_rule = str(utt2spk or "utterance, because there is no --utt2spk")
        split_of = split_utterances(
            speakers,
            {name: alignments.length(name) for names in speakers.values() for name in names},
            known_names,
            {"valid": valid, "test": test},
            unit=split_by,
            speaker_rule=speaker_rule,
        )
        target_count = alignments.target_count
        if pdfs is not None and not target_count <= pdfs <= MAX_TARGETS:
            raise UserError(
                f"--pdfs {pdfs}: expected {target_count} to {MAX_TARGETS}, because pdf-id "
                f"{target_count - 1} occurs in the alignments"
            )
        # The phones of pdf-ids are unknown, so each target is its own phone.
        target_phone = range(pdfs or target_count)
        writer = CorpusWriter(
            out,
            phones=[str(target) for target in target_phone],
            target_phone=target_phone,
            attributes={
                "source": "kaldi",
                "kaldi_native_io": version("kaldi_native_io"),
                "feats": str(feats),
                "ali": " ".join(ali),
                "targets": "pdf",
                "speakers": "one per utterance" if utt2spk is None else str(utt2spk),
                **({} if split_by == "speaker" else {"split_by": split_by}),
                "valid": valid,
                "test": test,
                "normalisation": normalise if cmvn is None else "statistics",
                **({} if cmvn is None else {"cmvn": str(cmvn)}),
            },
        )
        summary = write_imported_corpus(
            writer,
            speakers,
            split_of,
            _UtteranceReader(matrices, alignments, normaliser, exclusions),
            exclusions,
            normalisation=normalise if cmvn is None else "none",
            speaker_rule=speaker_rule,
        )
        return f"{summary}\n{len(target_phone)} targets"


def _group_by_speaker(
    names: Iterable[str],
    alignments: KaldiAlignments,
    speaker_of: Mapping[str, str],
    utt2spk: Path | None,
    exclusions: Exclusions,
) -> NameTable[list[str]]:
    """Group the utterances with an alignment and a speaker by speaker, and exclude all others."""
    speakers: NameTable[list[str]] = NameTable()
    for name in names:
        if name not in alignments:
            exclusions.add(name, "no alignment")
        elif name not in speaker_of:
            exclusions.add(name, f"no speaker in {utt2spk}")
        else:
            speakers.setdefault(speaker_of[name], []).append(name)
    return speakers


class _UtteranceReader:
    """Reads the features and targets of an utterance, and excludes unusable utterances.

    Args:
        matrices: features of each utterance.
        alignments: targets of the utterances. A usable utterance has one target per frame.
        normaliser: normalises the features with Kaldi's statistics. None without statistics.
        exclusions: collects the unusable utterances.
    """

    def __init__(
        self,
        matrices: KaldiMatrices,
        alignments: KaldiAlignments,
        normaliser: CmvnNormaliser | None,
        exclusions: Exclusions,
    ) -> None:
        self._matrices, self._alignments = matrices, alignments
        self._normaliser, self._exclusions = normaliser, exclusions
        self._dim = 0

    def __call__(self, name: str) -> LabelledFrames | None:
        """Return the frames of an utterance. If it is unusable, exclude it and return None.

        Raises:
            UserError: the matrix cannot be read, or too many utterances are excluded.
        """
        try:
            matrix = self._matrices[name]
        except RangeError as error:
            self._exclusions.add(name, error.reason)
            return None
        if not len(matrix):
            self._exclusions.add(name, "empty matrix")
            return None
        targets = self._alignments[name]
        self._dim = self._dim or matrix.shape[1]
        if matrix.shape[1] != self._dim:
            self._exclusions.add(name, f"{matrix.shape[1]} features per frame, not {self._dim}")
        elif len(matrix) != len(targets):
            hint = _CHAIN_MODEL if abs(3 * len(targets) - len(matrix)) < 3 else ""
            self._exclusions.add(name, f"{len(matrix)} frames, but {len(targets)} targets", hint)
        elif self._normaliser is None:
            return matrix, targets
        elif fault := self._normaliser.find_fault(name):
            self._exclusions.add(name, fault)
        else:
            return self._normaliser.apply(name, matrix), targets
        return None
