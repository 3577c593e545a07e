"""Writes imported utterances to a corpus, speaker by speaker."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import check_output, write_text, writing
from gtcbmuf.data.corpus_writer import CorpusWriter, Utterance
from gtcbmuf.data.importing.exclusions import Exclusions
from gtcbmuf.data.importing.finite_features import describe_non_finite
from gtcbmuf.data.importing.import_summary import ImportSummary
from gtcbmuf.data.importing.normalisation import normalise_speaker

#: Features (frames, dim) and targets (frames,) of one utterance.
LabelledFrames = tuple[NDArray[np.float32], NDArray[np.uint16]]


def check_import_output(out: Path, inputs: Iterable[Path | None]) -> None:
    """Check that an import can write its corpus and its log.

    Args:
        out: path of the corpus.
        inputs: files that must not be replaced, as in `check_output`.

    Raises:
        UserError: one of them cannot be written, or is an input.
    """
    kept = list(inputs)
    for path in (out, _log_of(out)):
        check_output(path, "--out", kept)


def _log_of(corpus: Path) -> Path:
    return Path(f"{corpus}.log")


def write_imported_corpus(
    writer: CorpusWriter,
    speakers: Mapping[str, Sequence[str]],
    split_of: Mapping[str, str],
    read_utterance: Callable[[str], LabelledFrames | None],
    exclusions: Exclusions,
    *,
    normalisation: str,
    speaker_rule: str,
) -> str:
    """Write a corpus, and a log of the excluded utterances.

    Memory holds the frames of one speaker at a time.

    Args:
        writer: writer of the corpus. This function enters and leaves its `with` statement.
        speakers: names of each speaker's utterances.
        split_of: split of each utterance.
        read_utterance: function that returns the frames of an utterance, given its name. It
            returns None if it has excluded the utterance.
        exclusions: collects the unusable utterances.
        normalisation: scope of the normalisation, one of NORMALISATIONS.
        speaker_rule: rule that found the speakers, in words.

    Returns:
        Lines with the path of the corpus, the size of each split, and the numbers of exclusions,
        of speakers and of silent frames.

    Raises:
        UserError: a split is empty, too many utterances are excluded, or a file cannot be read or
            written.
    """
    from tqdm import tqdm

    summary = ImportSummary(normalisation, speaker_rule)
    with writer:
        for speaker, names in tqdm(speakers.items(), "import", unit="speaker", disable=None):
            utterances = {
                name: frames
                for name in names
                if (frames := read_utterance(name)) is not None
                and _check_values(name, frames[0], normalisation, exclusions)
            }
            matrices = [matrix for matrix, _ in utterances.values()]
            summary.add(speaker, {name: split_of[name] for name in utterances}, matrices)
            for (name, (_, targets)), matrix in zip(
                utterances.items(), normalise_speaker(matrices, normalisation), strict=True
            ):
                writer.add(split_of[name], Utterance(name, speaker, matrix, targets))
        for split, count in summary.utterance_counts.items():
            if not count:
                raise UserError(
                    f"{writer.path}: no usable utterance in {split}{exclusions.format_examples()}"
                )
    log = _log_of(writer.path)
    with writing(log):
        write_text(log, exclusions.format_log())
    return summary.format(writer.path, log, exclusions)


def _check_values(
    name: str, matrix: NDArray[np.float32], normalisation: str, exclusions: Exclusions
) -> bool:
    """Return whether a corpus can store the features. If not, exclude the utterance."""
    # Only features without normalisation may exceed float16.
    largest = float(np.finfo(np.float16).max) if normalisation == "none" else np.inf
    if fault := describe_non_finite(matrix):
        exclusions.add(name, fault)
        return False
    if np.abs(matrix).max() > largest:
        exclusions.add(name, f"features beyond {largest:g}, the limit of float16")
        return False
    return True
