"""Log-mel features of a waveform, their normalisation per speaker, and a target for every frame.

A frame is 25 ms of audio and a new one begins every 10 ms, both rounded down to whole samples as
Kaldi does. Only whole frames count ("snip edges"), so that every frame lies inside the audio.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DIM = 40
STATES = 3  # per phone: a state is a third of the phone's duration
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
    """Return the logarithm of 40 mel-band energies per frame: (frames, 40).

    `samples` is (samples,), in any unit: another unit adds a constant, which `normalise` takes off
    again. Kaldi's own code does the work, with Kaldi's defaults but for the dither, which is 0.
    Audio shorter than a frame gives no frames.
    """
    import kaldi_native_fbank as knf  # late: the frames and targets above and below need it not

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
    """Return the utterances of one speaker with mean 0 and variance 1 in each dimension.

    Each utterance is (frames, dim); mean and variance are taken over all frames together. A
    dimension that never changes becomes 0. Without a frame in all: ValueError.
    """
    frames = np.concatenate(utterances).astype(np.float64)
    if not len(frames):
        raise ValueError("normalise: no frames")
    mean = frames.mean(axis=0)
    deviation = np.maximum(frames.std(axis=0), 1e-5)
    return [((u - mean) / deviation).astype(np.float32) for u in utterances]


def frame_targets(
    phones: NDArray[np.int64], bounds: NDArray[np.int64], centres: NDArray[np.int64]
) -> NDArray[np.uint16]:
    """Return 3 * phone + state for the frames with these centres: (frames,).

    `phones` is (n,), and phone i reaches from sample bounds[i] up to, not including, bounds[i + 1];
    `bounds` is (n + 1,) and never decreases. A centre outside of all phones: ValueError.
    """
    if len(centres) and not bounds[0] <= centres.min() <= centres.max() < bounds[-1]:
        raise ValueError(f"a frame's centre lies outside of samples {bounds[0]} to {bounds[-1]}")
    at = np.searchsorted(bounds, centres, side="right") - 1
    state = STATES * (centres - bounds[at]) // (bounds[at + 1] - bounds[at])
    return (STATES * phones[at] + state).astype(np.uint16)
