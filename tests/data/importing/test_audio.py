"""Import of recordings and alignments, with speech and exact phones from espeak-ng."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.audio import (
    RATE,
    Directory,
    ctm,
    long_textgrid,
    make_directory,
    read_utterances,
    sf,
    short_textgrid,
    states_of,
)
from support.launch import gtcbmuf

from gtcbmuf.acoustic.phone_loop import collapse
from gtcbmuf.base.errors import UserError
from gtcbmuf.data import features
from gtcbmuf.data.corpus import SILENCE, open_corpus
from gtcbmuf.data.importing.audio import import_audio


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return make_directory(tmp_path)


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
    """The speech, with long and short TextGrids."""
    directory = Directory(tmp_path, {k: x for k, (x, _) in speech.items()}, {}, SPEECH_RATE)
    directory.write()
    for key, (samples, segments) in speech.items():
        words = (0.0, len(samples) / SPEECH_RATE, 'some ""words""')
        phones = [
            (begin / SPEECH_RATE, end / SPEECH_RATE, "" if phone == SILENCE else phone)
            for phone, begin, end in segments
        ]
        write = short_textgrid if key.endswith("0") else long_textgrid
        directory.file(key, ".TextGrid").write_text(write({"words": [words], "phones": phones}))
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


@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".opus", ".aiff", ".caf", ".sph"])
def test_formats_of_libsndfile_are_read(directory: Directory, suffix: str) -> None:
    directory.write()
    key = "s00/a"
    formats = {".opus": {"format": "OGG", "subtype": "OPUS"}, ".sph": {"format": "NIST"}}
    samples = directory.recordings[key] / 32768
    sf.write(directory.file(key, suffix), samples, RATE, **formats.get(suffix, {}))
    directory.file(key).unlink()
    directory.make()
    # Lossy formats may add silence at the end.
    frames = 1 + (len(samples) - 400) // 160
    assert frames <= len(read_utterances(directory.out)["s00-a"].targets) <= frames + 15


def test_a_list_of_phones_fixes_the_targets(directory: Directory) -> None:
    listed = directory.write().path / "phones.txt"
    listed.write_text("aa\nb\n")
    directory.fails("--phones .*phones.txt: no phone tʰ, ɕ; expected all phones", phones=listed)
    listed.write_text("aa 1\nb 2\nɕ\ntʰ\nzz\nsil\n")
    directory.make(phones=listed)
    corpus = open_corpus(directory.out)
    assert corpus.phones == ("sil", "aa", "b", "tʰ", "zz", "ɕ")
    assert corpus.target_count == 18
    kaldi = [
        *("<eps>", "SIL", "SIL_B", "sp"),
        *(f"{x}_{p}" for x in ("aa", "b", "ɕ", "tʰ") for p in "BIES"),
    ]
    listed.write_text("".join(f"{phone} {i}\n" for i, phone in enumerate([*kaldi, "#0", "#1"])))
    directory.make(phones=listed)
    assert open_corpus(directory.out).phones == ("sil", "aa", "b", "tʰ", "ɕ")


def test_the_folder_may_have_any_name(directory: Directory) -> None:
    directory.write()
    expected = directory.make(), directory.out.read_bytes()
    folder = directory.audio.with_name(os.fsdecode(b"caf\xe9"))
    directory.audio.rename(folder)
    done = gtcbmuf("corpus", "import-audio", folder, "--out", directory.out)
    assert done.returncode == 0, done.stderr
    assert expected[0].splitlines()[0] == done.stdout.splitlines()[0]


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


# Names, speakers, splits


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


@pytest.mark.parametrize("name", ["audio/s00/a.wav", "speakers", "test", "phones"])
def test_no_input_is_replaced(directory: Directory, name: str) -> None:
    directory.write()
    lists = {option: directory.path / option for option in ("speakers", "test", "phones")}
    for path in lists.values():
        path.write_text("s00\n")
    before = (directory.path / name).read_bytes()
    options = {**{option: str(path) for option, path in lists.items()}, "phones": lists["phones"]}
    with pytest.raises(UserError, match=f"--out .*{name}: this file is read; expected another"):
        import_audio(directory.audio, directory.path / name, **options)  # type: ignore[arg-type]
    assert (directory.path / name).read_bytes() == before


def test_recordings_without_alignments_are_told_from_another_layout(directory: Directory) -> None:
    directory.write()
    for key in list(directory.alignments)[:4]:
        directory.file(key, ".TextGrid").unlink()
    directory.fails("s00-a: no alignment.*; all alignments have their recordings; raise --most-bad")


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


# Errors that end the import


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
        ({"alignments": Path("nowhere")}, "--alignments nowhere: no such file or directory"),
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
    directory.fails("audio: no recordings in this directory; expected files such as .wav or .flac")
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
