"""The channel of an utterance: spectral tilt, additive noise and gain."""

import numpy as np
from numpy.typing import NDArray

KINDS = ("white", "pink", "brown", "babble")
_EXPONENT = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # amplitude ~ frequency ** -exponent
_MIN_FREQUENCY = 1 / 400  # of the sample rate: below it, nearly all brown noise is inaudible
_VOICES = 6


def draw_noise(
    kind: str, speech: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw noise as long as an utterance, at any level.

    "babble" is six voices at once: the utterance backwards, from random places and at random
    speeds. The others are Gaussian. Their power is constant in frequency ("white"), or falls with
    frequency ("pink") or its square ("brown").

    Args:
        kind: one of KINDS.
        speech: (samples,).
        rng: the random stream.

    Returns:
        (samples,).
    """
    count = len(speech)
    if kind == "babble":
        backwards = speech[::-1]
        babble = np.zeros(count, np.float32)
        for _ in range(_VOICES):
            time = rng.uniform(0, count) + rng.uniform(0.8, 1.25) * np.arange(count)
            babble += backwards[time.astype(np.int64) % count]
        return babble
    length = -(-count // 4096) * 4096  # a product of small primes: the transform is fast
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
        speech: (samples,), not silent.
        noise: (samples,), not silent.
        snr_db: ratio of the mean powers over the whole utterance.

    Returns:
        (samples,).
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
        speech: (samples,).
        snr_db: range of the signal-to-noise ratio, for noise of a random kind.
        gain_db: range of the gain.
        tilt: bound of |c| in the filter 1 + c / z, which tilts the spectrum.
        rng: the random stream.

    Returns:
        (samples,).
    """
    tilted_speech = speech.copy()
    tilted_speech[1:] += np.float32(rng.uniform(-tilt, tilt)) * speech[:-1]
    noise = draw_noise(KINDS[rng.integers(len(KINDS))], tilted_speech, rng)
    noisy_speech = mix(tilted_speech, noise, rng.uniform(*snr_db))
    return noisy_speech * np.float32(10 ** (rng.uniform(*gain_db) / 20))
