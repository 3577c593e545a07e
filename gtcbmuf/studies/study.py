"""A study: many runs, each a separate job on this machine or a task of a Slurm array.

The results of a study are a CSV file with one row per run. The file is written after each run, and
a run with a row is never repeated. Run directories and logs are kept.
"""

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import msgspec

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_csv, writing
from gtcbmuf.base.output import format_duration
from gtcbmuf.base.provenance import short_commit
from gtcbmuf.cluster import sbatch, slurm
from gtcbmuf.config.schema import resolve_group_size
from gtcbmuf.studies.presets import RunSpec
from gtcbmuf.studies.processes import last_message, run_training
from gtcbmuf.studies.results import Result, read_results
from gtcbmuf.studies.synthesis import Synthesis, check_corpus, synthesise_corpus
from gtcbmuf.training.outcome import read_outcome
from gtcbmuf.training.run_files import read_environment, read_summary, require

#: Keys of summary.json that a result needs.
_RESULTS = ("fer_valid", "fer_test", "per_test", "density", "steps", "wall_seconds")


class InterruptedStudyError(UserError):
    """A signal stopped a run. The same command continues the study."""

    status = 75  # EX_TEMPFAIL: try again


class UnfinishedStudyError(UserError):
    """Some runs failed."""

    status = 1


class Study:
    """Executor of a study's pending runs, and keeper of its results.

    Args:
        runs: runs of the study, in the order of their execution.
        corpus: path of the corpus of all runs.
        folder: folder of run directories and logs.
        results_file: path of the CSV file.
        synthesis: parameters of a synthetic corpus; None if the user provides the corpus file.
        digest: hash of a corpus file from the user. Runs on another corpus are refused.
    """

    def __init__(
        self,
        runs: Sequence[RunSpec],
        corpus: Path,
        folder: Path,
        results_file: Path,
        *,
        synthesis: Synthesis | None = None,
        digest: str = "",
    ) -> None:
        # Several choices may share a run.
        distinct = {run.identity: run for run in runs}
        self._runs, self._corpus, self._folder = list(distinct.values()), corpus, folder
        self._results_file, self._synthesis, self._digest = results_file, synthesis, digest

    def results(self) -> list[Result]:
        """Return the results of the study's cells with all seeds, in the order of the runs."""
        rows = read_results(self._results_file)
        results = {row.identity: row for run in self._runs for row in rows if run.matches(row)}
        return list(results.values())

    def pending_runs(self) -> list[RunSpec]:
        """Return the runs without a result."""
        finished = {result.identity for result in self.results()}
        return [run for run in self._runs if run.identity not in finished]

    def run(self) -> None:
        """Execute all pending runs, one after the other.

        Raises:
            InterruptedStudyError: a signal stopped a run.
            UnfinishedStudyError: some runs failed. The others have results.
            UserError: the corpus differs from the study's, or a file cannot be written.
        """
        self.check_corpus()
        self.collect()
        if not self.pending_runs():
            print(f"all {len(self._runs)} runs are finished: {self._results_file}")
            return
        if self._synthesis:
            synthesise_corpus(self._corpus, self._synthesis)
        failures: list[str] = []
        for run in self.pending_runs():
            rest = [other for other in self.pending_runs() if other.name not in failures]
            number, estimate = self._runs.index(run) + 1, _estimate(rest, self.results())
            print(f"[{number}/{len(self._runs)}] {run.name}{estimate}", flush=True)
            if (result := self._finish(run)) is None:
                failures.append(run.name)
                continue
            self._add([result])
            valid = "diverged" if math.isnan(result.fer_valid) else f"{result.fer_valid:.2f} %"
            print(f"  valid FER {valid}, {format_duration(result.seconds)}", flush=True)
        if failures:
            raise UnfinishedStudyError(
                f"{len(failures)} of {len(self._runs)} runs failed: {', '.join(failures)}; their "
                f"logs are in {self._folder}"
            )

    def submit(self, job_name: str) -> None:
        """Submit all pending runs to Slurm, unless jobs with this name are queued.

        If there is no corpus, a first job synthesises it.

        Args:
            job_name: name of the Slurm jobs.

        Raises:
            UserError: Slurm refuses a job, or the corpus differs from the study's.
        """
        self.check_corpus()
        self.collect()
        pending, queue = self.pending_runs(), slurm.queued(job_name)
        print(f"{len(self._runs) - len(pending)} of {len(self._runs)} runs are finished")
        if not pending:
            return
        print(sbatch.describe_job_file())
        if queue:
            print(f"Slurm already has jobs {', '.join(queue)} for the other runs")
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            texts = self.array_texts(job_name)
            for text in texts:
                slurm.would_take(text)
            corpus_job = None
            if self._synthesis and not self._corpus.exists():
                corpus_job = slurm.enqueue_corpus(self._synthesis.arguments(self._corpus))
                print(f"job {corpus_job}: {self._corpus}")
            for text in texts:
                number = slurm.enqueue(text, after=corpus_job)
                print(f"job {number}: {sbatch.option(text, 'array')}")
        print(f"{len(pending)} pending runs; logs in {self._folder}")
        print(
            f"to follow them: squeue --me --name {job_name}; to collect results: the same command"
        )

    def array_texts(self, job_name: str) -> list[str]:
        """Return the job scripts of the Slurm arrays, one for each number of workers.

        Raises:
            UserError: jobs/train.sbatch cannot be filled in.
        """
        template = sbatch.read_template()
        pending = [run for run in self.pending_runs() if self._result(run) is None]
        return [
            sbatch.fill_array(
                template,
                job_name,
                workers,
                {
                    self._log(run): run.arguments(self._corpus, self._run_directory(run))[1:]
                    for run in pending
                    if run.workers == workers
                },
            )
            for workers in sorted({run.workers for run in pending})
        ]

    def check_corpus(self) -> None:
        """Check that an existing corpus file has the parameters of the study's synthesis.

        Raises:
            UserError: the file has other parameters.
        """
        if self._synthesis and self._corpus.exists():
            check_corpus(self._corpus, self._synthesis)

    def collect(self) -> None:
        """Add the results of finished runs from their run directories.

        Raises:
            UserError: a run has another corpus, or the results cannot be written.
        """
        results = [
            result for run in self.pending_runs() if (result := self._result(run)) is not None
        ]
        if results:
            print(f"{len(results)} finished runs found in {self._folder}", flush=True)
        self._add(results)

    def _add(self, results: Sequence[Result]) -> None:
        rows = [*read_results(self._results_file), *results]
        if results:
            with writing(self._results_file):
                write_csv(self._results_file, [msgspec.structs.asdict(row) for row in rows])

    def _run_directory(self, run: RunSpec) -> Path:
        return self._folder / run.name

    def _log(self, run: RunSpec) -> Path:
        return self._folder / f"{run.name}.log"

    def _finish(self, run: RunSpec) -> Result | None:
        """Start or resume a run, and wait for its result; None if it failed."""
        out, log = self._run_directory(run), self._log(run)
        arguments = [*run.arguments(self._corpus, out), "--resume"]
        end = run_training(run.workers, arguments, log, out)
        if end.interrupted:
            raise InterruptedStudyError(f"{run.name} was stopped; the same command continues")
        if end.status:
            reason = last_message(log) or f"see {log}"
            print(f"  ended with status {end.status}: {reason}", file=sys.stderr, flush=True)
        return self._result(run)

    def _result(self, run: RunSpec) -> Result | None:
        """Read the result of a finished or diverged run; None for any other run."""
        out = self._run_directory(run)
        outcome = read_outcome(out)
        if (out / "summary.json").exists():
            summary = require(out / "summary.json", read_summary(out), _RESULTS)
        elif outcome is not None and outcome.state == "diverged":
            summary = dict.fromkeys(("fer_valid", "fer_test", "per_test", "density"), math.nan)
            summary |= {"steps": 0, "wall_seconds": outcome.seconds}
        else:
            return None
        if summary.get("workers", run.workers) != run.workers:
            raise UserError(
                f"{out}: trained {summary['workers']} workers; expected {run.workers}; remove it"
            )
        environment = read_environment(out)
        if self._digest and environment.get("corpus") != self._digest:
            raise UserError(
                f"{out}: was trained on another corpus than {self._corpus}, or does not name its "
                "corpus; remove it"
            )
        arguments = run.arguments(self._corpus, Path("RUN"))
        return Result(
            method=run.method,
            workers=run.workers,
            groups=run.workers // resolve_group_size(run.config, run.workers),
            seed=run.seed,
            **{key: _rounded(summary[key]) for key in ("fer_valid", "fer_test", "per_test")},
            density=round(summary["density"], 6),
            steps=int(summary["steps"]),
            seconds=round(summary["wall_seconds"], 1),
            config=run.fingerprint,
            commit=short_commit(environment),
            command=shlex.join(["mpirun", "-n", str(run.workers), "gtcbmuf", *arguments]),
        )


def _rounded(value: float | None) -> float:
    return math.nan if value is None else round(value, 4)


def _estimate(pending: Sequence[RunSpec], results: Sequence[Result]) -> str:
    """Estimate the time of the pending runs from the finished ones."""
    if not results:
        return ""

    def seconds(run: RunSpec) -> float:
        cell = run.method, run.workers
        same_cell = [row.seconds for row in results if (row.method, row.workers) == cell]
        return mean(same_cell or [row.seconds for row in results])

    return f"; time left: about {format_duration(sum(map(seconds, pending)))}"
