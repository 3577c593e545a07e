"""Import of recordings and alignments, with speech and exact phones from espeak-ng."""

import codecs
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.launch import gtcbmuf

from gtcbmuf.acoustic.phone_loop import collapse
from gtcbmuf.base.errors import UserError
from gtcbmuf.data import features
from gtcbmuf.data.corpus import SILENCE, open_corpus

sf = pytest.importorskip("soundfile")
pytest.importorskip("soxr")
pytest.importorskip("praatio")
pytest.importorskip("kaldi_native_fbank")

from gtcbmuf.data.importing.audio import import_audio  # noqa: E402
from gtcbmuf.data.importing.phone_alignments import fill_silence  # noqa: E402
from gtcbmuf.data.importing.textgrid import read_intervals, read_tiers  # noqa: E402

RATE = 16000
Interval = tuple[float, float, str]


# Files of aligners


def long_textgrid(tiers: dict[str, list[Interval]]) -> str:
    end = max(intervals[-1][1] for intervals in tiers.values())
    lines = [
        'File type = "ooTextFile"\nObject class = "TextGrid"\n',
        f"xmin = 0 \nxmax = {end!r} \ntiers? <exists> \nsize = {len(tiers)} \nitem []: ",
    ]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        lines.append(f'    item [{number}]:\n        class = "IntervalTier" ')
        lines.append(f'        name = "{name}" \n        xmin = 0 \n        xmax = {end!r} ')
        lines.append(f"        intervals: size = {len(intervals)} ")
        for i, (a, b, label) in enumerate(intervals, 1):
            lines.append(f"        intervals [{i}]:\n            xmin = {a!r} ")
            lines.append(f'            xmax = {b!r} \n            text = "{label}" ')
    return "\n".join(lines) + "\n"


def short_textgrid(tiers: dict[str, list[Interval]]) -> str:
    end = max(intervals[-1][1] for intervals in tiers.values())
    lines = [f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n{end!r}\n<exists>']
    lines.append(str(len(tiers)))
    for name, intervals in tiers.items():
        lines.append(f'"IntervalTier"\n"{name}"\n0\n{end!r}\n{len(intervals)}')
        lines += [f'{a!r}\n{b!r}\n"{label}"' for a, b, label in intervals]
    return "\n".join(lines) + "\n"


def ctm(alignments: dict[str, list[Interval]], names: dict[str, str] | None = None) -> str:
    lines = [";; comment\n"]
    for key, intervals in alignments.items():
        name = (names or {}).get(key, key.replace("/", "-"))
        lines += [f"{name} 1 {a!r} {b - a!r} {label or '<eps>'}\n" for a, b, label in intervals]
    return "".join(lines)


@dataclass
class Directory:
    """Recordings and alignments, by the path of the file without its suffix."""

    path: Path
    recordings: dict[str, np.ndarray]
    alignments: dict[str, list[Interval]]
    rate: int = RATE

    @property
    def audio(self) -> Path:
        return self.path / "audio"

    @property
    def out(self) -> Path:
        return self.path / "out" / "corpus.h5"

    @property
    def log(self) -> Path:
        return Path(f"{self.out}.log")

    def write(self, suffix: str = ".wav") -> "Directory":
        """Write the recordings, with long TextGrids beside them."""
        for key, samples in self.recordings.items():
            path = self.file(key, suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = {"subtype": "FLOAT"} if samples.dtype == np.float32 else {}
            sf.write(path, samples, self.rate, format=suffix[1:].upper(), **kind)
        for key in self.alignments:
            self.write_textgrid(key)
        return self

    def file(self, key: str, suffix: str = ".wav") -> Path:
        return self.audio / f"{key}{suffix}"

    def write_textgrid(self, key: str, tier: str = "phones") -> None:
        path = self.file(key, ".TextGrid")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(long_textgrid(self.tiers(key, tier)))

    def tiers(self, key: str, tier: str = "phones") -> dict[str, list[Interval]]:
        intervals = self.alignments[key]
        return {"words": [(0, intervals[-1][1], "hello")], tier: intervals}

    def make(self, **options: object) -> str:
        return import_audio(self.audio, self.out, **options)  # type: ignore[arg-type]

    def bytes(self, **options: object) -> bytes:
        self.make(**options)
        return self.out.read_bytes()

    def fails(self, match: str, **options: object) -> None:
        """Assert that the import fails with one line that matches, and leaves no file."""
        with pytest.raises(UserError, match=match) as error_info:
            self.make(**options)
        assert "\n" not in str(error_info.value)
        assert not self.out.parent.exists() or not list(self.out.parent.iterdir())

    def excludes(self, reasons: dict[str, str], **options: object) -> None:
        """Assert that the import excludes these utterances for these reasons, and no others."""
        self.make(most_bad=0.5, **options)
        head, *log = self.log.read_text().splitlines()
        assert head.startswith(f"{len(reasons)} of ")
        reasons_in_log = dict(line.split(": ", 1) for line in log)
        assert set(reasons_in_log) == set(reasons)
        for name, reason in reasons.items():
            assert reason in reasons_in_log[name]
        names = {key.replace("/", "-") for key in self.recordings}
        assert set(read_utterances(self.out)) == names - set(reasons)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    stream = np.random.default_rng(0)
    keys = [f"s{speaker:02}/{part}" for speaker in range(12) for part in "ab"]
    recordings, alignments = {}, {}
    for key in keys:
        times = np.cumsum(stream.integers(20, 80, 6)) / 1000
        labels = ["", *stream.choice(["aa", "b", "ɕ", "tʰ"], 4), ""]
        bounds = [0.0, *times.tolist()]
        alignments[key] = [(a, b, str(x)) for (a, b), x in zip(pairwise(bounds), labels)]  # noqa: B905
        recordings[key] = stream.normal(0, 2000, round(times[-1] * RATE)).astype(np.int16)
    return Directory(tmp_path, recordings, alignments)


# Content of corpora


@dataclass
class Stored:
    """An utterance of a corpus."""

    speaker: str
    features: np.ndarray
    targets: np.ndarray


def read_utterances(path: Path) -> dict[str, Stored]:
    corpus = open_corpus(path)
    utterances = {}
    for split in (corpus.train, corpus.valid, corpus.test):
        begins = [0, *split.ends.tolist()]
        for name, speaker, frames in zip(
            split.names, split.speakers, map(slice, begins, begins[1:]), strict=True
        ):
            utterances[name] = Stored(speaker, split.features[frames], split.targets[frames])
    return utterances


def states_of(
    intervals: Iterable[tuple[int, int, str]], phones: Sequence[str], count: int, rate: int
) -> list[int]:
    """Compute the targets from intervals in samples, by a search for the centre of each frame."""
    targets = []
    for frame in range(count):
        centre = frame * (rate // 100) + rate * 25 // 1000 // 2
        ((a, b, label),) = ((a, b, x) for a, b, x in intervals if a <= centre < b)
        targets.append(3 * phones.index(label) + int(3 * (centre - a) / (b - a)))
    return targets


# Speech of espeak-ng, with TextGrids like those of the Montreal Forced Aligner


SPEAK = """
import pickle, sys, tempfile
from pathlib import Path
import numpy as np
from gtcbmuf.data.synth import espeak, speakers, text
number = int(sys.argv[1])
rng = np.random.default_rng(number)
speaker = speakers.draw_speaker(number, (180, 190), rng)
with tempfile.TemporaryDirectory() as data:
    speakers.link_data(speaker, Path(data))
    speak = espeak.Synthesiser(Path(data), speaker.voice, rate=speaker.rate, seed=number)
    sentences = ["Some big cats, black dogs.", *(text.draw_sentence(rng) for _ in range(2))]
    utterances = [speak(sentence) for sentence in sentences]
sys.stdout.buffer.write(pickle.dumps([(x, [tuple(s) for s in y]) for x, y in utterances]))
"""
SPEECH_RATE = 22050
#: Samples of an utterance, and its phones, each with the first sample and the one after the last.
Speech = tuple[np.ndarray, list[tuple[str, int, int]]]


@pytest.fixture(scope="session")
def speech() -> dict[str, Speech]:
    """Three utterances of each of three speakers, each spoken in a fresh process."""
    pytest.importorskip("espeakng_loader")
    utterances = {}
    for number in range(3):
        child = subprocess.run(
            [sys.executable, "-c", SPEAK, str(number)], capture_output=True, check=True
        )
        for i, utterance in enumerate(pickle.loads(child.stdout)):
            utterances[f"spk{number}/{i}"] = utterance
    return utterances


@pytest.fixture
def aligned_speech(speech: dict[str, Speech], tmp_path: Path) -> Directory:
    """The speech, with TextGrids from praatio. The Montreal Forced Aligner uses praatio, too."""
    from praatio.data_classes.interval_tier import IntervalTier
    from praatio.data_classes.textgrid import Textgrid

    directory = Directory(tmp_path, {k: x for k, (x, _) in speech.items()}, {}, SPEECH_RATE)
    directory.write()
    for key, (samples, segments) in speech.items():
        end = len(samples) / SPEECH_RATE
        intervals = [
            (begin / SPEECH_RATE, end / SPEECH_RATE, phone)
            for phone, begin, end in segments
            if phone != SILENCE
        ]
        grid = Textgrid(0, end)
        grid.addTier(IntervalTier("words", [(0, end, 'some "words"')], 0, end))
        grid.addTier(IntervalTier("phones", intervals, 0, end))
        grid.save(
            str(directory.file(key, ".TextGrid")),
            format="short_textgrid" if key.endswith("0") else "long_textgrid",
            includeBlankSpaces=True,
        )
    return directory


def test_imported_speech_equals_synthesised_speech(
    aligned_speech: Directory, speech: dict[str, Speech]
) -> None:
    aligned_speech.make(sample_rate=SPEECH_RATE, valid="0.3", test="0.3")
    corpus, utterances = open_corpus(aligned_speech.out), read_utterances(aligned_speech.out)
    spoken_phones = {phone for _, segments in speech.values() for phone, _, _ in segments}
    assert corpus.phones == (SILENCE, *sorted(spoken_phones - {SILENCE}))
    assert corpus.target_phone.tolist() == [i // 3 for i in range(3 * len(spoken_phones))]
    for speaker in range(3):
        keys = [f"spk{speaker}/{i}" for i in range(3)]
        matrices = features.normalise(
            [features.log_mel(speech[k][0].astype(np.float32), SPEECH_RATE) for k in keys]
        )
        for key, matrix in zip(keys, matrices, strict=True):
            samples, segments = speech[key]
            utterance = utterances[key.replace("/", "-")]
            assert utterance.speaker == f"spk{speaker}"
            np.testing.assert_array_equal(utterance.features, matrix.astype(np.float16))
            expected = features.frame_targets(
                np.array([corpus.phones.index(phone) for phone, _, _ in segments]),
                np.array([begin for _, begin, _ in segments] + [len(samples)]),
                features.frame_centres(len(matrix), SPEECH_RATE),
            )
            np.testing.assert_array_equal(utterance.targets, expected)


def test_targets_of_resampled_speech(aligned_speech: Directory, speech: dict[str, Speech]) -> None:
    aligned_speech.make(valid="0.3", test="0.3")
    phones, utterances = open_corpus(aligned_speech.out).phones, read_utterances(aligned_speech.out)
    for key, (samples, segments) in speech.items():
        intervals = [
            ((640 * a + 441) // 882, (640 * b + 441) // 882, phone) for phone, a, b in segments
        ]
        utterance = utterances[key.replace("/", "-")]
        assert len(utterance.targets) == (len(samples) * RATE // SPEECH_RATE - 400) // 160 + 1
        assert utterance.targets.tolist() == states_of(
            intervals, phones, len(utterance.targets), RATE
        )


def test_a_known_word(aligned_speech: Directory) -> None:
    aligned_speech.make(valid="0.3", test="0.3")
    corpus = open_corpus(aligned_speech.out)
    targets = read_utterances(aligned_speech.out)["spk0-0"].targets
    sequence, _ = collapse(targets, np.array([len(targets)]), corpus.target_phone)
    pronunciation = " ".join(corpus.phones[phone] for phone in sequence)
    assert pronunciation == "s ah m b ih g k ae t s sil b l ae k d aa g z"


# Audio


def test_flac_and_wav_give_the_same_corpus(directory: Directory) -> None:
    wav_corpus = directory.write().bytes()
    for key in directory.recordings:
        directory.file(key).unlink()
    assert directory.write(".FLAC").bytes() == wav_corpus
    assert len(read_utterances(directory.out)) == 24


def test_a_resampled_tone_stays_in_its_band(directory: Directory) -> None:
    def mel(hertz: float) -> float:
        return 1127 * np.log1p(hertz / 700)

    edges = np.linspace(mel(20), mel(RATE / 2), 42)
    tones = dict(zip(directory.recordings, np.linspace(150, 7500, 24), strict=True))
    directory.rate = 44100
    for key, hertz in tones.items():
        time = np.arange(len(directory.recordings[key]) * 44100 // RATE) / 44100
        directory.recordings[key] = (9000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)
    directory.write().make(normalise="none")
    for key, hertz in tones.items():
        # Band i is largest at its centre, edge i + 1.
        band = np.abs(edges[1:-1] - mel(hertz)).argmin()
        loudest = read_utterances(directory.out)[key.replace("/", "-")].features.argmax(axis=1)
        assert set(loudest.tolist()) <= {band - 1, band, band + 1}
        assert np.median(loudest) == band


def test_resampling_removes_a_tone_above_the_nyquist_frequency(directory: Directory) -> None:
    directory.rate = 32000
    for key, samples in directory.recordings.items():
        tone = np.sin(2 * np.pi * 11000 / 32000 * np.arange(2 * len(samples)))
        directory.recordings[key] = (tone * 9000).astype(np.int16)
    directory.write().make(normalise="none")
    resampled = read_utterances(directory.out)["s00-a"].features[5:-5].astype(float)
    directory.make(normalise="none", sample_rate=32000)
    original = read_utterances(directory.out)["s00-a"].features[5:-5].astype(float)
    # 90 dB. The onset and the end of the tone have a broad spectrum and are skipped.
    assert np.log(np.exp(original).sum() / np.exp(resampled).sum()) > np.log(1e9)


def test_features_do_not_depend_on_the_sample_format(directory: Directory) -> None:
    directory.write().make(normalise="none")
    integer_corpus = directory.out.read_bytes()
    expected = features.log_mel(directory.recordings["s03/b"].astype(np.float32), RATE)
    np.testing.assert_array_equal(
        read_utterances(directory.out)["s03-b"].features, expected.astype(np.float16)
    )
    for key, samples in directory.recordings.items():
        directory.recordings[key] = samples.astype(np.float32) / 32768
    assert directory.write().bytes(normalise="none") == integer_corpus


# Alignments


def test_all_forms_of_a_textgrid_give_the_same_corpus(directory: Directory) -> None:
    directory.write()
    expected = directory.bytes()
    assert len(read_utterances(directory.out)) == 24

    encodings = {
        "short": lambda text: short_textgrid(text).encode(),
        "no last newline": lambda text: short_textgrid(text).rstrip().encode(),
        "Windows": lambda text: long_textgrid(text).replace("\n", "\r\n").encode("utf-8-sig"),
        "UTF-16": lambda text: codecs.BOM_UTF16_BE + long_textgrid(text).encode("utf-16-be"),
        "short UTF-16": lambda text: short_textgrid(text).encode("utf-16"),
    }
    for name, encode in encodings.items():
        for key in directory.alignments:
            tiers = directory.tiers(key, "s00 - phones")
            directory.file(key, ".TextGrid").write_bytes(encode(tiers))
        assert directory.bytes() == expected, name


def without_attribute(path: Path) -> dict[str, object]:
    """Read a corpus without the attribute `alignments`."""
    with h5py.File(path) as file:
        data: dict[str, object] = {}
        file.visititems(
            lambda name, item: (
                data.update({name: item[()].tolist()}) if isinstance(item, h5py.Dataset) else None
            )
        )
        attributes = {k: v for k, v in file.attrs.items() if k != "alignments"}
    return {**data, **attributes}


@pytest.mark.parametrize("silences", [True, False])
def test_a_ctm_and_textgrids_give_the_same_corpus(directory: Directory, silences: bool) -> None:
    directory.write().make()
    expected = without_attribute(directory.out)
    grids = directory.path / "grids"
    for key in directory.alignments:
        (grids / key).parent.mkdir(parents=True, exist_ok=True)
        directory.file(key, ".TextGrid").rename(grids / f"{key}.textgrid")
    directory.make(alignments=grids)
    assert without_attribute(directory.out) == expected
    lines = {k: [x for x in v if silences or x[2]] for k, v in directory.alignments.items()}
    table = directory.path / "phones.ctm"
    table.write_text(ctm(lines).replace(" b\n", " b 0.75\n"))
    directory.make(alignments=table)
    assert without_attribute(directory.out) == expected


def test_a_ctm_may_name_files(directory: Directory) -> None:
    """The name of a file stands for its recording if no other recording has that name."""
    for mapping in (directory.recordings, directory.alignments):
        for key in list(mapping):
            speaker, part = key.split("/")
            mapping[f"{speaker}/{speaker}{part}"] = mapping.pop(key)
    directory.write()
    table = directory.path / "phones.ctm"
    table.write_text(ctm(directory.alignments))
    expected = directory.bytes(alignments=table)
    stems = {key: key.split("/")[1] for key in directory.alignments}
    table.write_text(ctm(directory.alignments, stems))
    assert directory.bytes(alignments=table) == expected
    twice = {"s00/s00a": directory.alignments["s00/s00a"]}
    table.write_text(ctm(directory.alignments, stems) + ctm(twice))
    directory.out.unlink()
    directory.log.unlink()
    directory.fails(
        "phones.ctm: s00a and s00-s00a are two alignments of s00-s00a", alignments=table
    )


def test_a_ctm_with_ambiguous_and_unknown_names(directory: Directory) -> None:
    directory.write()
    table = directory.path / "phones.ctm"
    names = {"s00/a": "a", "s01/a": "nobody"}
    table.write_text(ctm(directory.alignments, names))
    directory.excludes(
        {
            "a": "ambiguous name of s00-a, s01-a, s02-a",
            "nobody": "no audio",
            "s00-a": "no alignment",
            "s01-a": "no alignment",
        },
        alignments=table,
    )
    assert directory.log.read_text().startswith("4 of 26 utterances")


def phones_after(directory: Directory, labels: list[str]) -> list[str]:
    """Import recordings with these labels, and return the phones of the corpus."""
    bounds = np.linspace(0, 0.3, len(labels) + 1).round(3).tolist()
    for key in directory.alignments:
        directory.alignments[key] = [
            (a, b, x) for (a, b), x in zip(pairwise(bounds), labels, strict=True)
        ]
        directory.recordings[key] = np.zeros(4800, np.int16) + np.int16(5)
    directory.write().make()
    return list(open_corpus(directory.out).phones)


@pytest.mark.parametrize(
    ("labels", "phones"),
    [
        (["", "sil", "SIL", "sp", "<eps>", "spn", "b"], ["sil", "b", "spn"]),
        (["AH0", "AH1", "ER2", "T", "T3", "a1", "˥1"], ["sil", "AH", "ER", "T", "T3", "a1", "˥1"]),
        (["SIL", "AH0_B", "T_I", "T_E", "AH2_S", "SIL_S"], ["sil", "AH", "T"]),
        (["t_S", "t", "S", "AH0_B"], ["sil", "AH0_B", "S", "t", "t_S"]),
        (["ɕ", "tʰ", "aː", "ɐ"], ["sil", "aː", "tʰ", "ɐ", "ɕ"]),  # noqa: RUF001
        (["_B", "a_B"], ["sil", "_B", "a_B"]),
    ],
)
def test_names_of_phones(directory: Directory, labels: list[str], phones: list[str]) -> None:
    assert phones_after(directory, labels) == phones


def test_all_forms_of_silence_are_merged(directory: Directory) -> None:
    intervals = [
        (0.0, 0.1, "sil"),
        (0.1, 0.25, ""),
        (0.3, 0.4, "b"),
        (0.4, 0.4, "c"),
        (0.4, 0.5, "b"),
    ]
    for key in directory.recordings:
        directory.recordings[key] = np.arange(12000, dtype=np.int16)
        directory.alignments[key] = intervals
    directory.write().make()
    samples = [(0, 4800, "sil"), (4800, 6400, "b"), (6400, 8000, "b"), (8000, 12000, "sil")]
    targets = read_utterances(directory.out)["s05-a"].targets
    phones = open_corpus(directory.out).phones
    assert phones == ("sil", "b", "c")
    assert targets.tolist() == states_of(samples, phones, 73, RATE)


@given(
    gaps=st.lists(st.integers(0, 9), min_size=2, max_size=20),
    phones=st.lists(st.integers(0, 3), min_size=10, max_size=10),
    slack=st.integers(-5, 20),
)
def test_phones_fill_the_audio(gaps: list[int], phones: list[int], slack: int) -> None:
    times = np.cumsum(gaps[: len(gaps) // 2 * 2]).reshape(-1, 2)
    length = max(1, int(times[-1, 1]) + slack)
    filled, bounds = fill_silence(np.array(phones[: len(times)]), times, length)
    expected = np.zeros(length, int)
    for phone, (a, b) in zip(phones, times, strict=False):
        expected[a:b] = phone
    assert bounds[0] == 0
    assert bounds[-1] == length
    assert (np.diff(bounds) > 0).all()
    np.testing.assert_array_equal(np.repeat(filled, np.diff(bounds)), expected)
    assert not ((filled[1:] == 0) & (filled[:-1] == 0)).any()


# Names, speakers, splits


def test_speakers_are_folders(directory: Directory) -> None:
    for mapping in (directory.recordings, directory.alignments):
        mapping["x/y/c"] = mapping.pop("s00/a")
        mapping["alone.1"] = mapping.pop("s00/b")
    directory.write()
    directory.file("s01/a").rename(directory.file("s01/a", ".WAV"))
    directory.file("s01/._a").write_bytes(b"\0\5\x16\7")  # a hidden file of macOS
    assert "0 of 24 excluded" in directory.make()
    utterances = read_utterances(directory.out)
    assert utterances["x-y-c"].speaker == "x/y"
    assert utterances["alone.1"].speaker == "alone.1"
    assert utterances["s01-a"].speaker == "s01"
    assert len(utterances) == 24


def test_splits_by_lists(directory: Directory) -> None:
    directory.write()
    lists = directory.path / "valid", directory.path / "test"
    lists[0].write_text("s03\n")
    lists[1].write_text("s07-a\ns07-b\n")
    directory.make(valid=str(lists[0]), test=str(lists[1]))
    corpus = open_corpus(directory.out)
    assert corpus.valid.names == ("s03-a", "s03-b")
    assert corpus.test.names == ("s07-a", "s07-b")


def test_the_same_files_give_the_same_bytes(directory: Directory) -> None:
    """The order in which the files were written does not matter."""
    first = directory.write().bytes()
    directory.audio.rename(directory.path / "before")
    for mapping in (directory.recordings, directory.alignments):
        for key in reversed(list(mapping)):
            mapping[key] = mapping.pop(key)
    assert directory.write().bytes() == first


def test_attributes(directory: Directory) -> None:
    directory.write().make(sample_rate=11025, normalise="utterance", test="0.2")
    attributes = open_corpus(directory.out).attributes
    assert (
        attributes.items()
        >= {
            "source": "audio",
            "directory": str(directory.audio),
            "alignments": str(directory.audio),
            "sample_rate": 11025,
            "frame_shift_ms": 1000 * 110 / 11025,
            "valid": "0.1",
            "test": "0.2",
            "normalisation": "utterance",
        }.items()
    )
    assert attributes.keys() >= {"soundfile", "soxr", "kaldi_native_fbank"}
    assert open_corpus(directory.out).has_phones


# Excluded utterances


def add_faults(directory: Directory) -> dict[str, str]:
    """Give each of some utterances another fault. Return the reasons that the log must state."""
    samples = {k: x.astype(np.float32) / 32768 for k, x in directory.recordings.items()}
    samples["s00/a"][77] = np.nan
    samples["s01/a"][77] = -np.inf
    samples["s02/a"][77] = 1e30
    samples["s03/a"] = samples["s03/a"][:-900]
    samples["s04/a"] = samples["s04/a"][:399]
    directory.alignments["s04/a"] = [(0.0, 0.02, "b")]
    directory.alignments["s05/a"] = [(0.0, 0.13, "b"), (0.11, 0.2, "aa")]
    directory.alignments["s06/a"] = [(0.0, 0.1, "b"), (0.1, 0.09, "aa"), (0.1, 0.2, "b")]
    directory.recordings = samples
    directory.write()
    directory.file("s07/a", ".TextGrid").unlink()
    directory.file("s08/a").unlink()
    del directory.recordings["s08/a"]
    directory.write_textgrid("s09/a", tier="segments")
    two = dict.fromkeys(("A - phones", "B - phones"), directory.alignments["s10/a"])
    directory.file("s10/a", ".TextGrid").write_text(long_textgrid(two))
    points = long_textgrid({"phones": [(0.0, 0.1, "b")]}).replace("IntervalTier", "TextTier")
    points = points.replace("intervals", "points").replace("text =", "mark =")
    points = points.replace("    xmin = 0.0 \n            xmax", "    number")
    directory.file("s11/a", ".TextGrid").write_text(points)
    end, seconds = directory.alignments["s03/a"][-1][1], len(samples["s03/a"]) / RATE
    return {
        "s00-a": "NaN",
        "s01-a": "infinite",
        "s02-a": "large",
        "s03-a": f"the alignment ends at {end:.3f} s, but the audio at {seconds:.3f} s",
        "s04-a": "audio of 0.025 s, which is shorter than a frame",
        "s05-a": "interval from 0.110 to 0.200 s is out of order or overlaps",
        "s06-a": "interval from 0.100 to 0.090 s is out of order or overlaps",
        "s07-a": "no alignment",
        "s08-a": "no audio",
        "s09-a": "found 0 in the tiers: words, segments",
        "s10-a": "found 2 in the tiers: A - phones, B - phones",
        "s11-a": "found 0 in the tiers: phones",
    }


def test_unusable_utterances_are_excluded_and_named(directory: Directory) -> None:
    reasons = add_faults(directory)
    directory.fails(r"more than 5 % \(--most-bad\) of 24 utterances are unusable .*s07-a: no al")
    directory.excludes(reasons)


def test_an_alignment_may_end_a_little_late(directory: Directory) -> None:
    for key, samples in directory.recordings.items():
        directory.recordings[key] = samples[:-800]  # 50 ms
    directory.write().make()
    assert len(read_utterances(directory.out)) == 24
    key = "s00/a"
    sf.write(directory.file(key), directory.recordings[key][:-1], RATE)
    directory.excludes({"s00-a": "but the audio at"})


def test_alignments_in_another_layout(directory: Directory) -> None:
    directory.write()
    (directory.path / "grids" / "deeper").mkdir(parents=True)
    for key in directory.alignments:
        path = directory.file(key, ".TextGrid")
        path.rename(directory.path / "grids" / "deeper" / f"{path.parent.name}{path.name}")
    directory.fails(
        "of 48 utterances .*s00-a: no alignment.*expected the alignment of a/b.wav in a/b.TextGrid",
        alignments=directory.path / "grids",
    )


def test_tiny_gaps_and_overlaps_of_intervals_are_ignored(directory: Directory) -> None:
    expected = directory.write().bytes()
    for key, intervals in directory.alignments.items():
        directory.alignments[key] = [
            (max(0, a - 2e-5 * (i % 2)), b + 1e-5, x) for i, (a, b, x) in enumerate(intervals)
        ]
    assert directory.write().bytes() == expected


# Errors that end the import


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def test_damaged_audio(directory: Directory) -> None:
    directory.write()
    wav, flac = directory.file("s02/a"), directory.file("s02/a", ".flac")
    intact_wav = wav.read_bytes()
    for share in (0, 0.001, 0.1, 0.5, 0.999):
        wav.write_bytes(intact_wav)
        cut(wav, share)
        directory.fails("s02/a.wav: expected an intact WAV or FLAC file: ")
    wav.write_bytes(np.random.default_rng(0).bytes(9999))
    directory.fails("s02/a.wav: expected an intact WAV or FLAC file")
    wav.unlink()
    wav.symlink_to("nowhere")
    directory.fails("s02/a.wav: expected an intact WAV or FLAC file")
    wav.unlink()
    sf.write(flac, directory.recordings["s02/a"], RATE)
    intact_flac = flac.read_bytes()
    for share in (0, 0.001, 0.5, 0.999):
        flac.write_bytes(intact_flac)
        cut(flac, share)
        directory.fails("s02/a.flac: expected an intact WAV or FLAC file")
    sf.write(flac, directory.recordings["s02/a"][:4096], RATE)  # one block of FLAC
    flac.write_bytes(intact_flac[: len(flac.read_bytes())])
    directory.fails("s02/a.flac: expected an intact WAV or FLAC file")
    content = bytearray(intact_flac)
    content[21] |= 0x0F  # the header claims 64 billion samples
    flac.write_bytes(content)
    directory.fails("s02/a.flac: expected an intact WAV or FLAC file")
    flac.write_bytes(intact_flac)
    directory.make()


def test_a_wav_from_a_pipe(directory: Directory) -> None:
    """The header states the largest possible length, as from ffmpeg and sox."""
    expected = directory.write().bytes()
    for key in directory.recordings:
        data = bytearray(directory.file(key).read_bytes())
        assert data[36:40] == b"data"
        data[40:44] = b"\xff\xff\xff\xff"
        directory.file(key).write_bytes(data)
    assert directory.bytes() == expected


def test_channels_and_rates(directory: Directory) -> None:
    directory.write()
    path = directory.file("s02/a")
    sf.write(path, np.zeros((5000, 2), np.int16), RATE)
    directory.fails("s02/a.wav: 2 channels; expected one: run ffmpeg -i a.wav -ac 1 mono.wav")
    sf.write(path, np.zeros(5000, np.int16), 8000)
    directory.fails("a.wav: 8000 Hz; expected 16000 Hz or more, or --sample-rate 8000")
    directory.make(sample_rate=8000)


def test_two_recordings_of_one_name(directory: Directory) -> None:
    directory.write()
    samples = directory.recordings["s00/a"]
    for other in (directory.file("s00/a", ".flac"), directory.file("s00-a")):
        sf.write(other, samples, RATE)
        directory.fails(r"audio/s00.a.* and .*audio/s00.a.*two files of utterance s00-a")
        other.unlink()
    directory.file("s00/a", ".textgrid").write_text("")
    directory.fails("s00/a.TextGrid and .*s00/a.textgrid: two files of")


@pytest.mark.parametrize("name", [b"\xff.wav", b"a\nb.wav"])
def test_unprintable_names(directory: Directory, name: bytes) -> None:
    directory.write()
    sf.write(directory.file("x"), directory.recordings["s00/a"], RATE)
    os.rename(directory.file("x"), os.fsencode(directory.audio) + b"/" + name)
    directory.fails(r"audio/(\\udcff|a\\nb).wav': expected a printable file name in UTF-8")


@pytest.mark.parametrize("write", [long_textgrid, short_textgrid])
def test_a_truncated_textgrid(directory: Directory, write: object) -> None:
    path = directory.file("s02/a", ".TextGrid")
    expected = directory.write().bytes()
    assert callable(write)
    content = write(directory.tiers("s02/a")).rstrip().encode()
    for size in [*range(0, len(content), 29), *range(len(content) - 30, len(content))]:
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match=r"s02/a.TextGrid: expected a|s02-a: expected one int"):
            directory.make(most_bad=0.0)
    path.write_bytes(content)
    assert directory.bytes() == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Just text.\n" * 9,
        '"IntervalTier" "phones" 0 1 <exists>',
        '{"tiers": 5}',
        '{"tiers": [5], "xmin": 0}',
        "[" * 100_000,
        short_textgrid({"phones": [(0, 0.1, "b")]}).replace("0.1", "zero"),
        short_textgrid({"phones": [(0, 0.1, "b")]}).replace('0\n0.1\n"b"', 'no\n0.1\n"b"'),
        long_textgrid({"phones": [(0, 0.1, "b")]}).replace("text", "label"),
    ],
)
def test_an_invalid_textgrid(directory: Directory, text: str) -> None:
    directory.write()
    directory.file("s02/a", ".TextGrid").write_text(text)
    directory.fails("s02/a.TextGrid: expected a long or short TextGrid in UTF-8 or UTF-16: ")


@given(st.one_of(st.binary(), st.text().map(str.encode)), st.data())
def test_a_damaged_textgrid_gives_no_traceback(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, data: st.DataObject
) -> None:
    tiers = {"phones": [(0.0, 0.1, "b"), (0.1, 0.2, "c")]}
    whole = data.draw(st.sampled_from([long_textgrid(tiers), short_textgrid(tiers)])).encode()
    place = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.getbasetemp() / "noise.TextGrid"
    path.write_bytes(whole[:place] + noise + whole[place + len(noise) :])
    try:
        for tier in read_tiers(path):
            read_intervals(path, tier)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "phones.ctm: no phones; expected one line per phone"),
        (";; nothing\n\n", "phones.ctm: no phones; expected one line per phone"),
        ("s00-a 1 0.0 0.1\n", "line 1: 's00-a 1 0.0 0.1.n': expected UTTERANCE CHANNEL START"),
        (";;\ns00-a 1 zero 0.1 b\n", "line 2: .*expected UTTERANCE CHANNEL START DURATION PHONE"),
        (b"\x1f\x8b\xff\xfe", "phones.ctm: cannot be read as a CTM"),
    ],
)
def test_an_invalid_ctm(directory: Directory, text: str | bytes, match: str) -> None:
    table = directory.path / "phones.ctm"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    directory.write().fails(match, alignments=table)


@pytest.mark.parametrize(
    ("begin", "duration"), [("nan", "1"), ("0", "inf"), ("-1", "1"), ("0", "-1")]
)
def test_invalid_times_in_a_ctm(directory: Directory, begin: str, duration: str) -> None:
    table = directory.path / "phones.ctm"
    rest = {key: value for key, value in directory.alignments.items() if key != "s00/a"}
    table.write_text(ctm(rest) + f"s00-a 1 {begin} {duration} b\n")
    reason = "out of order" if "-1" in (begin, duration) else "NaN or infinite"
    directory.write().excludes({"s00-a": reason}, alignments=table)


def test_too_many_phones(directory: Directory) -> None:
    table = directory.path / "phones.ctm"
    words = "".join(f"s00-b 1 {i / 1e6} 0.000001 word{i:05}\n" for i in range(21845))
    rest = {key: value for key, value in directory.alignments.items() if key != "s00/b"}
    table.write_text(ctm({k: [(0.0, 0.1, "")] for k in rest}) + words)
    directory.write().fails(
        r"phones.ctm: 21846 phones \(sil, word00000, word00001, ...\); expected at most 21845",
        alignments=table,
    )
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    directory.make(alignments=table)
    assert open_corpus(directory.out).target_count == 65535


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"valid": "0.6", "test": "0.4"}, "leave no speaker for train: of 12 speakers, 12 are"),
        ({"normalise": "all"}, "--normalise all: expected speaker, utterance, none"),
        ({"most_bad": 2.0}, "--most-bad 2: expected a share"),
        ({"sample_rate": 0}, "--sample-rate 0: expected 8000 Hz or more"),
        ({"alignments": Path("nowhere")}, "nowhere: cannot be read as a directory: No such"),
    ],
)
def test_invalid_options(directory: Directory, options: dict[str, object], match: str) -> None:
    directory.write().fails(match, **options)


def test_invalid_directories(directory: Directory) -> None:
    directory.fails("audio: cannot be read as a directory: No such file")
    directory.audio.write_text("a file")
    directory.fails("audio: cannot be read as a directory: Not a directory")
    directory.audio.unlink()
    directory.audio.mkdir()
    directory.fails("audio: no recordings in this directory; expected .wav or .flac files")
    directory.alignments.clear()
    directory.write().fails("audio: no alignments in this directory; expected .TextGrid files")


def test_folders_behind_links(directory: Directory) -> None:
    directory.write()
    (directory.audio / "s00").rename(directory.path / "elsewhere")
    (directory.audio / "s00").symlink_to(directory.path / "elsewhere")
    directory.make()
    assert read_utterances(directory.out)["s00-a"].speaker == "s00"
    directory.out.unlink()
    directory.log.unlink()
    (directory.audio / "s12").symlink_to(directory.path / "elsewhere")
    directory.fails("audio/s(00|12): the same folder as .*audio/s(00|12)")
    (directory.audio / "s12").unlink()
    (directory.audio / "s12").symlink_to(directory.audio)
    directory.fails("audio/s12: the same folder as .*audio")


def test_a_missing_extra_is_refused(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.write()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    directory.fails(r"pip install 'gtcbmuf\[audio\]'")


def test_command_line(aligned_speech: Directory) -> None:
    """Import recordings, train a model on them, and score it."""
    out, run = aligned_speech.out, aligned_speech.path / "run"
    shares = ("--valid", "0.3", "--test", "0.3")
    process = gtcbmuf("corpus", "import-audio", aligned_speech.audio, "--out", out, *shares)
    assert "3 utterances in train, 3 utterances in valid, 3 utterances in test" in process.stdout
    settings = [f"corpus.path={out}", "train.epochs=1", "model.hidden=[8]"]
    gtcbmuf("train", "sgd", *(x for s in settings for x in ("--set", s)), "--out", run)
    process = gtcbmuf("score", run / "model.h5", out)
    assert "PER" in process.stdout, process.stderr

    process = gtcbmuf("corpus", "import-audio", aligned_speech.path / "none", "--out", out)
    assert process.returncode == 2
    assert process.stderr.startswith("gtcbmuf: ")
    assert process.stderr.count("\n") == 1
