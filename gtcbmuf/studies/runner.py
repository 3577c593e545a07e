"""Studies: many runs, each a job of its own under mpirun, and none run twice.

A preset (`gtcbmuf.studies.presets`) says which runs a study has. Its results are a CSV file with a
row a run, written again after each; a run with a row of the same configuration is finished. Run
directories and logs are kept. Slurm can do the running: an array of jobs for each number of
workers.
"""

import dataclasses
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import mean
from types import FrameType
from typing import Literal, TextIO

import msgspec

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_csv, write_text, writing
from gtcbmuf.base.provenance import short_commit
from gtcbmuf.cluster import sbatch, slurm
from gtcbmuf.config.schema import resolve_group_size
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.data.synth.presets import PRESETS, SynthPreset, preset_attributes
from gtcbmuf.data.synth.synthesis import synthesise
from gtcbmuf.mpi import launcher
from gtcbmuf.studies.error_table import write_error_table
from gtcbmuf.studies.presets import (
    RunSpec,
    Synthesis,
    choices_runs,
    error_table_runs,
    preset_names,
    read_preset,
    tuning_runs,
)
from gtcbmuf.studies.results import Result, read_results
from gtcbmuf.studies.study_tables import format_choices, format_tuning


def reproduce(
    study: str,
    which: str,
    seeds: Sequence[int] | None,
    results_folder: Path,
    *,
    by: Literal["mpirun", "slurm", "nobody"] = "mpirun",
) -> None:
    """Run what is left of a study; write what came out, and print its table.

    Args:
        study: tuning, choices or error-table.
        which: a preset's name or file.
        seeds: of an error table, instead of those that the preset asks for.
        results_folder: for a folder of the preset's name.
        by: mpirun, one run after the other; or Slurm, which is given what is left, and the same
            call later finds what its jobs have ended with. By nobody, what Slurm would be given is
            shown.

    Raises:
        UserError: the preset is at fault, a run failed or was interrupted, or a file is at fault.
    """
    chosen = read_preset(which)
    if study == "choices" and not chosen.choices:
        raise UserError(f"{which}: has no [[choices]] to compare")
    untuned = [cell.name for cell in chosen.cells if cell.chosen is None]
    if study == "error-table" and "sgd 1" in untuned:
        raise UserError(
            f"{which}: sgd 1: has no number as `chosen`: which of its settings is the best? "
            f"`gtcbmuf reproduce tuning --preset {which}` tells"
        )
    if seeds is not None and (min(seeds) < 0 or len(set(seeds)) < len(seeds)):
        raise UserError(f"--seeds {' '.join(map(str, seeds))}: expected numbers from 0, each once")
    if study == "error-table" and untuned:
        print(f"# left out, as not tuned yet: {', '.join(untuned)}", flush=True)
    folder = results_folder / chosen.name
    jobs = {
        "tuning": tuning_runs(chosen),
        "choices": choices_runs(chosen),
        "error-table": error_table_runs(chosen, seeds),
    }[study]
    file, name = folder / f"{study.replace('-', '_')}.csv", f"{chosen.name}-{study}"
    place = Path("runs") / chosen.name / study
    runs = Study(jobs, chosen.corpus, place, file, source=chosen.source, digest=chosen.digest)
    if by == "nobody":
        if chosen.source and not chosen.corpus.exists():
            words = chosen.source.words(chosen.corpus)
            print(f"# first: sbatch {sbatch.CORPUS} {shlex.join(words)}\n")
        print("\n".join(runs.arrays(name)) or "# all runs are finished\n", end="")
        return
    with writing(folder, "--results"):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        if by == "mpirun":
            if chosen.name in preset_names() and not runs.left():
                print("# to have the runs of a published table here: --results FOLDER")
            runs.run()
        else:
            runs.submit(name)
    finally:
        found = runs.results()
        if study == "error-table":
            table = write_error_table(found, folder)
        else:
            table = (format_tuning if study == "tuning" else format_choices)(chosen, found)
            if found:
                with writing(folder):
                    write_text(file.with_suffix(".md"), table + "\n")
    print(f"\n{table}" if found else "no run is finished yet")


class InterruptedStudyError(UserError):
    """A signal ended a run; the same command goes on with it."""

    status = 75  # EX_TEMPFAIL: to be tried again


class UnfinishedStudyError(UserError):
    """Some of the runs failed."""

    status = 1


class Study:
    """Runs jobs one after the other, and keeps what came out.

    Args:
        jobs: in their order.
        corpus: of all jobs.
        runs: for run directories and logs.
        results: the CSV file.
        source: what the corpus is made from, if it is not there.
        digest: of one that was given.
    """

    def __init__(
        self,
        jobs: Sequence[RunSpec],
        corpus: Path,
        runs: Path,
        results: Path,
        *,
        source: Synthesis | None = None,
        digest: str = "",
    ) -> None:
        self._jobs, self._corpus, self._runs, self._path = jobs, corpus, runs, results
        self._source, self._digest = source, digest

    def results(self) -> list[Result]:
        """Of the cells that jobs are of, in their order, with all seeds that there are."""
        everything = read_results(self._path)
        found = {
            result.run: result for job in self._jobs for result in everything if job.made(result)
        }
        return list(found.values())

    def run(self) -> None:
        """Run what is not finished yet.

        Raises:
            InterruptedStudyError: the same command goes on.
            UnfinishedStudyError: some jobs failed; the others are done.
        """
        self.check_corpus()
        self.collect()
        if not self.left():
            print(f"all {len(self._jobs)} runs are finished: {self._path}")
            return
        if self._source:
            make_corpus(self._corpus, self._source)
        failed = []
        for job in self.left():
            left, done = [one for one in self.left() if one.name not in failed], self.results()
            number = self._jobs.index(job) + 1
            print(f"[{number}/{len(self._jobs)}] {job.name}{_estimate(left, done)}", flush=True)
            if (result := self._finish(job)) is None:
                failed.append(job.name)
                continue
            self._add([result])
            valid = "diverged" if math.isnan(result.fer_valid) else f"{result.fer_valid:.2f} %"
            print(f"  valid FER {valid}, {_duration(result.seconds)}", flush=True)
        if failed:
            raise UnfinishedStudyError(
                f"{len(failed)} of {len(self._jobs)} runs failed: {', '.join(failed)}; their logs "
                f"are in {self._runs}"
            )

    def submit(self, name: str) -> None:
        """Give Slurm what is left, unless it has it already; a job before makes the corpus.

        Args:
            name: of the jobs; those that Slurm has are known by it.

        Raises:
            UserError: Slurm does not take a job.
        """
        self.check_corpus()
        self.collect()
        left, jobs = self.left(), slurm.queued(name)
        print(f"{len(self._jobs) - len(left)} of {len(self._jobs)} runs are finished")
        if not left:
            return
        if jobs:
            print(f"Slurm has jobs {', '.join(jobs)} for the others")
        else:
            self._runs.mkdir(parents=True, exist_ok=True)
            texts = self.arrays(name)
            for text in texts:
                slurm.would_take(text)
            made = None
            if self._source and not self._corpus.exists():
                made = slurm.enqueue_corpus(self._source.words(self._corpus))
                print(f"job {made}: {self._corpus}")
            for text in texts:
                number = slurm.enqueue(text, after=made)
                print(f"job {number}: {sbatch.option(text, 'array')}")
        print(f"{len(left)} runs, whose logs are in {self._runs}")
        print(f"to follow them: squeue --me --name {name}; when they are done: the same command")

    def arrays(self, name: str) -> list[str]:
        """Texts of Slurm jobs for the runs that are left: an array for each number of workers.

        Raises:
            UserError: jobs/train.sbatch cannot be filled in.
        """
        template = sbatch.read_template()
        left = [job for job in self.left() if self._result(job) is None]
        return [
            sbatch.fill_array(
                template,
                name,
                workers,
                {
                    self._log(job): job.words(self._corpus, self._out(job))[1:]
                    for job in left
                    if job.workers == workers
                },
            )
            for workers in sorted({job.workers for job in left})
        ]

    def check_corpus(self) -> None:
        """Make sure that a corpus which is there is the one that is wanted.

        Raises:
            UserError: it was made otherwise.
        """
        if self._source is None or not self._corpus.exists():
            return
        attributes = open_corpus(self._corpus).attributes
        for key, value in preset_attributes(_synthetic(self._source), self._source.seed).items():
            if attributes.get(key) != value:
                raise UserError(
                    f"{self._corpus}: was made with {key} = {attributes.get(key)}, and the preset "
                    f"has {value}: remove it, to have another made"
                )

    def collect(self) -> None:
        """Take up results of runs that have finished, whoever ran them."""
        found = [result for job in self.left() if (result := self._result(job)) is not None]
        if found:
            print(f"{len(found)} finished runs found in {self._runs}", flush=True)
        self._add(found)

    def left(self) -> list[RunSpec]:
        """What has no result yet."""
        done = self.results()
        return [
            job
            for job in self._jobs
            if not any(job.made(result) and result.seed == job.seed for result in done)
        ]

    def _add(self, found: Sequence[Result]) -> None:
        everything = [*read_results(self._path), *found]
        if found:
            with writing(self._path):
                write_csv(self._path, [msgspec.structs.asdict(result) for result in everything])

    def _out(self, job: RunSpec) -> Path:
        return self._runs / job.name

    def _log(self, job: RunSpec) -> Path:
        return self._runs / f"{job.name}.log"

    def _finish(self, job: RunSpec) -> Result | None:
        """Run a job, or what is left of it; nothing if it failed."""
        out, path = self._out(job), self._log(job)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        mpirun, words = launcher.mpirun(job.workers), job.words(self._corpus, out)
        words = [*mpirun, launcher.program(), *words, "--resume"]
        with path.open("a", encoding="utf-8") as log, _running(words, log) as (process, signals):
            _follow(process, out)
        if signals:
            raise InterruptedStudyError(f"{job.name} was stopped; the same command goes on")
        if process.returncode:
            why = _complaint(path) or f"see {path}"
            print(f"  ended with status {process.returncode}: {why}", file=sys.stderr, flush=True)
        return self._result(job)

    def _result(self, job: RunSpec) -> Result | None:
        """What a run has ended with; nothing if it has not. To diverge is a result."""
        out, log = self._out(job), self._log(job)
        if (out / "summary.json").exists():
            summary = json.loads((out / "summary.json").read_text())
        elif "training diverged" in _complaint(log) and (out / "environment.json").exists():
            summary = dict.fromkeys(("fer_valid", "fer_test", "per_test", "density"), math.nan)
            begin, end = (out / "environment.json").stat().st_mtime, log.stat().st_mtime
            summary |= {"steps": 0, "wall_seconds": end - begin}
        else:
            return None
        environment = json.loads((out / "environment.json").read_text())
        if self._digest and environment.get("corpus") != self._digest:
            raise UserError(
                f"{out}: was trained on another corpus than {self._corpus} was when the study "
                "began, or does not tell on which; remove it"
            )
        to_repeat = job.words(self._corpus, Path("RUN"))
        return Result(
            method=job.method,
            workers=job.workers,
            groups=job.workers // resolve_group_size(job.config, job.workers),
            seed=job.seed,
            **{key: _rounded(summary[key]) for key in ("fer_valid", "fer_test", "per_test")},
            density=round(summary["density"], 6),
            steps=int(summary["steps"]),
            seconds=round(summary["wall_seconds"], 1),
            config=job.fingerprint,
            commit=short_commit(environment),
            command=shlex.join(["mpirun", "-n", str(job.workers), "gtcbmuf", *to_repeat]),
        )


def _rounded(value: float | None) -> float:
    return math.nan if value is None else round(value, 4)


def make_corpus(path: Path, source: Synthesis) -> None:
    """Synthesise the corpus of a study, if it is not there.

    Raises:
        UserError: it cannot be made.
    """
    if path.exists():
        return
    print(f"synthesising {source.hours:g} hours of speech: {path}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    synthesise(_synthetic(source), path, seed=source.seed)


def _synthetic(source: Synthesis) -> SynthPreset:
    """What is synthesised."""
    return dataclasses.replace(PRESETS[source.preset], hours=source.hours)


@contextmanager
def _running(words: list[str], log: TextIO) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A run's process, and the signals that this one got: the first has the run write a checkpoint
    and end, the second ends it at once.
    """
    signals: list[int] = []
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={**launcher.settings(), **os.environ},
        start_new_session=True,  # so that a terminal's Ctrl-C reaches it once, through this process
    )

    def send_on(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        if signals[1:]:
            process.kill()
            return
        with suppress(OSError):  # a terminal that went away
            os.write(2, b"\nstopping after this step, with a checkpoint; again: at once\n")
        # After this one every mpirun leaves its ranks the time that it takes.
        process.send_signal(signal.SIGUSR1)

    kinds = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not under nohup
        kinds.append(signal.SIGHUP)
    before = {kind: signal.signal(kind, send_on) for kind in kinds}
    try:
        yield process, signals
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _follow(process: subprocess.Popen[bytes], out: Path) -> None:
    """Wait for a run; on a terminal, show how far it is."""
    shows, begin = sys.stderr.isatty(), time.monotonic()
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
        if not shows:
            continue
        try:
            lines = (out / "metrics.jsonl").read_text().splitlines()
            last = json.loads(lines[-1])
            where = f"{last['epoch']} epochs done, valid FER {last['fer_valid']:.2f} %"
        except (OSError, ValueError, IndexError):
            where = "in the first epoch"
        print(f"\r\33[K  {_duration(time.monotonic() - begin)}, {where}", end="", file=sys.stderr)
    if shows:
        print("\r\33[K", end="", file=sys.stderr, flush=True)


def _complaint(log: Path) -> str:
    """The last line of ours in a log, if there is one."""
    if not log.exists():
        return ""
    # Open MPI 5's mpirun ends some of its own messages with a NUL.
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\0", "").splitlines()
    return next((line for line in reversed(lines) if line.startswith("gtcbmuf: ")), "")


def _estimate(left: Sequence[RunSpec], done: Sequence[Result]) -> str:
    """How long the jobs that are left will take, from those that are done."""
    if not done:
        return ""

    def seconds(job: RunSpec) -> float:
        alike = [r.seconds for r in done if (r.method, r.workers) == (job.method, job.workers)]
        return mean(alike or [result.seconds for result in done])

    return f"; all that is left: about {_duration(sum(map(seconds, left)))}"


def _duration(seconds: float) -> str:
    minutes = round(seconds) // 60
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {round(seconds) % 60} s"
