"""A speech corpus made by espeak-ng: random speakers, sentences and noise, exact phone labels.

Needs the extra `synth`. The same preset and seed give the same file, bit for bit, on any number of
processes.
"""

import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from gtcbmuf import features
from gtcbmuf.errors import UserError

_PURPOSE = 7  # of our random streams: SeedSequence([seed, purpose, speaker])


@dataclass(frozen=True)
class Preset:
    """The parameters of a corpus. Triples are for train, valid and test; pairs are ranges."""

    hours: float
    speakers: tuple[int, int, int]
    shares: tuple[float, float, float] = (0.75, 0.125, 0.125)  # of the hours
    rate_wpm: tuple[float, float] = (140.0, 210.0)  # one per speaker
    snr_db: tuple[float, float] = (5.0, 20.0)  # this and the next two: one per utterance
    gain_db: tuple[float, float] = (-10.0, 10.0)
    tilt: float = 0.4


PRESETS = {
    "tiny": Preset(hours=0.2, speakers=(12, 2, 2)),
    "small": Preset(hours=2.0, speakers=(36, 6, 6)),
    "medium": Preset(hours=20.0, speakers=(240, 40, 40)),
    "large": Preset(hours=100.0, speakers=(960, 120, 120)),
}


@dataclass(frozen=True)
class _Task:
    """What one process makes: all utterances of one speaker."""

    preset: Preset
    seed: int
    split: str
    speaker: int
    seconds: float


# Of one speaker: normalised features (frames, 40) and targets (frames,) of each utterance.
_Utterances = list[tuple[NDArray[np.float32], NDArray[np.uint16]]]


def synthesise(preset: Preset, out: Path, *, seed: int = 0, processes: int | None = None) -> None:
    """Make the corpus that `preset` describes and write it to `out`.

    `processes` run at a time, by default as many as there are CPUs for us. Raises UserError if the
    extra `synth` is not installed or a number makes no sense, and RuntimeError, with what it said,
    if a process fails.
    """
    for module in ("espeakng_loader", "kaldi_native_fbank"):
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"a synthetic corpus needs {module}, which is not installed: "
                "pip install 'gtcbmuf[synth]'"
            )
    if processes is None:
        processes = len(os.sched_getaffinity(0))
    if processes < 1:
        raise UserError(f"processes is {processes}, but must be 1 or more")
    if not 0 < preset.hours < 1e6:
        raise UserError(f"hours is {preset.hours:g}, but must be above 0")
    if seed < 0:
        raise UserError(f"seed is {seed}, but must be 0 or more")

    from importlib.metadata import version

    from tqdm import tqdm

    from gtcbmuf import corpus
    from gtcbmuf.synth import espeak

    tasks: list[_Task] = []
    for split, count, share in zip(corpus.SPLITS, preset.speakers, preset.shares, strict=True):
        seconds = 3600 * preset.hours * share / count
        first = len(tasks)
        tasks += [_Task(preset, seed, split, first + i, seconds) for i in range(count)]

    writer = corpus.Writer(
        out,
        phones=espeak.PHONES,
        target_phone=[i // features.STATES for i in range(features.STATES * len(espeak.PHONES))],
        attributes={
            "source": "espeak-ng",
            "espeak_ng": espeak.version(),
            "kaldi_native_fbank": version("kaldi-native-fbank"),
            "sample_rate": espeak.SAMPLE_RATE,
            "frame_shift_ms": 1000 * features.frame_shift(espeak.SAMPLE_RATE) / espeak.SAMPLE_RATE,
            "normalisation": "speaker",
            **made_of(preset, seed),
        },
    )
    pool = ThreadPoolExecutor(processes)  # a thread waits for a process; it does not compute
    try:
        with writer, tqdm(total=len(tasks), desc="synthesise", unit="speaker", disable=None) as bar:
            for task, utterances in _in_order(pool, tasks, ahead=2 * processes):
                speaker = f"spk{task.speaker:04d}"
                for i, (frames, targets) in enumerate(utterances):
                    name = f"{speaker}-{i:04d}"
                    writer.add(task.split, corpus.Utterance(name, speaker, frames, targets))
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, tasks: list[_Task], ahead: int
) -> Iterator[tuple[_Task, _Utterances]]:
    """Tasks with their results, at most `ahead` of which wait in memory."""
    waiting: deque[tuple[_Task, Future[_Utterances]]] = deque()
    for task in tasks:
        waiting.append((task, pool.submit(_run, task)))
        if len(waiting) > ahead:
            done, result = waiting.popleft()
            yield done, result.result()
    for done, result in waiting:
        yield done, result.result()


def made_of(preset: Preset, seed: int) -> dict[str, int | float]:
    """Return the attributes that tell a corpus from others: seed, hours, speakers_train, ..."""
    from gtcbmuf.corpus import SPLITS

    flat: dict[str, int | float] = {"seed": seed}
    for name, value in asdict(preset).items():
        match value:
            case (low, high):
                flat |= {f"{name}_low": low, f"{name}_high": high}
            case (_, _, _):
                flat |= {f"{name}_{split}": v for split, v in zip(SPLITS, value, strict=True)}
            case _:
                flat[name] = value
    return flat


def _run(task: _Task) -> _Utterances:
    """Do `task` in a fresh process.

    Not with multiprocessing: it would import the caller's main module in every process, which costs
    more than the speech, and its pool waits for ever for a process that was killed.
    """
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    child = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import _child; _child()"],
        input=pickle.dumps(task),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        check=False,
    )
    if child.returncode:
        said = child.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"speaker {task.speaker}: exit status {child.returncode}: {said}")
    return cast(_Utterances, pickle.loads(child.stdout))


def _child() -> None:
    task = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(pickle.dumps(_speak(task)))


def _speak(task: _Task) -> _Utterances:
    """Make one speaker and utterances until they fill the task's seconds."""
    from gtcbmuf.synth import espeak, noise, speakers, text

    preset = task.preset
    root = np.random.SeedSequence([task.seed, _PURPOSE, task.speaker])
    voice_rng, text_rng, noise_rng, library_rng = map(np.random.default_rng, root.spawn(4))
    speaker = speakers.draw(task.speaker, preset.rate_wpm, voice_rng)
    phone_index = {phone: i for i, phone in enumerate(espeak.PHONES)}
    shift = features.frame_shift(espeak.SAMPLE_RATE)
    wanted = task.seconds * espeak.SAMPLE_RATE / shift

    frames: list[NDArray[np.float32]] = []
    targets: list[NDArray[np.uint16]] = []
    with tempfile.TemporaryDirectory() as data:
        speakers.link_data(speaker, Path(data))
        speak = espeak.Synthesiser(
            Path(data), speaker.voice, rate=speaker.rate, seed=int(library_rng.integers(2**31))
        )
        while sum(map(len, frames)) < wanted:
            samples, segments = speak(text.sentence(text_rng))
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
                    np.array([phone_index[s.phone] for s in segments]),
                    np.array([s.begin for s in segments] + [len(samples)]),
                    features.frame_centres(len(frames[-1]), espeak.SAMPLE_RATE),
                )
            )
    return list(zip(features.normalise(frames), targets, strict=True))
