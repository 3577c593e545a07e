"""Features against an independent NumPy log-mel, and targets against a slow search."""

import numpy as np
import pytest

from gtcbmuf.data import features

RATE = 22050


def kaldi_log_mel(samples: np.ndarray) -> np.ndarray:
    """Kaldi's log-mel after its documentation: 551-sample frames every 220 samples at 22,050 Hz."""
    length, shift, padded = 551, 220, 1024
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), length)[::shift]
    frames = frames - frames.mean(axis=1, keepdims=True)
    frames = np.hstack([frames[:, :1] * 0.03, frames[:, 1:] - 0.97 * frames[:, :-1]])
    frames *= np.hanning(length) ** 0.85
    power = np.abs(np.fft.rfft(frames, padded)) ** 2

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127 * np.log1p(np.asarray(hertz) / 700)

    edges = np.linspace(mel(20), mel(RATE / 2), 42)
    bins = mel(np.arange(padded // 2) * RATE / padded)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.maximum(0, np.minimum(rising, falling))
    return np.log(np.maximum(power[:, : padded // 2] @ weights.T, np.finfo(np.float32).eps))


def test_log_mel_equals_kaldis() -> None:
    pytest.importorskip("kaldi_native_fbank")
    rng = np.random.default_rng(0)
    sweep = np.sin(np.cumsum(np.linspace(0.01, 2.5, RATE))) * 3000
    samples = (sweep + rng.normal(0, 50, RATE)).astype(np.float32)
    result = features.log_mel(samples, RATE)
    assert result.dtype == np.float32
    assert result.shape == (1 + (RATE - 551) // 220, features.DIM)
    np.testing.assert_allclose(result, kaldi_log_mel(samples), atol=1e-3)


def test_log_mel_takes_a_strided_view_and_audio_of_any_length() -> None:
    pytest.importorskip("kaldi_native_fbank")
    samples = np.random.default_rng(0).normal(size=2 * 1500).astype(np.float32)
    whole = features.log_mel(samples[::2].copy(), RATE)
    np.testing.assert_array_equal(features.log_mel(samples[::2], RATE), whole)
    assert features.log_mel(samples[:550], RATE).shape == (0, features.DIM)
    assert features.log_mel(samples[:551], RATE).shape == (1, features.DIM)


def test_frame_centres_are_in_the_middle_of_the_windows() -> None:
    assert features.frame_centres(3, RATE).tolist() == [275, 495, 715]
    assert features.frame_centres(2, 16000).tolist() == [200, 360]


def test_normalise_gives_each_speaker_mean_0_and_variance_1() -> None:
    rng = np.random.default_rng(1)
    utterances = [rng.normal(7, 3, (n, 4)).astype(np.float32) for n in (50, 20, 80)]
    for u in utterances:
        u[:, 3] = 2.5  # a constant dimension
    result = features.normalise(utterances)
    frames = np.concatenate(result)
    assert [len(u) for u in result] == [50, 20, 80]
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(frames.var(axis=0), [1, 1, 1, 0], atol=1e-5)


def test_normalise_without_digital_silence_has_the_bits_of_the_formula() -> None:
    rng = np.random.default_rng(2)
    utterances = [rng.normal(7, 3, (n, 40)).astype(np.float32) for n in (50, 20)]
    frames = np.concatenate(utterances).astype(np.float64)
    for utterance, result in zip(utterances, features.normalise(utterances), strict=True):
        expected = (utterance - frames.mean(axis=0)) / frames.std(axis=0)
        np.testing.assert_array_equal(result, expected.astype(np.float32))


@pytest.mark.parametrize("silent", [1, 20, 2000])
def test_digital_silence_does_not_change_the_normalisation(silent: int) -> None:
    rng = np.random.default_rng(3)
    utterances = [rng.normal(7, 3, (n, 40)).astype(np.float32) for n in (50, 20)]
    floor = np.full((silent, 40), -15.942385, np.float32)
    edge = rng.normal(-9, 1, (2, 40)).astype(np.float32)  # the windows overlap both
    padded = [np.concatenate([floor, edge, u, edge, floor]) for u in utterances]
    expected = np.concatenate(features.normalise(utterances))
    *results, alone = features.normalise([*padded, floor])
    parts = [
        np.split(x, [silent, silent + 2, len(x) - silent - 2, len(x) - silent]) for x in results
    ]
    np.testing.assert_array_equal(
        np.concatenate([speech for _, _, speech, _, _ in parts]), expected
    )
    for before, first_edge, _, last_edge, after in parts:
        assert not np.concatenate([before, after, alone]).any()
        for edge in (first_edge, last_edge):
            np.testing.assert_allclose(edge, np.tile(expected.min(axis=0), (2, 1)), rtol=1e-6)


def test_digital_silence_alone_becomes_0() -> None:
    assert not features.normalise([np.full((7, 40), -15.942385, np.float32)])[0].any()


@pytest.mark.parametrize("level", [0, 5, -7])
def test_frames_of_constant_samples_are_digital_silence(level: int) -> None:
    pytest.importorskip("kaldi_native_fbank")
    samples = np.random.default_rng(0).integers(-1, 2, 16000).astype(np.float32)  # the quietest
    samples[4000:9000] = level
    starts = 160 * np.arange(98)
    result = features.find_digital_silence(features.log_mel(samples, 16000))
    assert result.tolist() == [start >= 4000 and start + 400 <= 9000 for start in starts]


def test_single_features_are_no_digital_silence() -> None:
    assert features.find_digital_silence(np.array([[-3], [2]], np.float32)).tolist() == [False] * 2


def test_normalise_refuses_a_speaker_without_frames() -> None:
    with pytest.raises(ValueError, match="no frames"):
        features.normalise([np.empty((0, 4), np.float32)])


@pytest.mark.parametrize("seed", range(5))
def test_frame_targets_against_a_slow_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 900, 60)  # some shorter than a frame's shift, some empty
    lengths[7] = 0
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    phones = rng.integers(0, 49, 60)
    centres = features.frame_centres(int((bounds[-1] - 551) // 220 + 1), RATE)

    def find_target(centre: int) -> int:
        for phone, begin, end in zip(phones, bounds, bounds[1:], strict=False):
            if begin <= centre < end:
                return int(3 * phone + int(3 * ((centre - begin) / (end - begin))))
        raise AssertionError

    result = features.frame_targets(phones, bounds, centres)
    assert result.dtype == np.uint16
    assert result.tolist() == [find_target(c) for c in centres]


def test_frame_targets_refuse_a_centre_outside_the_phones() -> None:
    bounds = np.array([0, 200])
    with pytest.raises(
        ValueError, match="centres of frames from 100 to 200; expected samples 0 to 199"
    ):
        features.frame_targets(np.array([3]), bounds, np.array([100, 200]))
