"""Imports recordings with phone alignments into a corpus. Needs the extra `audio`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.extras import require_extra
from gtcbmuf.data import features
from gtcbmuf.data.corpus import SILENCE
from gtcbmuf.data.corpus_writer import CorpusWriter
from gtcbmuf.data.importing.corpus_import import (
    LabelledFrames,
    check_import_output,
    write_imported_corpus,
)
from gtcbmuf.data.importing.ctm import read_ctm
from gtcbmuf.data.importing.exclusions import EXAMPLES, Exclusions
from gtcbmuf.data.importing.names import NameTable
from gtcbmuf.data.importing.normalisation import check_normalisation
from gtcbmuf.data.importing.phone_alignments import NO_AUDIO, PhoneAlignments, fill_silence
from gtcbmuf.data.importing.phone_names import PhoneNames, map_labels
from gtcbmuf.data.importing.recordings import find_recordings, read_samples
from gtcbmuf.data.importing.speaker_rules import DEFAULT_RULE, Speakers, find_speakers
from gtcbmuf.data.importing.splits import split_utterances
from gtcbmuf.data.importing.text_lines import read_lines
from gtcbmuf.data.importing.textgrid import read_textgrids

_MIN_SAMPLE_RATE = 8000  # Hz: below the rate of telephone speech, the mel bands become too narrow
_MAX_PHONES = (1 << 16) // features.STATES  # a corpus stores targets in 16 bits
_MAX_EXCESS = 0.05  # seconds that an alignment may extend beyond the audio
_DISAMBIGUATION = re.compile(r"#\d+")  # of words with the same pronunciation, in Kaldi
_LAYOUT = "expected the alignment of a/b.wav in a/b.TextGrid, or under the name a-b in a CTM"
_UNALIGNED = "all alignments have their recordings; raise --most-bad to leave out the others"


def import_audio(
    directory: Path,
    out: Path,
    *,
    alignments: Path | None = None,
    sample_rate: int = 16000,
    speakers: str = DEFAULT_RULE,
    split_by: str = "speaker",
    valid: str = "0.1",
    test: str = "0.1",
    phones: Path | Sequence[str] | None = None,
    normalise: str = "speaker",
    most_bad: float = 0.05,
) -> str:
    """Import recordings and their alignments into a corpus.

    Each audio file with one channel is an utterance, if its suffix is one of `recordings.SUFFIXES`.
    The name of the utterance is the path of the file relative to `directory`, without the suffix
    and with "-" for "/". Hidden files are skipped.

    Labels of silence become the phone "sil", and so does time without a label. If all labels but
    silences have a position in the word, the position is removed: AH0_B becomes AH0. ARPAbet vowels
    lose their stress, 0 to 2: AH0 becomes AH. If any label has another digit, such as a tone, all
    labels keep theirs. The targets are the thirds of the phones.

    Neighbours in an alignment may overlap by one frame shift, because tools round times. Each phone
    ends where the next one begins.

    Unusable utterances are excluded. The log `out`.log lists them with the reasons. The same
    arguments and files give the same corpus. Memory holds all alignments, with 20 bytes per phone,
    and the frames of one speaker at a time.

    Args:
        directory: directory of the recordings.
        out: path of the corpus. An existing file is replaced.
        alignments: directory of TextGrids with the same layout as `directory`, or path of a CTM of
            phones. The default is `directory`. A TextGrid has an interval tier "phones" or
            "SPEAKER - phones". A CTM names utterances as above, or by their file names without the
            suffix.
        sample_rate: sample rate of the features in Hz. Audio with a higher rate is resampled.
        speakers: rule that finds the speakers, as in `speaker_rules.find_speakers`. By default, the
            first folder below `directory` is the speaker.
        split_by: "speaker", so that no speaker is in two splits, or "utterance".
        valid: share of the time, or path of a file that lists utterances or speakers, one per line.
        test: share of the time, or path of a file, as for `valid`. All other utterances are for
            training.
        phones: phones of the corpus, or path of a file with one at the begin of each line. The
            corpus has these phones, whether they occur or not. By default, it has those that occur.
        normalise: scope of the normalisation to mean 0 and variance 1: "speaker", "utterance" or
            "none".
        most_bad: largest share of the utterances that may be excluded.

    Returns:
        Lines with the path of the corpus, the size of each split, the numbers of exclusions, of
        speakers and of silent frames, and the treatment of silence and stress in the labels.

    Raises:
        UserError: the extra is not installed, or an argument is invalid. A table is missing,
            damaged or of another kind. Too many utterances are unusable, or there are too few
            speakers.
    """
    modules = ("soundfile", "soxr", "kaldi_native_fbank")
    require_extra("audio", modules, "the import of audio needs")
    check_normalisation(normalise)
    check_sample_rate(sample_rate)

    from importlib.metadata import version

    recordings = find_recordings(directory)
    lists = [*map(Path, (speakers, valid, test)), phones if isinstance(phones, Path) else None]
    check_import_output(out, [alignments, *lists, *recordings.values()])
    source = alignments or directory
    if not source.exists():
        raise UserError(f"--alignments {source}: no such file or directory")
    read_alignments = read_ctm if source.is_file() else read_textgrids
    phone_alignments = read_alignments(source, recordings)

    names = recordings.keys() | phone_alignments.names()
    exclusions = Exclusions(len(names), most_bad)
    found_speakers = find_speakers(speakers, directory, recordings)
    utterances_of = _group_by_speaker(found_speakers, phone_alignments, exclusions)
    known_names = names | set(found_speakers.speaker_of.values())
    split_of = split_utterances(
        utterances_of,
        {name: times.max(initial=0) for name, (_, times) in phone_alignments.alignments.items()},
        known_names,
        {"valid": valid, "test": test},
        unit=split_by,
        speaker_rule=found_speakers.rule,
    )
    phone_names = map_labels(phone_alignments.label_numbers)
    inventory = phone_names.phones if phones is None else _list_phones(phones, phone_names)
    if len(inventory) > _MAX_PHONES:
        raise UserError(
            f"{phones or source}: {len(inventory)} phones ({', '.join(inventory[:EXAMPLES])}, "
            f"...); expected at most {_MAX_PHONES}, and phones rather than words"
        )
    writer = CorpusWriter(
        out,
        phones=inventory,
        target_phone=features.target_phone(len(inventory)),
        attributes={
            "source": "audio",
            "soundfile": version("soundfile"),
            "soxr": version("soxr"),
            "kaldi_native_fbank": version("kaldi-native-fbank"),
            "directory": str(directory),
            "alignments": str(source),
            "sample_rate": sample_rate,
            **({} if speakers == DEFAULT_RULE else {"speakers": speakers}),
            **({} if split_by == "speaker" else {"split_by": split_by}),
            "frame_shift_ms": features.frame_shift_ms(sample_rate),
            "valid": valid,
            "test": test,
            "normalisation": normalise,
        },
    )
    index = {phone: i for i, phone in enumerate(inventory)}
    label_phones = [index[phone_names.phone_of[label]] for label in phone_alignments.label_numbers]
    reader = _UtteranceReader(
        recordings, phone_alignments, np.array(label_phones, np.int64), sample_rate, exclusions
    )
    summary = write_imported_corpus(
        writer,
        utterances_of,
        split_of,
        reader,
        exclusions,
        normalisation=normalise,
        speaker_rule=found_speakers.rule,
    )
    return "\n".join([summary, *phone_names.notes])


def check_sample_rate(sample_rate: int) -> None:
    """Check the sample rate of the features.

    Raises:
        UserError: it is too low.
    """
    if sample_rate < _MIN_SAMPLE_RATE:
        raise UserError(f"--sample-rate {sample_rate}: expected {_MIN_SAMPLE_RATE} Hz or more")


def check_import(
    directory: Path,
    out: Path,
    inputs: Iterable[Path | None],
    *,
    speakers: str,
    split_by: str,
    valid: str,
    test: str,
    normalise: str,
) -> None:
    """Check arguments of an import before its alignments exist, as if all recordings were usable.

    Args:
        directory, out: as for `import_audio`.
        inputs: other files that must not be replaced. None is skipped.
        speakers, split_by, valid, test, normalise: as for `import_audio`.

    Raises:
        UserError: `import_audio` would raise it.
    """
    check_normalisation(normalise)
    recordings = find_recordings(directory)
    lists = map(Path, (speakers, valid, test))
    check_import_output(out, [*inputs, *lists, *recordings.values()])
    found = find_speakers(speakers, directory, recordings)
    split_utterances(
        found.group(found.speaker_of),
        dict.fromkeys(recordings, 1.0),
        recordings.keys() | set(found.speaker_of.values()),
        {"valid": valid, "test": test},
        unit=split_by,
        speaker_rule=found.rule,
    )


def _group_by_speaker(
    speakers: Speakers, phone_alignments: PhoneAlignments, exclusions: Exclusions
) -> NameTable[list[str]]:
    """Group the utterances with an alignment and a speaker by speaker, and exclude all others."""
    hint = _LAYOUT if NO_AUDIO in phone_alignments.faults.values() else _UNALIGNED
    for name, fault in speakers.faults.items():
        exclusions.add(name, fault, speakers.hint)
    for name in speakers.speaker_of:
        if name not in phone_alignments.alignments and name not in phone_alignments.faults:
            exclusions.add(name, "no alignment", hint)
    for name, fault in sorted(phone_alignments.faults.items()):
        if name not in speakers.faults:
            exclusions.add(name, fault)
    return speakers.group(n for n in speakers.speaker_of if n in phone_alignments.alignments)


def _list_phones(phones: Path | Sequence[str], names: PhoneNames) -> list[str]:
    """Return phones, or those of a file such as Kaldi's phones.txt, with silence first.

    Raises:
        UserError: the file cannot be read, or a phone of the alignments is not in the list.
    """
    if isinstance(phones, Path):
        words = {line.split()[0] for line in read_lines(phones) if line.strip()}
        phones_of = map_labels(
            sorted(word for word in words if not _DISAMBIGUATION.fullmatch(word))
        )
        listed = set(phones_of.phones)
    else:
        listed = set(phones)
    if missing := sorted(set(names.phones) - listed - {SILENCE}):
        raise UserError(
            f"--phones {phones}: no phone {', '.join(missing[:EXAMPLES])}; expected all phones of "
            "the alignments"
        )
    return [SILENCE, *sorted(listed - {SILENCE})]


class _UtteranceReader:
    """Computes the features and targets of an utterance, and excludes unusable utterances.

    Args:
        recordings: file of each utterance.
        phone_alignments: alignments of the utterances.
        label_phones: index of each label's phone, (labels,).
        sample_rate: sample rate of the features in Hz.
        exclusions: collects the unusable utterances.
    """

    def __init__(
        self,
        recordings: Mapping[str, Path],
        phone_alignments: PhoneAlignments,
        label_phones: NDArray[np.int64],
        sample_rate: int,
        exclusions: Exclusions,
    ) -> None:
        self._recordings, self._alignments = recordings, phone_alignments.alignments
        self._label_phones, self._rate, self._exclusions = label_phones, sample_rate, exclusions

    def __call__(self, name: str) -> LabelledFrames | None:
        """Return the frames of an utterance. If it is unusable, exclude it and return None.

        Raises:
            UserError: too many utterances are excluded.
        """
        try:
            samples = read_samples(self._recordings[name], self._rate)
        except UserError as error:
            self._exclusions.add(name, str(error))
            return None
        labels, times = self._alignments[name]
        seconds, end = len(samples) / self._rate, times.max(initial=0)
        if np.rint(end * self._rate) > len(samples) + _MAX_EXCESS * self._rate:
            self._exclusions.add(
                name, f"the alignment ends at {end:.3f} s, but the audio at {seconds:.3f} s"
            )
            return None
        matrix = features.log_mel(samples, self._rate)
        if not len(matrix):
            self._exclusions.add(name, f"audio of {seconds:.3f} s, which is shorter than a frame")
            return None
        bounds = np.rint(times * self._rate).astype(np.int64)
        phones, bounds = fill_silence(self._label_phones[labels], bounds, len(samples))
        centres = features.frame_centres(len(matrix), self._rate)
        return matrix, features.frame_targets(phones, bounds, centres)
