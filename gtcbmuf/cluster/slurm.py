"""Training runs as Slurm jobs: what `gtcbmuf.cluster.sbatch` writes is submitted here."""

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
    """A training run as a Slurm job.

    Attributes:
        text: script for sbatch.
        out: run directory.
    """

    text: str
    out: Path


def make_job(
    source: str, assignments: Sequence[str], out: Path | None, options: Mapping[str, str]
) -> Job:
    """Make a job from the jobs/train.sbatch of this folder.

    Args:
        source, assignments: the configuration, as `gtcbmuf.config.loading.load_config` takes it.
        out: run directory. The default is a directory under runs/, named after method, workers,
            seed, corpus, and the first digits of the configuration's fingerprint.
        options: options of sbatch, among `gtcbmuf.cluster.sbatch.OPTIONS`.

    Raises:
        UserError: the configuration, an option or the number of workers is invalid, or the template
            cannot be read.
    """
    config = load_config(source, assignments)
    template = read_template()
    nodes, per_node = layout(fill(template, options, []))
    resolve_group_size(config, nodes * per_node, [per_node] * nodes)
    # Jobs with other settings have other directories. The same command resumes in its own one.
    suffix = f"{Path(config.corpus.path).stem}-{fingerprint(config)[:6]}"
    out = out or Path("runs") / f"{run_name(config, nodes * per_node)}-{suffix}"
    settings = [word for assignment in assignments for word in ("--set", assignment)]
    return Job(fill(template, options, [source, *settings, "--out", str(out)]), out)


def check(job: Job) -> str:
    """Check a job with `sbatch --test-only`, where Slurm is installed.

    Returns:
        The answer of sbatch, or a line that says that there is no sbatch.

    Raises:
        UserError: Slurm would refuse the job.
    """
    if shutil.which("sbatch") is None:
        return "there is no sbatch here that could be asked about this job"
    return would_take(job.text)


def would_take(text: str) -> str:
    """Check the text of a job with `sbatch --test-only`.

    Returns:
        The answer of sbatch.

    Raises:
        UserError: Slurm is not installed, or would refuse the job.
    """
    return _sbatch(text, "--test-only").stderr.strip()


def submit(job: Job) -> str:
    """Submit a job.

    Returns:
        Lines with the job's number, and with commands to follow and to stop it.

    Raises:
        UserError: Slurm is not installed, or refuses the job.
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
    """Submit the text of a job with sbatch.

    Args:
        text: text of the job.
        after: number of a job that must succeed first.

    Returns:
        The number of the job.

    Raises:
        UserError: Slurm is not installed, or refuses the job.
    """
    dependency = [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"] if after else []
    return _number(_sbatch(text, *dependency, "--parsable"))


def enqueue_corpus(arguments: Sequence[str]) -> str:
    """Submit jobs/corpus.sbatch.

    Args:
        arguments: arguments of `gtcbmuf corpus`.

    Returns:
        The number of the job.

    Raises:
        UserError: Slurm is not installed, or refuses the job.
    """
    read_template(CORPUS)
    return _number(_sbatch("", "--parsable", str(CORPUS), *arguments))


def queued(name: str) -> list[str]:
    """Numbers of the user's waiting and running jobs of that name.

    Raises:
        UserError: Slurm does not answer.
    """
    words = ["squeue", "--me", "--noheader", f"--name={name}", "--format=%i"]
    return _call(words, "", "Slurm does not answer").stdout.split()


def _number(process: subprocess.CompletedProcess[str]) -> str:
    return process.stdout.strip().partition(";")[0]


def _sbatch(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    return _call(["sbatch", *options], text, "Slurm does not take this job")


def _call(words: list[str], text: str, refusal: str) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's programs.

    Args:
        words: the command line.
        text: the program's input.
        refusal: start of the message if the program fails.

    Raises:
        UserError: the program is not installed, or fails; its errors become one line.
    """
    if shutil.which(words[0]) is None:
        raise UserError(f"there is no {words[0]} on PATH; --dry-run shows the jobs")
    process = subprocess.run(words, input=text, capture_output=True, text=True)
    if process.returncode:
        reasons = re.findall(r"^(?:\w+: (?:error|fatal): )?(.+)", process.stderr, re.MULTILINE)
        raise UserError(f"{refusal}: {'; '.join(reasons)}")
    return process
