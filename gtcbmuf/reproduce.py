"""Studies: many runs, each an own job under mpirun, of which none is done twice.

What they consist of is in `gtcbmuf.preset`. The results are a CSV file with a row a run, written
again after each; a run whose row is there with the same configuration is finished. Run directories
and logs are kept beside each other. Slurm can do the running: an array of jobs for each number of
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

from gtcbmuf import config, corpus, error_table, launcher, preset, results, slurm, synth
from gtcbmuf.errors import UserError
from gtcbmuf.preset import Job, Preset, Source
from gtcbmuf.results import Result
from gtcbmuf.runlog import short_commit
from gtcbmuf.storage import write_csv, write_text, writing
from gtcbmuf.tables import markdown, signed


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
    chosen = preset.read(which)
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
        "tuning": preset.tuning_jobs(chosen),
        "choices": preset.choices_jobs(chosen),
        "error-table": preset.error_table_jobs(chosen, seeds),
    }[study]
    file, name = folder / f"{study.replace('-', '_')}.csv", f"{chosen.name}-{study}"
    place = Path("runs") / chosen.name / study
    runs = Study(jobs, chosen.corpus, place, file, source=chosen.source, digest=chosen.digest)
    if by == "nobody":
        if chosen.source and not chosen.corpus.exists():
            words = chosen.source.words(chosen.corpus)
            print(f"# first: sbatch {slurm.CORPUS} {shlex.join(words)}\n")
        print("\n".join(runs.arrays(name)) or "# all runs are finished\n", end="")
        return
    with writing(folder, "--results"):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        if by == "mpirun":
            if chosen.name in preset.names() and not runs.left():
                print("# to have the runs of a published table here: --results FOLDER")
            runs.run()
        else:
            runs.submit(name)
    finally:
        found = runs.results()
        if study == "error-table":
            table = error_table.write(found, folder)
        else:
            table = (tuned if study == "tuning" else compared)(chosen, found)
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


def compared(chosen: Preset, found: Sequence[Result]) -> str:
    """A Markdown table of the choices that have results: valid FERs, and against the first.

    The first of a cell is shown with all its settings, the others with what they have instead.
    """
    rows = []
    for cell in chosen.choices:
        jobs = [chosen.job(cell, settings) for settings in cell.tried]
        rates = [[result.fer_valid for result in found if job.made(result)] for job in jobs]
        for settings, errors in zip(cell.tried, rates, strict=True):
            if not errors:
                continue
            deviation, first = error_table.deviation_of(errors), mean(rates[0] or [0])
            different = [word for word in settings if word not in cell.tried[0]]
            rows.append(
                [
                    ", ".join(different or settings),
                    cell.name,
                    str(len(errors)),
                    f"{mean(errors):.2f}" + ("" if deviation is None else f" ± {deviation:.2f}"),
                    signed(100 * (mean(errors) / first - 1)) if first else "",
                ]
            )
    return markdown(("choice", "cell", "seeds", "valid FER %", "vs first %"), rows)


def tuned(chosen: Preset, found: Sequence[Result]) -> str:
    """A Markdown table of the settings that have results: valid FERs, and the best of a cell."""
    rows = []
    for cell in chosen.cells:
        rates = {
            number: result.fer_valid
            for number, job in enumerate(preset.tuning_of(chosen, cell))
            for result in found
            if job.made(result)
        }
        best = min((rate for rate in rates.values() if not math.isnan(rate)), default=math.nan)
        for number, rate in rates.items():
            shown = "diverged" if math.isnan(rate) else f"{rate:.2f}"
            mark = "best" if rate == best else ""
            rows.append([", ".join(cell.tried[number]), cell.name, str(number), shown, mark])
    return markdown(("settings", "cell", "number", "valid FER %", ""), rows)


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
        jobs: Sequence[Job],
        corpus: Path,
        runs: Path,
        results: Path,
        *,
        source: Source | None = None,
        digest: str = "",
    ) -> None:
        self._jobs, self._corpus, self._runs, self._path = jobs, corpus, runs, results
        self._source, self._digest = source, digest

    def results(self) -> list[Result]:
        """Of the cells that jobs are of, in their order, with all seeds that there are."""
        everything = results.read(self._path)
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
                print(f"job {number}: {slurm.option(text, 'array')}")
        print(f"{len(left)} runs, whose logs are in {self._runs}")
        print(f"to follow them: squeue --me --name {name}; when they are done: the same command")

    def arrays(self, name: str) -> list[str]:
        """Texts of Slurm jobs for the runs that are left: an array for each number of workers.

        Raises:
            UserError: jobs/train.sbatch cannot be filled in.
        """
        template = slurm.read()
        left = [job for job in self.left() if self._result(job) is None]
        return [
            slurm.array(
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
        attributes = corpus.read(self._corpus).attributes
        for key, value in synth.made_of(_synthetic(self._source), self._source.seed).items():
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

    def left(self) -> list[Job]:
        """What has no result yet."""
        done = self.results()
        return [
            job
            for job in self._jobs
            if not any(job.made(result) and result.seed == job.seed for result in done)
        ]

    def _add(self, found: Sequence[Result]) -> None:
        everything = [*results.read(self._path), *found]
        if found:
            with writing(self._path):
                write_csv(self._path, [msgspec.structs.asdict(result) for result in everything])

    def _out(self, job: Job) -> Path:
        return self._runs / job.name

    def _log(self, job: Job) -> Path:
        return self._runs / f"{job.name}.log"

    def _finish(self, job: Job) -> Result | None:
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

    def _result(self, job: Job) -> Result | None:
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
            groups=job.workers // config.group_size(job.config, job.workers),
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


def make_corpus(path: Path, source: Source) -> None:
    """Synthesise the corpus of a study, if it is not there.

    Raises:
        UserError: it cannot be made.
    """
    if path.exists():
        return
    print(f"synthesising {source.hours:g} hours of speech: {path}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    synth.synthesise(_synthetic(source), path, seed=source.seed)


def _synthetic(source: Source) -> synth.Preset:
    """What is synthesised."""
    return dataclasses.replace(synth.PRESETS[source.preset], hours=source.hours)


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


def _estimate(left: Sequence[Job], done: Sequence[Result]) -> str:
    """How long the jobs that are left will take, from those that are done."""
    if not done:
        return ""

    def seconds(job: Job) -> float:
        alike = [r.seconds for r in done if (r.method, r.workers) == (job.method, job.workers)]
        return mean(alike or [result.seconds for result in done])

    return f"; all that is left: about {_duration(sum(map(seconds, left)))}"


def _duration(seconds: float) -> str:
    minutes = round(seconds) // 60
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {round(seconds) % 60} s"
