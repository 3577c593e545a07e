"""Reads and resamples recordings: audio files with one channel.

libsndfile reads the audio, and soxr resamples it.
"""

import os
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.features import FRAME_MS
from gtcbmuf.data.importing.names import NameTable
from gtcbmuf.data.importing.utterance_files import find_utterance_files
from gtcbmuf.data.importing.wav_streams import complete_wav

#: Suffixes of the formats that libsndfile reads and that have a header with the sample rate.
SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("wav", "wave", "rf64", "w64", "flac", "mp3", "ogg", "oga", "opus", "aif", "aiff", "aifc"),
        *("au", "snd", "caf", "sph", "nist"),
    )
)

_FULL_SCALE = 1 << 15  # the unit of 16-bit audio, as in Kaldi and in the synthetic corpus
_MAX_SAMPLE = 1e9  # the energies of larger samples overflow float32
#: Samples per read. Memory grows read by read, because a damaged header may state any length.
_READ_SAMPLES = 1 << 20
_UNKNOWN_LENGTH = 0x7FFFF000  # bytes: a header written to a pipe states at least this length
_TRUNCATION = re.compile(r"^data : (\d+) \(should be \d+\)", re.MULTILINE)


def find_recordings(directory: Path) -> NameTable[Path]:
    """Find the recordings in a directory tree, by the names of their utterances.

    Raises:
        UserError: there are none, or `find_utterance_files` raises an error.
    """
    recordings = find_utterance_files(directory, SUFFIXES)
    if not recordings:
        raise UserError(
            f"{directory}: no recordings in this directory; expected files such as .wav or .flac"
        )
    return recordings


def read_samples(path: Path, sample_rate: int) -> NDArray[np.float32]:
    """Read a recording.

    Args:
        path: path of the recording.
        sample_rate: sample rate of the result in Hz.

    Returns:
        Waveform at this rate, (samples,) float32, in units of 16-bit audio.

    Raises:
        UserError: the file is damaged or is not audio. It has several channels, a lower sample
            rate, or samples that are no usable numbers.
    """
    import soundfile

    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            _check_format(path, file, sample_rate)
            samples = _read_all(file)
            file_rate = file.samplerate
        if not len(samples) and (content := complete_wav(path)):
            with soundfile.SoundFile(BytesIO(content)) as file:
                samples = _read_all(file)
    except (OSError, soundfile.SoundFileError) as error:
        reason = getattr(error, "error_string", error)  # without the path
        raise UserError(f"{path}: expected an intact audio file: {reason}") from None
    if file_rate > sample_rate:
        samples = _resample(samples, file_rate, sample_rate)
    samples *= np.float32(_FULL_SCALE)
    if not (np.abs(samples) < _MAX_SAMPLE).all():
        raise UserError(f"{path}: samples that are NaN, infinite or too large")
    return samples


def _resample(
    samples: NDArray[np.float32], file_rate: int, sample_rate: int
) -> NDArray[np.float32]:
    """Resample a waveform. Digital silence remains so, although the filter rings into it."""
    import soxr

    resampled: NDArray[np.float32] = soxr.resample(samples, file_rate, sample_rate, quality="HQ")
    with np.errstate(invalid="ignore"):  # of infinite samples
        bounds = np.flatnonzero(np.diff(samples, prepend=np.nan, append=np.nan))
    shortest = file_rate * FRAME_MS // 1000
    for number in np.flatnonzero(np.diff(bounds) >= shortest):
        first, last = bounds[number], bounds[number + 1] - 1
        silence = slice(-(-first * sample_rate // file_rate), last * sample_rate // file_rate + 1)
        resampled[silence] = samples[first]
    return resampled


def _check_format(path: Path, file: Any, sample_rate: int) -> None:
    if file.channels != 1:
        raise UserError(
            f"{path}: {file.channels} channels; expected one: run "
            f"ffmpeg -i {path.name} -ac 1 mono{path.suffix}"
        )
    if file.samplerate < sample_rate:
        raise UserError(
            f"{path}: {file.samplerate} Hz; expected {sample_rate} Hz or more, or "
            f"--sample-rate {file.samplerate}"
        )


def _read_all(file: Any) -> NDArray[np.float32]:
    """Read all samples of a soundfile.SoundFile.

    Raises:
        OSError: the file is a truncated WAV.
        soundfile.SoundFileError: the file is damaged, or a truncated FLAC.
    """
    parts = [np.zeros(0, np.float32)]
    while len(part := file.read(_READ_SAMPLES, dtype="float32")):
        parts.append(part)
    samples = np.concatenate(parts)
    # libsndfile reports a truncated WAV only in its log.
    truncation = _TRUNCATION.search(file.extra_info)
    if truncation and int(truncation[1]) < _UNKNOWN_LENGTH:
        raise OSError(f"truncated after {len(samples)} samples")
    return samples
