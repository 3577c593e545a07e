"""Recordings: unusable ones are excluded, and headers may lack the number of bytes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.audio import RATE, Directory, make_directory, read_utterances, sf

from gtcbmuf.base.errors import UserError
from gtcbmuf.data import features
from gtcbmuf.data.importing.recordings import read_samples

INTACT = "expected an intact audio file: "


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return make_directory(tmp_path)


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(share * len(content))]


def claim_64_billion_samples(flac: bytes) -> bytes:
    return flac[:21] + bytes([flac[21] | 0x0F]) + flac[22:]


#: Suffix, and what happens to the content of the file.
DAMAGES: list[tuple[str, Callable[[bytes], bytes]]] = [
    *((".wav", cut(share)) for share in (0, 0.001, 0.1, 0.5, 0.999)),
    (".wav", lambda content: np.random.default_rng(0).bytes(9999)),
    (".wav", lambda content: b"Dear colleague,\n" * 99),
    (".wav", lambda content: content[:40]),
    *((".flac", cut(share)) for share in (0, 0.001, 0.5, 0.999)),
    (".flac", lambda content: content[:9000]),  # the first block is whole
    (".flac", claim_64_billion_samples),
]


def test_damaged_recordings_are_excluded(directory: Directory) -> None:
    for key in directory.recordings:
        directory.recordings[key] = np.tile(directory.recordings[key], 4)
    for damages in (DAMAGES[:8], DAMAGES[8:]):
        directory.write()
        paths = {}
        for number, (suffix, damage) in enumerate(damages):
            key = f"s{number:02}/a"
            directory.file(key).unlink()
            path = paths[key] = directory.file(key, suffix)
            sf.write(path, directory.recordings[key], RATE)
            path.write_bytes(damage(path.read_bytes()))
        reasons = {key.replace("/", "-"): f"{path}: {INTACT}" for key, path in paths.items()}
        directory.excludes(reasons)
        for path in paths.values():
            path.unlink()


def test_unusable_recordings_are_excluded(directory: Directory) -> None:
    directory.write()
    sf.write(directory.file("s02/a"), np.zeros((5000, 2), np.int16), RATE)
    sf.write(directory.file("s03/a"), np.zeros(5000, np.int16), 8000)
    directory.file("s04/a").unlink()
    directory.file("s04/a").symlink_to("nowhere")
    directory.file("s05/a", ".TextGrid").write_text("Dear colleague,\n")
    directory.excludes(
        {
            "s02-a": "s02/a.wav: 2 channels; expected one: run ffmpeg -i a.wav -ac 1 mono.wav",
            "s03-a": "a.wav: 8000 Hz; expected 16000 Hz or more, or --sample-rate 8000",
            "s04-a": INTACT,
            "s05-a": "s05/a.TextGrid: expected a TextGrid",
        }
    )
    directory.excludes({"s02-a": "", "s04-a": "", "s05-a": ""}, sample_rate=8000)


@pytest.mark.parametrize("most_bad", [0.05, 1.0])
@pytest.mark.parametrize("suffix", [".wav", ".TextGrid"])
def test_an_import_without_a_usable_recording_fails(
    directory: Directory, suffix: str, most_bad: float
) -> None:
    directory.write()
    for key in directory.recordings:
        directory.file(key, suffix).write_bytes(b"")
    amount = "all" if most_bad == 1 else r"more than 5 % \(--most-bad\) of"
    directory.fails(f"^{amount} 24 utterances are unusable .s..-.: .*expected a", most_bad=most_bad)


# Headers of pipes


def with_sizes(wav: bytes, riff: int | None, data: int) -> bytes:
    """Replace the sizes in a header of 44 bytes."""
    assert wav[36:40] == b"data"
    first = wav[4:8] if riff is None else riff.to_bytes(4, "little")
    return wav[:4] + first + wav[8:40] + data.to_bytes(4, "little") + wav[44:]


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (None, 0),
        (0, 0),
        (36, 0),
        (0xFFFFFFFF, 0),
        (None, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),  # ffmpeg
        (0x7FFFF024, 0x7FFFF000),  # sox
        (0, 0x80000000),
    ],
)
def test_a_wav_from_a_pipe_is_read_to_its_end(tmp_path: Path, riff: int | None, data: int) -> None:
    path = tmp_path / "a.wav"
    samples = np.random.default_rng(0).normal(0, 2000, 5000).astype(np.int16)
    sf.write(path, samples, RATE)
    path.write_bytes(with_sizes(path.read_bytes(), riff, data))
    np.testing.assert_array_equal(read_samples(path, RATE), samples)


def test_an_empty_wav_has_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, np.zeros(0, np.int16), RATE)
    header = path.read_bytes()[:44]
    for further in (b"", b"LIST\x04\0\0\0INFO", b"LIST\x04\0\0\0INFOid3 \x06\0\0\0ID3\x04\0\0"):
        path.write_bytes(header + further)
        assert len(read_samples(path, RATE)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e9])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    samples = np.zeros(5000, np.float32)
    samples[7] = value
    sf.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match="samples that are NaN, infinite or too large"):
        read_samples(tmp_path / "a.wav", RATE)


def test_a_wav_from_a_pipe_gives_the_same_corpus(directory: Directory) -> None:
    expected = directory.write().bytes()
    for number, key in enumerate(directory.recordings):
        path = directory.file(key)
        path.write_bytes(with_sizes(path.read_bytes(), None, 0xFFFFFFFF if number % 2 else 0))
    assert directory.bytes() == expected
    assert len(read_utterances(directory.out)) == 24


@pytest.mark.parametrize("rate", [22050, 32000, 44100, 48000])
@pytest.mark.parametrize("level", [0, 0.125])
def test_digital_silence_is_found_after_resampling(rate: int, level: float, tmp_path: Path) -> None:
    samples = np.random.default_rng(rate).normal(0, 0.1, 2 * rate).astype(np.float32)
    first, last = rate // 2, rate + 7  # of the silence
    samples[first : last + 1] = level
    sf.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    resampled = read_samples(tmp_path / "a.wav", 16000)
    silence = features.find_digital_silence(features.log_mel(resampled, 16000))
    begins = 160 * np.arange(len(silence))
    expected = (begins * rate >= first * 16000) & ((begins + 399) * rate <= last * 16000)
    assert silence.tolist() == expected.tolist()
    sound = np.concatenate([resampled[:8000], resampled[16100:]])
    assert 0.8 < np.std(sound) / 0.1 / 2**15 / np.sqrt(16000 / rate) < 1.2
