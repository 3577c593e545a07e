"""Log-mel features of a waveform, their normalisation, and the target of every frame.

A frame is 25 ms of audio, and a new frame starts every 10 ms. Both durations are rounded down to
whole samples, as in Kaldi. Every frame lies within the audio ("snip edges" in Kaldi).
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

#: Number of features per frame.
DIM = 40
#: Number of states per phone. Each state lasts for a third of the phone.
STATES = 3
#: Duration of a frame.
FRAME_MS = 25
_SHIFT_MS = 10


def frame_shift(sample_rate: int) -> int:
    """Return the number of samples from the start of a frame to the start of the next."""
    return sample_rate * _SHIFT_MS // 1000


def frame_shift_ms(sample_rate: int) -> float:
    """Return the time from the start of a frame to the start of the next, in ms."""
    return 1000 * frame_shift(sample_rate) / sample_rate


def target_phone(phones: int) -> list[int]:
    """Return the phone of each target, for a number of phones with `STATES` targets each."""
    return [target // STATES for target in range(STATES * phones)]


def frame_centres(frames: int, sample_rate: int) -> NDArray[np.int64]:
    """Return the index of the middle sample of each frame, (frames,) int64."""
    middle = sample_rate * FRAME_MS // 1000 // 2
    return np.arange(frames) * frame_shift(sample_rate) + middle


def log_mel(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Compute the logarithms of 40 mel-band energies per frame.

    Kaldi's code computes them, with Kaldi's defaults but without dither.

    Args:
        samples: waveform, (samples,), in any unit. A change of unit adds a constant to the
            features. `normalise` removes this constant.
        sample_rate: sample rate in Hz.

    Returns:
        Features, (frames, 40) float32. Audio shorter than a frame has no frames.
    """
    import kaldi_native_fbank as knf  # optional: frame targets do not need it

    options = knf.FbankOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.frame_length_ms = FRAME_MS
    options.frame_opts.frame_shift_ms = _SHIFT_MS
    options.frame_opts.snip_edges = True
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = DIM
    fbank = knf.OnlineFbank(options)
    waveform = np.ascontiguousarray(samples).data  # three times as fast as passing the array
    fbank.accept_waveform(sample_rate, waveform)
    fbank.input_finished()
    frames = np.empty((fbank.num_frames_ready, DIM), np.float32)
    for i in range(len(frames)):
        frames[i] = fbank.get_frame(i)
    return frames


def find_digital_silence(utterance: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find the frames of digital silence, whose samples are all equal, usually 0.

    Their mel-band energies are 0. The logarithm needs a floor above 0, which is the same in all
    bands. No other sound has the same energy in all bands.

    Args:
        utterance: log-mel features without normalisation, (frames, dim).

    Returns:
        Whether all features of the frame are the same negative number, (frames,) bool.

    >>> floor = np.log(np.finfo(np.float32).eps)
    >>> find_digital_silence(np.array([[2, 3], [floor, floor]], np.float32)).tolist()
    [False, True]
    """
    if utterance.shape[1] < 2:  # one feature always equals itself
        return np.zeros(len(utterance), np.bool_)
    first = utterance[:, :1]
    is_silent: NDArray[np.bool_] = ((utterance == first) & (first < 0)).all(axis=1)
    return is_silent


def _extend_silence(silence: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add the frames that overlap a frame of digital silence, (frames,) bool."""
    extended = silence.copy()
    for distance in range(1, -(-FRAME_MS // _SHIFT_MS)):
        extended[distance:] |= silence[:-distance]
        extended[:-distance] |= silence[distance:]
    return extended


def normalise(utterances: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Normalise the features of a speaker to mean 0 and variance 1 in each dimension.

    Mean and variance are those of all frames of all utterances, except digital silence and the
    frames that overlap it. The features of digital silence are an arbitrary floor, many deviations
    below all others. They become 0, the mean. Those of frames that overlap it are clipped to the
    range of the counted frames.

    Args:
        utterances: features of each utterance, (frames, dim).

    Returns:
        The normalised features of each utterance, float32. A constant dimension becomes 0.

    Raises:
        ValueError: the utterances have no frames.

    >>> first, second = np.array([[1, 5]], np.float32), np.array([[3, 5]], np.float32)
    >>> [utterance.tolist() for utterance in normalise([first, second])]
    [[[-1.0, 0.0]], [[1.0, 0.0]]]
    """
    if not sum(map(len, utterances)):
        raise ValueError("normalise: no frames; expected at least one")
    silences = [find_digital_silence(utterance) for utterance in utterances]
    overlaps = [_extend_silence(silence) for silence in silences]
    skipped = next((s for s in (overlaps, silences) if not all(map(np.all, s))), None)
    counted = utterances
    if skipped:
        counted = [
            u[~skips] if skips.any() else u for u, skips in zip(utterances, skipped, strict=True)
        ]
    frames, dim = sum(map(len, counted)), utterances[0].shape[1]
    mean = _add_up(_parts(counted), dim) / frames
    variance = _add_up(((part - mean) ** 2 for part in _parts(counted)), dim) / frames
    deviation = np.maximum(np.sqrt(variance), 1e-5)
    lowest = (np.min([u.min(axis=0) for u in counted if len(u)], axis=0) - mean) / deviation
    highest = (np.max([u.max(axis=0) for u in counted if len(u)], axis=0) - mean) / deviation
    normalised_utterances = []
    for utterance, silence, overlap in zip(utterances, silences, overlaps, strict=True):
        normalised = ((utterance - mean) / deviation).astype(np.float32)
        normalised[overlap] = normalised[overlap].clip(lowest, highest)
        normalised[silence] = 0
        normalised_utterances.append(normalised)
    return normalised_utterances


def _parts(utterances: Sequence[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Yield the frames in parts that need little memory in double precision."""
    for utterance in utterances:
        for first in range(0, len(utterance), 4096):
            yield utterance[first : first + 4096]


def _add_up(parts: Iterable[NDArray[np.floating]], dim: int) -> NDArray[np.float64]:
    """Add up all frames in their order, (dim,) float64."""
    total = np.zeros(dim)
    for part in parts:
        total = np.add.reduce(np.vstack([total, part]), axis=0)
    return total


def frame_targets(
    phones: NDArray[np.int64], bounds: NDArray[np.int64], centres: NDArray[np.int64]
) -> NDArray[np.uint16]:
    """Compute the target of each frame, 3 * phone + state, from the phone at the frame's centre.

    Args:
        phones: indices of the phones in order, (n,).
        bounds: first sample of each phone, and the sample after the last phone, (n + 1,). Phone i
            consists of the samples bounds[i] to bounds[i + 1] - 1. It may be empty.
        centres: index of the middle sample of each frame, (frames,).

    Returns:
        Targets, (frames,) uint16.

    Raises:
        ValueError: a centre lies outside all phones.

    >>> phones, bounds = np.array([4, 0]), np.array([0, 300, 600])
    >>> frame_targets(phones, bounds, np.array([50, 150, 250, 350])).tolist()
    [12, 13, 14, 0]
    """
    if len(centres) and not bounds[0] <= centres.min() <= centres.max() < bounds[-1]:
        raise ValueError(
            f"centres of frames from {centres.min()} to {centres.max()}; expected samples "
            f"{bounds[0]} to {bounds[-1] - 1}"
        )
    index = np.searchsorted(bounds, centres, side="right") - 1
    state = STATES * (centres - bounds[index]) // (bounds[index + 1] - bounds[index])
    return (STATES * phones[index] + state).astype(np.uint16)
