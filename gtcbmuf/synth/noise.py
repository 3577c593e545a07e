"""What a microphone does to an utterance: spectral tilt, additive noise, gain."""

import numpy as np
from numpy.typing import NDArray

KINDS = ("white", "pink", "brown", "babble")
_EXPONENT = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # amplitude ~ frequency ** -exponent
_LOWEST = 1 / 400  # of the sample rate: below it nearly all of brown noise would go unheard
_VOICES = 6


def draw(kind: str, speech: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return noise of the length of `speech`, (samples,), at any level.

    "babble" is six voices that speak at once: `speech` itself, backwards, from random places and
    at random speeds. The others are Gaussian with power constant in frequency ("white") or falling
    with it ("pink") or its square ("brown").
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
    spectrum[1:][frequency < _LOWEST] = 0
    noise: NDArray[np.float32] = np.fft.irfft(spectrum, length)[:count].astype(np.float32)
    return noise


def mix(
    speech: NDArray[np.float32], noise: NDArray[np.float32], snr_db: float
) -> NDArray[np.float32]:
    """Return speech plus noise, the noise scaled to `snr_db` below the power of the speech.

    Both are (samples,) and neither is silence; powers are means over the whole utterance.
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
    """Return `speech`, (samples,), as heard through a random channel.

    The spectrum is tilted by a filter 1 + c / z with |c| <= `tilt`, noise of a random kind is added
    at a ratio within `snr_db`, and all of it amplified within `gain_db`.
    """
    tilted = speech.copy()
    tilted[1:] += np.float32(rng.uniform(-tilt, tilt)) * speech[:-1]
    noise = draw(KINDS[rng.integers(len(KINDS))], tilted, rng)
    noisy = mix(tilted, noise, rng.uniform(*snr_db))
    return noisy * np.float32(10 ** (rng.uniform(*gain_db) / 20))
