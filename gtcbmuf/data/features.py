"""Log-mel features of a waveform, their normalisation, and a target for every frame.

A frame is 25 ms of audio, and a new frame begins every 10 ms. Both are rounded down to whole
samples, as in Kaldi. There are only whole frames ("snip edges"), so every frame lies inside the
audio.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Features of a frame.
DIM = 40
#: States of a phone. Each is a third of the phone's duration.
STATES = 3
_FRAME_MS = 25
_SHIFT_MS = 10


def frame_shift(sample_rate: int) -> int:
    """Return the distance between the beginnings of two frames, in samples."""
    return sample_rate * _SHIFT_MS // 1000


def frame_centres(frames: int, sample_rate: int) -> NDArray[np.int64]:
    """Return the sample in the middle of each frame: (frames,), counted from the first sample."""
    middle = sample_rate * _FRAME_MS // 1000 // 2
    return np.arange(frames) * frame_shift(sample_rate) + middle


def log_mel(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Compute the logarithms of 40 mel-band energies with Kaldi's code and defaults, undithered.

    Args:
        samples: (samples,), in any unit. Another unit adds a constant, which `normalise` removes.
        sample_rate: in Hz.

    Returns:
        (frames, 40). Audio shorter than a frame gives no frames.
    """
    import kaldi_native_fbank as knf  # an optional dependency, which frame targets do not need

    options = knf.FbankOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.frame_length_ms = _FRAME_MS
    options.frame_opts.frame_shift_ms = _SHIFT_MS
    options.frame_opts.snip_edges = True
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = DIM
    fbank = knf.OnlineFbank(options)
    waveform = np.ascontiguousarray(samples).data  # passes three times as fast as the array
    fbank.accept_waveform(sample_rate, waveform)
    fbank.input_finished()
    frames = np.empty((fbank.num_frames_ready, DIM), np.float32)
    for i in range(len(frames)):
        frames[i] = fbank.get_frame(i)
    return frames


def normalise(utterances: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Normalise utterances to mean 0 and variance 1 in each dimension, over all their frames.

    Args:
        utterances: (frames, dim) each, of one speaker.

    Returns:
        The normalised utterances. A constant dimension becomes 0.

    Raises:
        ValueError: there is no frame.

    >>> first, second = np.array([[1, 5]], np.float32), np.array([[3, 5]], np.float32)
    >>> [utterance.tolist() for utterance in normalise([first, second])]
    [[[-1.0, 0.0]], [[1.0, 0.0]]]
    """
    frames = np.concatenate(utterances).astype(np.float64)
    if not len(frames):
        raise ValueError("normalise: no frames")
    mean = frames.mean(axis=0)
    deviation = np.maximum(frames.std(axis=0), 1e-5)
    return [((utterance - mean) / deviation).astype(np.float32) for utterance in utterances]


def frame_targets(
    phones: NDArray[np.int64], bounds: NDArray[np.int64], centres: NDArray[np.int64]
) -> NDArray[np.uint16]:
    """Compute the target of each frame, 3 * phone + state, from the phone at its centre.

    Args:
        phones: (n,) in order.
        bounds: (n + 1,) samples, never decreasing. Phone i extends from bounds[i] up to, but not
            including, bounds[i + 1].
        centres: (frames,) samples.

    Returns:
        (frames,).

    Raises:
        ValueError: a centre is outside all phones.

    >>> phones, bounds = np.array([4, 0]), np.array([0, 300, 600])
    >>> frame_targets(phones, bounds, np.array([50, 150, 250, 350])).tolist()
    [12, 13, 14, 0]
    """
    if len(centres) and not bounds[0] <= centres.min() <= centres.max() < bounds[-1]:
        raise ValueError(f"a frame's centre lies outside of samples {bounds[0]} to {bounds[-1]}")
    place = np.searchsorted(bounds, centres, side="right") - 1
    state = STATES * (centres - bounds[place]) // (bounds[place + 1] - bounds[place])
    return (STATES * phones[place] + state).astype(np.uint16)
