"""Synthesises a corpus: random speakers, sentences and noise, with exact phone labels.

The same preset and seed give the same file, bit for bit, on any number of processes.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.extras import require_extra
from gtcbmuf.data import features
from gtcbmuf.data.corpus import SPLITS
from gtcbmuf.data.corpus_writer import CorpusWriter, Utterance
from gtcbmuf.data.synth.presets import SynthPreset, preset_attributes
from gtcbmuf.data.synth.speaker_process import SpeakerTask, Utterances, run_task


def synthesise(
    preset: SynthPreset, out: Path, *, seed: int = 0, processes: int | None = None
) -> None:
    """Synthesise a corpus.

    Args:
        preset: parameters of the corpus.
        out: path of the corpus. An existing file is replaced.
        seed: seed of all random numbers, 0 or more.
        processes: number of processes at a time. The default is the number of available CPUs.

    Raises:
        UserError: the extra is not installed, a number is out of range, or the file cannot be
            written.
        RuntimeError: a process failed. The message contains the output of the process.
    """
    require_extra("synth", ("espeakng_loader", "kaldi_native_fbank"), "a synthetic corpus needs")
    if processes is None:
        processes = len(os.sched_getaffinity(0))
    if processes < 1:
        raise UserError(f"processes = {processes}: expected 1 or more")
    if not 0 < preset.hours < 1e6:
        raise UserError(f"hours = {preset.hours:g}: expected more than 0 and less than 1e6")
    if seed < 0:
        raise UserError(f"seed = {seed}: expected 0 or more")

    from importlib.metadata import version

    from tqdm import tqdm

    from gtcbmuf.data.synth import espeak

    tasks: list[SpeakerTask] = []
    for split, count, share in zip(SPLITS, preset.speakers, preset.shares, strict=True):
        seconds = 3600 * preset.hours * share / count
        first = len(tasks)
        tasks += [SpeakerTask(preset, seed, split, first + i, seconds) for i in range(count)]

    writer = CorpusWriter(
        out,
        phones=espeak.PHONES,
        target_phone=features.target_phone(len(espeak.PHONES)),
        attributes={
            "source": "espeak-ng",
            "espeak_ng": espeak.library_version(),
            "kaldi_native_fbank": version("kaldi-native-fbank"),
            "sample_rate": espeak.SAMPLE_RATE,
            "frame_shift_ms": features.frame_shift_ms(espeak.SAMPLE_RATE),
            "normalisation": "speaker",
            **preset_attributes(preset, seed),
        },
    )
    pool = ThreadPoolExecutor(processes)  # each thread only waits for a process
    try:
        with writer, tqdm(total=len(tasks), desc="synthesise", unit="speaker", disable=None) as bar:
            for task, utterances in _run_in_order(pool, tasks, ahead=2 * processes):
                speaker = f"spk{task.speaker:04d}"
                for i, (frames, targets) in enumerate(utterances):
                    name = f"{speaker}-{i:04d}"
                    writer.add(task.split, Utterance(name, speaker, frames, targets))
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)


def _run_in_order(
    pool: ThreadPoolExecutor, tasks: list[SpeakerTask], ahead: int
) -> Iterator[tuple[SpeakerTask, Utterances]]:
    """Yield the tasks with their results, in order. Memory holds at most `ahead` results."""
    queue: deque[tuple[SpeakerTask, Future[Utterances]]] = deque()
    for task in tasks:
        queue.append((task, pool.submit(run_task, task)))
        if len(queue) > ahead:
            oldest, future = queue.popleft()
            yield oldest, future.result()
    for oldest, future in queue:
        yield oldest, future.result()
