"""The channel of an utterance: spectral tilt, additive noise and gain."""

import numpy as np
from numpy.typing import NDArray

KINDS = ("white", "pink", "brown", "babble")
_EXPONENT = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # amplitude ~ frequency ** -exponent
# Share of the sample rate. Nearly all power of brown noise is at lower, inaudible frequencies.
_MIN_FREQUENCY = 1 / 400
_VOICES = 6


def draw_noise(
    kind: str, speech: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw noise with the length of an utterance. Its level is arbitrary.

    "babble" is a mix of six voices. Each voice is the reversed utterance, from a random start and
    at a random speed. The other kinds are Gaussian. Their power is constant over frequency
    ("white"), or inversely proportional to frequency ("pink") or to its square ("brown").

    Args:
        kind: kind of noise, one of KINDS.
        speech: waveform of the utterance, (samples,).
        rng: random stream.

    Returns:
        Noise, (samples,) float32.
    """
    count = len(speech)
    if kind == "babble":
        backwards = speech[::-1]
        babble = np.zeros(count, np.float32)
        for _ in range(_VOICES):
            time = rng.uniform(0, count) + rng.uniform(0.8, 1.25) * np.arange(count)
            babble += backwards[time.astype(np.int64) % count]
        return babble
    length = -(-count // 4096) * 4096  # small prime factors: the transform is fast
    frequency = np.arange(1, length // 2 + 1, dtype=np.float32) / length
    spectrum = np.zeros(length // 2 + 1, np.complex64)
    spectrum[1:] = rng.standard_normal(length, np.float32).view(np.complex64)
    spectrum[1:] /= frequency ** _EXPONENT[kind]
    spectrum[1:][frequency < _MIN_FREQUENCY] = 0
    noise: NDArray[np.float32] = np.fft.irfft(spectrum, length)[:count].astype(np.float32)
    return noise


def mix(
    speech: NDArray[np.float32], noise: NDArray[np.float32], snr_db: float
) -> NDArray[np.float32]:
    """Add noise to speech at a signal-to-noise ratio.

    Args:
        speech: waveform, (samples,). It must not be silent.
        noise: noise, (samples,). It must not be silent.
        snr_db: ratio of the mean powers over the whole utterance, in dB.

    Returns:
        Noisy speech, (samples,) float32.
    """
    ratio = np.mean(np.square(speech, dtype=np.float64)) / np.mean(
        np.square(noise, dtype=np.float64)
    )
    return speech + noise * np.float32(np.sqrt(ratio / 10 ** (snr_db / 10)))


def degrade(
    speech: NDArray[np.float32],
    *,
    snr_db: tuple[float, float],
    gain_db: tuple[float, float],
    tilt: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Pass speech through a random channel.

    Args:
        speech: waveform, (samples,). It must not be silent.
        snr_db: range of the signal-to-noise ratio in dB. The kind of the noise is random.
        gain_db: range of the gain in dB.
        tilt: largest |c| in the filter 1 + c / z, which tilts the spectrum.
        rng: random stream.

    Returns:
        Degraded speech, (samples,) float32.
    """
    tilted_speech = speech.copy()
    tilted_speech[1:] += np.float32(rng.uniform(-tilt, tilt)) * speech[:-1]
    noise = draw_noise(KINDS[rng.integers(len(KINDS))], tilted_speech, rng)
    noisy_speech = mix(tilted_speech, noise, rng.uniform(*snr_db))
    return noisy_speech * np.float32(10 ** (rng.uniform(*gain_db) / 20))
