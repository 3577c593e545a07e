"""Synthesises the utterances of one speaker in a fresh process.

libespeak-ng has global state, so two speakers cannot share a process.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.data import features
from gtcbmuf.data.synth.presets import SynthPreset

_PURPOSE = 7  # of the random streams: SeedSequence([seed, purpose, speaker])

#: Normalised features (frames, 40) and targets (frames,) of each utterance of a speaker.
Utterances = list[tuple[NDArray[np.float32], NDArray[np.uint16]]]


@dataclass(frozen=True)
class SpeakerTask:
    """The work of one process: all utterances of one speaker.

    Attributes:
        preset: parameters of the corpus.
        seed: seed of the corpus.
        split: split of the speaker.
        speaker: number of the speaker.
        seconds: least seconds of speech.
    """

    preset: SynthPreset
    seed: int
    split: str
    speaker: int
    seconds: float


def run_task(task: SpeakerTask) -> Utterances:
    """Run a task in a fresh process.

    The standard module multiprocessing is unsuitable for two reasons. It imports the caller's main
    module in every process, which takes longer than the synthesis. Its pool waits forever for a
    killed process.

    Args:
        task: task to run.

    Returns:
        The utterances of the task's speaker.

    Raises:
        RuntimeError: the process failed. The message contains the output of the process.
    """
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    process = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import _serve_task; _serve_task()"],
        input=pickle.dumps(task),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        check=False,
    )
    if process.returncode:
        output = process.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"speaker {task.speaker}: exit status {process.returncode}: {output}")
    return cast(Utterances, pickle.loads(process.stdout))


def _serve_task() -> None:
    """Read a task from standard input, and write the utterances to standard output."""
    task = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(pickle.dumps(_synthesise_speaker(task)))


def _synthesise_speaker(task: SpeakerTask) -> Utterances:
    """Draw a speaker, and synthesise utterances for at least the seconds of the task."""
    from gtcbmuf.data.synth import espeak, noise, speakers, text

    preset = task.preset
    root = np.random.SeedSequence([task.seed, _PURPOSE, task.speaker])
    voice_rng, text_rng, noise_rng, library_rng = map(np.random.default_rng, root.spawn(4))
    speaker = speakers.draw_speaker(task.speaker, preset.rate_wpm, voice_rng)
    phone_index = {phone: i for i, phone in enumerate(espeak.PHONES)}
    min_frames = task.seconds * espeak.SAMPLE_RATE / features.frame_shift(espeak.SAMPLE_RATE)

    frames: list[NDArray[np.float32]] = []
    targets: list[NDArray[np.uint16]] = []
    with tempfile.TemporaryDirectory() as data:
        speakers.link_data(speaker, Path(data))
        speak = espeak.Synthesiser(
            Path(data), speaker.voice, rate=speaker.rate, seed=int(library_rng.integers(2**31))
        )
        while sum(map(len, frames)) < min_frames:
            samples, segments = speak(text.draw_sentence(text_rng))
            audio = noise.degrade(
                samples.astype(np.float32),
                snr_db=preset.snr_db,
                gain_db=preset.gain_db,
                tilt=preset.tilt,
                rng=noise_rng,
            )
            frames.append(features.log_mel(audio, espeak.SAMPLE_RATE))
            targets.append(
                features.frame_targets(
                    np.array([phone_index[segment.phone] for segment in segments]),
                    np.array([segment.begin for segment in segments] + [len(samples)]),
                    features.frame_centres(len(frames[-1]), espeak.SAMPLE_RATE),
                )
            )
    return list(zip(features.normalise(frames), targets, strict=True))
