"""Training runs as Slurm jobs: a filled-in jobs/train.sbatch, handed to sbatch."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.cluster.sbatch import CORPUS, fill, layout, log_path, read_template
from gtcbmuf.config.loading import load_config
from gtcbmuf.config.schema import fingerprint, resolve_group_size, run_name


@dataclass(frozen=True)
class Job:
    """A training run that can be submitted.

    Attributes:
        text: as sbatch takes it.
        out: the run directory.
    """

    text: str
    out: Path


def job(
    source: str, assignments: Sequence[str], out: Path | None, options: Mapping[str, str]
) -> Job:
    """Make a job of jobs/train.sbatch in this folder.

    Args:
        source, assignments: the configuration, as `gtcbmuf.config.load` takes them.
        out: the run directory; by default one under runs/ that names method, workers, seed,
            corpus, and with a few digits all else.
        options: of sbatch, among `OPTIONS`.

    Raises:
        UserError: the configuration, an option or the number of workers cannot be, or the file is
            not there.
    """
    chosen = load_config(source, assignments)
    template = read_template()
    nodes, per_node = layout(fill(template, options, []))
    resolve_group_size(chosen, nodes * per_node, [per_node] * nodes)
    # Jobs with other settings get directories of their own; the same command goes on with its own.
    kind = f"{Path(chosen.corpus.path).stem}-{fingerprint(chosen)[:6]}"
    out = out or Path("runs") / f"{run_name(chosen, nodes * per_node)}-{kind}"
    assigned = [word for assignment in assignments for word in ("--set", assignment)]
    return Job(fill(template, options, [source, *assigned, "--out", str(out)]), out)


def check(job: Job) -> str:
    """What `sbatch --test-only` says of a job, where there is a Slurm.

    Raises:
        UserError: Slurm would not take it.
    """
    if shutil.which("sbatch") is None:
        return "there is no sbatch here that could be asked about this job"
    return would_take(job.text)


def would_take(text: str) -> str:
    """What `sbatch --test-only` says of a job's text.

    Raises:
        UserError: there is no Slurm, or it would not take it.
    """
    return _sbatch(text, "--test-only").stderr.strip()


def submit(job: Job) -> str:
    """Submit a job; tell its number and how to follow it.

    Raises:
        UserError: there is no Slurm, or it does not take the job.
    """
    check(job)
    number = enqueue(job.text)
    nodes, per_node = layout(job.text)
    return (
        f"job {number}: {nodes} x {per_node} workers -> {job.out}\n"
        f"to follow it: tail -F {shlex.quote(log_path(job.text, number))}; squeue --job {number}\n"
        f"to stop it with a checkpoint: scancel {number}; the same command goes on"
    )


def enqueue(text: str, after: str | None = None) -> str:
    """Hand a job to sbatch; return its number.

    Args:
        text: of the job.
        after: the number of a job that must have succeeded before.

    Raises:
        UserError: there is no Slurm, or it does not take the job.
    """
    waits = [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"] if after else []
    return _number(_sbatch(text, *waits, "--parsable"))


def enqueue_corpus(arguments: Sequence[str]) -> str:
    """Hand jobs/corpus.sbatch to sbatch, with what `gtcbmuf corpus` gets; return its number.

    Raises:
        UserError: there is no Slurm, or it does not take the job.
    """
    read_template(CORPUS)
    return _number(_sbatch("", "--parsable", str(CORPUS), *arguments))


def queued(name: str) -> list[str]:
    """The numbers of the user's jobs of that name that are waiting or running.

    Raises:
        UserError: Slurm does not answer.
    """
    words = ["squeue", "--me", "--noheader", f"--name={name}", "--format=%i"]
    return _ask(words, "", "Slurm does not answer").stdout.split()


def _number(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.strip().partition(";")[0]


def _sbatch(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    return _ask(["sbatch", *options], text, "Slurm does not take this job")


def _ask(words: list[str], text: str, refused: str) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's programs; what it says against it becomes one line."""
    if shutil.which(words[0]) is None:
        raise UserError(f"there is no {words[0]} on PATH; --dry-run shows the jobs")
    done = subprocess.run(words, input=text, capture_output=True, text=True)
    if done.returncode:
        reasons = re.findall(r"^(?:\w+: (?:error|fatal): )?(.+)", done.stderr, re.MULTILINE)
        raise UserError(f"{refused}: {'; '.join(reasons)}")
    return done
