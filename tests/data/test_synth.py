"""Synthetic corpora: text, speakers, noise, labels and reproducible bits."""

import importlib.util
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import SPLITS
from gtcbmuf.data.synth import espeak, noise, speakers, text
from gtcbmuf.data.synth.presets import SynthPreset
from gtcbmuf.data.synth.synthesis import synthesise

MINI = SynthPreset(hours=16 / 3600, speakers=(2, 1, 1), shares=(0.5, 0.25, 0.25))


@pytest.fixture(scope="session")
def extra() -> None:
    """Skip where the extra `synth` is not installed."""
    pytest.importorskip("espeakng_loader")
    pytest.importorskip("kaldi_native_fbank")


@pytest.fixture(scope="session")
def corpus_path(extra: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synth") / "one.h5"
    synthesise(MINI, path, processes=1)
    return path


# Text


def test_text_is_deterministic_and_rarely_repeats() -> None:
    first, again = (np.random.default_rng(3) for _ in range(2))
    sentences = [text.draw_sentence(first) for _ in range(5000)]
    assert sentences[:100] == [text.draw_sentence(again) for _ in range(100)]
    assert len(set(sentences)) > 4990
    words = {w.strip(",.?!").lower() for s in sentences for w in s.split()}
    assert len(words) > 1000


def test_every_template_is_a_sentence_of_five_to_nine_words() -> None:
    for template in text.TEMPLATES:
        assert 5 <= len(template.split()) <= 9, template
    rng = np.random.default_rng(0)
    for sentence in (text.draw_sentence(rng) for _ in range(2000)):
        assert sentence[0].isupper()
        assert sentence[-1] in ".?!"
        assert "{" not in sentence


def test_articles_agree() -> None:
    rng = np.random.default_rng(0)
    words = " ".join(text.draw_sentence(rng).lower() for _ in range(3000)).split()
    after = {article: {b[0] for a, b in pairwise(words) if a == article} for article in ("a", "an")}
    assert after["an"] <= set("aeiou")
    assert not after["a"] & set("aeiou")


# Speakers


def test_speakers_differ_cycle_through_the_accents_and_have_no_echo() -> None:
    sample = [
        speakers.draw_speaker(i, (140, 210), np.random.default_rng([5, i])) for i in range(16)
    ]
    assert [s.accent for s in sample] == 2 * list(speakers.ACCENTS)
    assert len({s.variant for s in sample}) == 16
    assert all(140 <= s.rate <= 210 for s in sample)
    assert not any("echo" in s.variant for s in sample)
    assert sample[3] == speakers.draw_speaker(3, (140, 210), np.random.default_rng([5, 3]))


# Noise


@pytest.mark.parametrize("kind", noise.KINDS)
@pytest.mark.parametrize("snr_db", [0.0, 12.5])
def test_mix_has_the_given_snr(kind: str, snr_db: float) -> None:
    rng = np.random.default_rng(2)
    speech = (rng.normal(0, 900, 30001) * np.sin(np.arange(30001) / 2000)).astype(np.float32)
    noise_part = noise.mix(speech, noise.draw_noise(kind, speech, rng), snr_db) - speech
    ratio = np.mean(speech.astype(float) ** 2) / np.mean(noise_part.astype(float) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.01)


@pytest.mark.parametrize(("kind", "slope"), [("white", 0), ("pink", -1), ("brown", -2)])
def test_the_power_of_noise_falls_with_frequency(kind: str, slope: float) -> None:
    rng = np.random.default_rng(0)
    power = np.abs(np.fft.rfft(noise.draw_noise(kind, np.zeros(1 << 16, np.float32), rng))) ** 2
    octaves = [np.log2(power[1 << k : 2 << k].mean()) for k in range(9, 15)]
    assert np.polyfit(range(len(octaves)), octaves, 1)[0] == pytest.approx(slope, abs=0.1)


def test_degrade_applies_the_gain() -> None:
    rng = np.random.default_rng(0)
    speech = rng.normal(0, 1000, 20000).astype(np.float32)
    loud = noise.degrade(speech, snr_db=(60, 60), gain_db=(6, 6), tilt=0, rng=rng)
    assert loud.dtype == np.float32
    assert 20 * np.log10(loud.std() / speech.std()) == pytest.approx(6, abs=0.01)


# Labels


def test_the_inventory_has_49_phones() -> None:
    assert len(set(espeak.PHONES)) == len(espeak.PHONES) == 49


def test_unknown_mnemonics_are_refused() -> None:
    assert espeak.find_phone("'aI") == "ay"
    assert espeak.find_phone(",i@3") == "ihr"
    assert espeak.find_phone("=t#") == "dx"
    assert espeak.find_phone("_:") is None
    for unknown in ("X", "'y:", "", "sil"):
        with pytest.raises(ValueError, match="unknown espeak-ng mnemonic"):
            espeak.find_phone(unknown)


def speech(*runs: tuple[int, int]) -> np.ndarray:
    """Repeat each value: `count` times for each pair (value, count)."""
    return np.repeat(*np.array(runs).T).astype(np.int16)


def test_align_extends_stops_by_their_closure_and_inserts_sil() -> None:
    samples = speech(
        (1, 2000), (0, 1000), (1, 500), (0, 5000), (1, 800), (0, 600), (1, 900), (0, 70)
    )
    events = [(0, "'a"), (3000, "t"), (8500, "k"), (9900, "s"), (10800, "_:"), (10870, "_")]
    trimmed, segments = espeak.align(samples, events)
    closure = 120 * 22050 // 1000
    assert len(trimmed) == 10800
    assert segments == [
        ("ae", 0, 2000),
        ("t", 2000, 3500),  # with the closure of the stop
        ("sil", 3500, 8500 - closure),  # without the closure of the next stop, at most 120 ms
        ("k", 8500 - closure, 9900),  # with the 600 samples of silence after it, under 30 ms
        ("s", 9900, 10800),
    ]


def test_align_keeps_the_silence_of_a_glottal_stop() -> None:
    samples = speech((1, 1000), (0, 1300), (1, 900))
    _, segments = espeak.align(samples, [(0, "V"), (1850, "?"), (2300, "n-")])
    assert segments == [("ah", 0, 1000), ("t", 1000, 2300), ("n", 2300, 3200)]


def test_align_gives_a_late_liquid_the_end_of_its_vowel() -> None:
    _, segments = espeak.align(speech((1, 4000)), [(0, "O:"), (2000, "l"), (2000, "z")])
    assert segments == [("ao", 0, 1200), ("l", 1200, 2000), ("z", 2000, 4000)]
    _, segments = espeak.align(speech((1, 4000)), [(0, "O:"), (2000, "l"), (2900, "I")])
    assert segments == [("ao", 0, 2000), ("l", 2000, 2900), ("ih", 2900, 4000)]


def test_align_refuses_silence_and_unknown_phones() -> None:
    with pytest.raises(ValueError, match="only silence"):
        espeak.align(np.zeros(100, np.int16), [(0, "a")])
    with pytest.raises(ValueError, match="'q'"):
        espeak.align(np.ones(100, np.int16), [(0, "a"), (50, "q")])


def test_spoken_phones_fill_the_audio(extra: None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    speaker = speakers.draw_speaker(0, (175, 175), rng)
    speakers.link_data(speaker, tmp_path)
    speak = espeak.Synthesiser(tmp_path, speaker.voice, rate=speaker.rate, seed=1)
    samples, segments = speak("Some big cats, black dogs.")
    names = "s ah m b ih g k ae t s sil b l ae k d aa g z"
    assert [s.phone for s in segments] == names.split()
    for sentence in [text.draw_sentence(rng) for _ in range(100)]:
        samples, segments = speak(sentence)
        assert segments[0].begin == 0
        assert segments[-1].end == len(samples)
        for left, right in pairwise(segments):
            assert left.begin < left.end == right.begin
        assert {s.phone for s in segments} <= set(espeak.PHONES)
        for s in segments:
            if s.phone == "sil":
                assert s.end - s.begin > 0.03 * espeak.SAMPLE_RATE
                assert not samples[s.begin : s.end].any()


# The corpus


def test_any_number_of_processes_gives_the_same_bytes(corpus_path: Path) -> None:
    other = corpus_path.with_name("two.h5")
    synthesise(MINI, other, processes=2)
    assert other.read_bytes() == corpus_path.read_bytes()


def test_another_seed_gives_another_corpus(corpus_path: Path) -> None:
    other = corpus_path.with_name("other.h5")
    synthesise(MINI, other, seed=1, processes=2)
    assert other.read_bytes() != corpus_path.read_bytes()


def test_the_content_of_the_corpus(corpus_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    all_speakers: set[str] = set()
    with h5py.File(corpus_path) as file:
        assert [p.decode() for p in file["phones"]] == list(espeak.PHONES)
        assert file["target_phone"][:].tolist() == [i // 3 for i in range(147)]
        assert file.attrs["snr_db_high"] == 20
        assert file.attrs["speakers_train"] == 2
        assert file.attrs["espeak_ng"].startswith(b"1.52")
        for split, count, seconds in zip(SPLITS, MINI.speakers, (8, 4, 4), strict=True):
            group = file[split]
            speaker_of = np.array([s.decode() for s in group["speakers"]])
            lengths = group["lengths"][:]
            assert len(set(speaker_of)) == count
            assert not all_speakers & set(speaker_of)
            all_speakers |= set(speaker_of)
            names = [n.decode() for n in group["names"]]
            assert len(set(names)) == len(names)
            assert all(n.startswith(f"{s}-") for n, s in zip(names, speaker_of, strict=True))
            assert seconds <= lengths.sum() * 220 / 22050 <= seconds + 5 * count
            assert group["targets"][:].max() < 147
            frames = group["features"][:].astype(float)
            for speaker in set(speaker_of):
                speaker_frames = frames[np.repeat(speaker_of, lengths) == speaker]
                np.testing.assert_allclose(speaker_frames.mean(axis=0), 0, atol=1e-3)
                np.testing.assert_allclose(speaker_frames.var(axis=0), 1, atol=1e-3)


def test_a_missing_extra_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'gtcbmuf\[synth\]'") as error_info:
        synthesise(MINI, tmp_path / "none.h5")
    assert "\n" not in str(error_info.value)


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"processes": 0}])
def test_numbers_out_of_range_are_refused(
    extra: None, tmp_path: Path, arguments: dict[str, int]
) -> None:
    with pytest.raises(UserError, match=f"{next(iter(arguments))} = .*: expected . or more"):
        synthesise(MINI, tmp_path / "none.h5", **arguments)


def test_an_error_in_a_process_reaches_the_caller(extra: None, tmp_path: Path) -> None:
    preset = replace(MINI, snr_db=(5.0, float("inf")))
    with pytest.raises(RuntimeError, match=r"(?s)speaker 0: .*OverflowError"):
        synthesise(preset, tmp_path / "none.h5", processes=2)
    assert not list(tmp_path.iterdir())
