"""A corpus made of recordings and the times of their phones; needs the extra `audio`.

The times come as the Montreal Forced Aligner and Kaldi write them: Praat's TextGrids or a CTM.
libsndfile reads the audio, soxr resamples it, praatio reads TextGrids.
"""

import importlib.util
import os
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtcbmuf import corpus, features
from gtcbmuf.decode import SILENCE
from gtcbmuf.errors import UserError
from gtcbmuf.importing import NORMALISATIONS, Frames, LeftOut, split_speakers, write_corpus

_LOWEST_RATE = 8000  # Hz: below telephone speech the mel bands become too narrow
_MOST_PHONES = (1 << 16) // features.STATES  # a corpus numbers its targets with 16 bits
_NAMED = 3  # of many, in a message
_DUST = 0.001  # seconds: what times may differ by where they should be the same
_EXCESS = 0.05  # seconds: how much longer than the audio an alignment may be
_BLOCK = 1 << 20  # samples read at a time: the length that a damaged file claims is not trusted
_FULL_SCALE = 1 << 15  # Kaldi's unit, and that of the synthetic corpus
_LOUDEST = 1e9  # beyond it float32 cannot hold energies
_UNKNOWN_LENGTH = 0x7FFFF000  # bytes: such a length, or a greater, is written to a pipe
_CUT_OFF = re.compile(r"^data : (\d+) \(should be \d+\)", re.MULTILINE)

_SILENCES = frozenset({"", "sil", "SIL", "sp", "<eps>"})
_POSITION = re.compile(r"(.+)_[BIES]")
_STRESS = re.compile(r"([A-Z]+)[012]")
_LAYOUT = "expected the alignment of a/b.wav as a/b.TextGrid, or in a CTM as that of a-b"

#: Numbers of an utterance's labels (n,), and when each begins and ends (n, 2), in seconds.
_Alignment = tuple[NDArray[np.int32], NDArray[np.float64]]


def import_audio(
    directory: Path,
    out: Path,
    *,
    alignments: Path | None = None,
    sample_rate: int = 16000,
    valid: str = "0.1",
    test: str = "0.1",
    normalise: str = "speaker",
    most_bad: float = 0.05,
) -> str:
    """Make the corpus `out` of recordings and their alignments, and return a line about it.

    Each recording, a .wav or .flac with one channel, is an utterance. Its name is its path below
    `directory` without the suffix, with "-" for "/"; its speaker is the folder it is in. A
    recording in `directory` itself is its own speaker. Hidden files are skipped.

    Labels of silence become the phone "sil", and so does all time without a label. Stress is taken
    off ARPAbet's vowels, and a phone's position in the word if all labels but silences have one
    (AH0_B is AH). The targets are the thirds of every phone.

    Utterances that cannot be used are left out; `out`.log, beside `out`, names each with the
    reason. The same arguments and files give the same corpus. Memory holds all alignments, 20
    bytes a phone, and the frames of one speaker at a time.

    Args:
        directory: of the recordings.
        out: of the HDF5 file; an earlier one is replaced.
        alignments: a directory of TextGrids laid out as `directory` is, which is the default, each
            with an interval tier "phones" or "SPEAKER - phones"; or a CTM of phones, which names
            utterances as above, or by the recording's file name without its suffix.
        sample_rate: of the features; audio with a higher one is resampled.
        valid: a share of the speakers, or a file that lists utterances or speakers, a line each.
        test: likewise; the utterances of neither are for training.
        normalise: "speaker" or "utterance": mean 0 and variance 1 over its frames; or "none".
        most_bad: the largest share of the utterances that may be left out.

    Raises:
        UserError: the extra is not installed, an argument makes no sense, a file is missing,
            damaged or of another kind than expected, too many utterances cannot be used, or the
            splits would lack a speaker.
    """
    for module in ("soundfile", "soxr", "praatio", "kaldi_native_fbank"):
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"an import of audio needs {module}, which is not installed: "
                "pip install 'gtcbmuf[audio]'"
            )
    if normalise not in NORMALISATIONS:
        raise UserError(f"normalise is {normalise!r}; expected {' or '.join(NORMALISATIONS)}")
    if sample_rate < _LOWEST_RATE:
        raise UserError(f"--sample-rate {sample_rate}: expected {_LOWEST_RATE} or more")

    from importlib.metadata import version

    recordings = _find(directory, {".wav", ".flac"})
    if not recordings:
        raise UserError(f"{directory}: no recording below it; expected .wav or .flac files")
    alignments = alignments or directory
    read = _read_ctm if alignments.is_file() else _read_textgrids
    aligned = read(alignments, recordings)

    names = recordings.keys() | aligned.names()
    left_out = LeftOut(len(names), most_bad)
    speaker_of = {name: _speaker(directory, path, name) for name, path in recordings.items()}
    speakers = _pair(speaker_of, aligned, left_out)
    known = names | set(speaker_of.values())
    split_of = split_speakers(speakers, known, {"valid": valid, "test": test})
    phone_of = _name_phones(aligned.labels)
    phones = [SILENCE, *sorted(set(phone_of.values()) - {SILENCE})]
    if len(phones) > _MOST_PHONES:
        raise UserError(
            f"{alignments}: {len(phones)} phones ({', '.join(phones[:_NAMED])}, ...); expected "
            f"{_MOST_PHONES} at most: are these words?"
        )
    writer = corpus.Writer(
        out,
        phones=phones,
        target_phone=[i // features.STATES for i in range(features.STATES * len(phones))],
        attributes={
            "source": "audio",
            "soundfile": version("soundfile"),
            "soxr": version("soxr"),
            "kaldi_native_fbank": version("kaldi-native-fbank"),
            "directory": str(directory),
            "alignments": str(alignments),
            "sample_rate": sample_rate,
            "frame_shift_ms": 1000 * features.frame_shift(sample_rate) / sample_rate,
            "valid": valid,
            "test": test,
            "normalisation": normalise,
        },
    )
    index = {phone: i for i, phone in enumerate(phones)}
    phone_indices = np.array([index[phone_of[label]] for label in aligned.labels], np.int64)
    reader = _Reader(recordings, aligned, phone_indices, sample_rate, left_out)
    return write_corpus(writer, speakers, split_of, reader.read, left_out, normalise=normalise)


def _find(directory: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """Return the files below a directory that have one of the suffixes, by their utterance."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read as a directory: {error.strerror}")

    paths: list[Path] = []
    seen: dict[str, str] = {}  # links may lead in a circle, or to a speaker a second time
    for folder, _, files in os.walk(directory, onerror=refuse, followlinks=True):
        first = seen.setdefault(os.path.realpath(folder), folder)
        if first != folder:
            raise UserError(f"{folder}: the same folder as {first}; expected it once")
        paths += [
            Path(folder, file)
            for file in files
            if not file.startswith(".") and Path(file).suffix.lower() in suffixes
        ]
    found: dict[str, Path] = {}
    for path in sorted(paths):
        name = path.relative_to(directory).with_suffix("").as_posix().replace("/", "-")
        if not name.isprintable():  # not in UTF-8, or with a newline
            raise UserError(f"{str(path)!r}: expected a name of printable characters")
        if found.setdefault(name, path) != path:
            raise UserError(f"{found[name]} and {path}: both would be the utterance {name}")
    return found


@dataclass
class _Alignments:
    """The alignments of all utterances.

    Attributes:
        labels: what they name, each with a number.
        found: by the name of the utterance.
        faults: by the name of the utterance, why there is none that can be used.
    """

    labels: dict[str, int] = field(default_factory=dict)
    found: dict[str, _Alignment] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Return the names of all utterances."""
        return {*self.found, *self.faults}

    def number(self, label: str) -> int:
        """Return the number of a label."""
        return self.labels.setdefault(label, len(self.labels))

    def add(self, name: str, labels: NDArray[np.int32], times: NDArray[np.float64]) -> None:
        """Add the alignment of an utterance: as in _Alignment."""
        if fault := _find_fault(times):
            self.faults[name] = fault
        else:
            self.found[name] = labels, times


def _find_fault(times: NDArray[np.float64]) -> str:
    """Return what is wrong with the times (n, 2) of intervals, in seconds; nothing is right."""
    if not np.isfinite(times).all():
        return "a time that is no finite number"
    order = np.concatenate([[0], times.ravel()])
    backward = np.flatnonzero(order[1:] < np.maximum.accumulate(order)[:-1] - _DUST)
    if not len(backward):
        return ""
    begin, end = times[backward[0] // 2]
    return f"the interval from {begin:.3f} to {end:.3f} s goes backward or overlaps an earlier one"


def _read_textgrids(directory: Path, recordings: Mapping[str, Path]) -> _Alignments:
    """Read the TextGrids of all recordings.

    Raises:
        UserError: there is no TextGrid, or one that is none.
    """
    from tqdm import tqdm

    aligned = _Alignments()
    textgrids = _find(directory, {".textgrid"})
    if not textgrids:
        raise UserError(f"{directory}: no alignment below it; expected .TextGrid files, or a CTM")
    for name, path in tqdm(textgrids.items(), "alignments", unit="file", disable=None):
        if name not in recordings:
            aligned.faults[name] = "no audio"
            continue
        tiers = _read_tiers(path)
        of_phones = [tier for tier in tiers if tier.is_of_phones]
        if len(of_phones) == 1:
            labels, times = _read_intervals(path, of_phones[0])
            aligned.add(name, np.array([aligned.number(x) for x in labels], np.int32), times)
        else:
            aligned.faults[name] = (
                'expected one interval tier "phones" or "SPEAKER - phones", found '
                f"{len(of_phones)} in the tiers: {', '.join(tier.name for tier in tiers)}"
            )
    return aligned


class _Tier(NamedTuple):
    """A tier of a TextGrid that ends at `end` seconds, with its entries as praatio has them."""

    name: str
    kind: str
    end: float
    entries: Sequence[tuple[str, ...]]

    @property
    def is_of_phones(self) -> bool:
        named = self.name == "phones" or self.name.endswith(" - phones")
        return named and self.kind == "IntervalTier"


def _read_tiers(path: Path) -> list[_Tier]:
    """Read the tiers of a TextGrid.

    Raises:
        UserError: this is none.
    """
    from praatio.utilities.textgrid_io import parseTextgridStr

    # praatio checks nothing: what is no TextGrid makes it raise whatever comes. And it would lose
    # an interval in a last line without an end.
    try:
        tiers = parseTextgridStr(_read_text(path) + "\n", includeEmptyIntervals=True)["tiers"]
        return [_Tier(t["name"], t["class"], float(t["xmax"]), t["entries"]) for t in tiers]
    except Exception as error:
        raise _no_textgrid(path, error) from None


def _no_textgrid(path: Path, why: object) -> UserError:
    return UserError(f"{path}: expected a TextGrid, long or short, in UTF-8 or UTF-16: {why}")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-16")
    except UnicodeError:  # it does not begin as UTF-16 must
        return path.read_text(encoding="utf-8")


def _read_intervals(path: Path, tier: _Tier) -> tuple[list[str], NDArray[np.float64]]:
    """Return the labels of a tier and their times (n, 2)."""
    try:
        labels = [label for _, _, label in tier.entries]
        times = np.array([(begin, end) for begin, end, _ in tier.entries], np.float64)
    except (ValueError, TypeError) as error:
        raise _no_textgrid(path, error) from None
    # Intervals fill their tier; praatio takes a truncated file for a shorter one.
    end = times.max(initial=0)
    if end < tier.end - _DUST:
        raise _no_textgrid(path, f"its phones end at {end:g} s, their tier at {tier.end:g} s")
    return labels, times.reshape(-1, 2)


def _read_ctm(path: Path, recordings: Mapping[str, Path]) -> _Alignments:
    """Read the alignments of all recordings.

    Raises:
        UserError: this is no CTM, or it has two alignments of a recording.
    """
    aligned = _Alignments()
    recordings_of = _accept_names(recordings)
    owners: dict[str, str] = {}  # the name in the CTM of each recording
    labels: dict[str, array[int]] = {}
    times: dict[str, array[float]] = {}
    for utterance, begin, end, label in _read_ctm_lines(path):
        match recordings_of.get(utterance, []):
            case []:
                aligned.faults[utterance] = "no audio"
            case [name]:
                if owners.setdefault(name, utterance) != utterance:
                    raise UserError(
                        f"{path}: {owners[name]} and {utterance}: two alignments of {name}"
                    )
                labels.setdefault(name, array("i")).append(aligned.number(label))
                times.setdefault(name, array("d")).extend((begin, end))
            case [*several]:
                aligned.faults[utterance] = f"may be any of {', '.join(several[:_NAMED])}"
    for name, numbers in labels.items():
        pairs = np.frombuffer(times[name], np.float64).reshape(-1, 2)
        aligned.add(name, np.frombuffer(numbers, np.int32), pairs)
    return aligned


def _accept_names(recordings: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return the recordings that a name in a CTM may stand for."""
    accepted: dict[str, list[str]] = {}
    for name, path in recordings.items():
        accepted.setdefault(path.stem, []).append(name)
    return accepted | {name: [name] for name in recordings}


def _read_ctm_lines(path: Path) -> Iterator[tuple[str, float, float, str]]:
    """Yield utterance, begin and end in seconds, and label of each line."""
    some = False
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.startswith(";;") or line.isspace():
                    continue
                try:
                    utterance, _, begin, duration, label = line.split(maxsplit=5)[:5]
                    yield utterance, float(begin), float(begin) + float(duration), label
                    some = True
                except ValueError:
                    raise UserError(
                        f"{path}: line {number}: {line[:80]!r}: expected "
                        "UTTERANCE CHANNEL START DURATION PHONE"
                    ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a CTM: {error}") from None
    if not some:
        raise UserError(f"{path}: no line in it; expected one per phone")


def _speaker(directory: Path, recording: Path, name: str) -> str:
    """Who speaks: the folder that a recording is in; of one in none, the recording alone."""
    folder = recording.parent.relative_to(directory)
    return name if folder == Path() else folder.as_posix()


def _pair(
    speaker_of: Mapping[str, str], aligned: _Alignments, left_out: LeftOut
) -> dict[str, list[str]]:
    """Return the utterances of each speaker that have audio and an alignment."""
    speakers: dict[str, list[str]] = {}
    for name, speaker in speaker_of.items():
        if name in aligned.found:
            speakers.setdefault(speaker, []).append(name)
        elif name not in aligned.faults:
            left_out.add(name, "no alignment", _LAYOUT)
    for name, fault in sorted(aligned.faults.items()):
        left_out.add(name, fault)
    return speakers


def _name_phones(labels: Iterable[str]) -> dict[str, str]:
    """Return the phone that each label stands for."""
    # Kaldi writes positions to all labels or to none; elsewhere t_S is a phone.
    spoken = [label for label in labels if label not in _SILENCES]
    positions = all(_POSITION.fullmatch(label) for label in spoken)
    phone_of = dict.fromkeys(_SILENCES, SILENCE)
    for label in spoken:
        bare = _POSITION.sub(r"\1", label) if positions else label
        stressed = _STRESS.fullmatch(bare)
        phone_of[label] = SILENCE if bare in _SILENCES else stressed[1] if stressed else bare
    return phone_of


class _Reader:
    """Reads audio and makes features and targets of it, and leaves out what cannot be used.

    Args:
        recordings: files of the utterances.
        aligned: their alignments.
        phone_indices: (labels,) the phone of each label.
        sample_rate: of the features.
        left_out: takes what cannot be used.
    """

    def __init__(
        self,
        recordings: Mapping[str, Path],
        aligned: _Alignments,
        phone_indices: NDArray[np.int64],
        sample_rate: int,
        left_out: LeftOut,
    ) -> None:
        self._recordings, self._aligned, self._phone_indices = recordings, aligned, phone_indices
        self._rate, self._left_out = sample_rate, left_out

    def read(self, name: str) -> Frames | None:
        """Return the frames of an utterance; nothing if it cannot be used.

        Raises:
            UserError: the file is damaged, or no audio of one channel and a sufficient rate.
        """
        samples = _read_samples(self._recordings[name], self._rate)
        labels, times = self._aligned.found[name]
        seconds, end = len(samples) / self._rate, times.max(initial=0)
        if np.rint(end * self._rate) > len(samples) + _EXCESS * self._rate:
            self._left_out.add(
                name, f"its alignment ends at {end:.3f} s, after its audio of {seconds:.3f} s"
            )
            return None
        if not (np.abs(samples) < _LOUDEST).all():
            self._left_out.add(name, "samples that are NaN, infinite or absurdly large")
            return None
        matrix = features.log_mel(samples, self._rate)
        if not len(matrix):
            self._left_out.add(name, f"{seconds:.3f} s of audio are too short for a frame")
            return None
        bounds = np.rint(times * self._rate).astype(np.int64)
        phones, bounds = _fill(self._phone_indices[labels], bounds, len(samples))
        centres = features.frame_centres(len(matrix), self._rate)
        return matrix, features.frame_targets(phones, bounds, centres)


def _fill(
    phones: NDArray[np.int64], bounds: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Make phones reach over all samples, with silence (phone 0) between them.

    A silence is one, however many intervals it was written as.

    Args:
        phones: (n,).
        bounds: (n, 2) first sample of each, and the sample after its last one.
        length: samples in all, at least one.

    Returns:
        Phones (m,) and their bounds (m + 1,), as `features.frame_targets` takes them.
    """
    rising = np.maximum.accumulate(bounds.ravel()).clip(0, length)
    begins, ends = np.append(0, rising), np.append(rising, length)
    filled = np.zeros(len(begins), np.int64)
    filled[1::2] = phones
    begins, filled = begins[begins < ends], filled[begins < ends]
    first = np.append(True, (filled[1:] != 0) | (filled[:-1] != 0))
    return filled[first], np.append(begins[first], length)


def _read_samples(path: Path, sample_rate: int) -> NDArray[np.float32]:
    """Read a recording: (samples,) at this rate, in units of 16-bit audio.

    Raises:
        UserError: it is damaged, or no audio of one channel and that rate at least.
    """
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(path) as file:
            _check_format(path, file, sample_rate)
            samples = _read_all(file)
            rate = file.samplerate
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(f"{path}: expected undamaged audio, WAV or FLAC: {error}") from None
    if rate > sample_rate:
        samples = soxr.resample(samples, rate, sample_rate, quality="HQ")
    return samples * np.float32(_FULL_SCALE)


def _check_format(path: Path, file: Any, sample_rate: int) -> None:
    if file.channels != 1:
        raise UserError(
            f"{path}: {file.channels} channels; expected one, as of "
            f"ffmpeg -i {path.name} -ac 1 mono{path.suffix}"
        )
    if file.samplerate < sample_rate:
        raise UserError(
            f"{path}: {file.samplerate} Hz; expected {sample_rate} Hz or more; "
            f"--sample-rate {file.samplerate} would take it"
        )


def _read_all(file: Any) -> NDArray[np.float32]:
    """Read all samples of a soundfile.SoundFile.

    Raises:
        OSError: it is a truncated WAV.
        soundfile.SoundFileError: it is damaged, or a truncated FLAC.
    """
    blocks = [np.zeros(0, np.float32)]
    while len(block := file.read(_BLOCK, dtype="float32")):
        blocks.append(block)
    samples = np.concatenate(blocks)
    # libsndfile takes a truncated WAV for a shorter one, and says so in its log only.
    cut_off = _CUT_OFF.search(file.extra_info)
    if cut_off and int(cut_off[1]) < _UNKNOWN_LENGTH:
        raise OSError(f"it is truncated: {len(samples)} samples")
    return samples
