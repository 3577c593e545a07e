"""Training runs as Slurm jobs: what `gtcbmuf.cluster.sbatch` writes is submitted here."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.cluster.sbatch import (
    CORPUS,
    describe_job_file,
    fill,
    find_job_file,
    layout,
    log_path,
    option_names,
    read_template,
)
from gtcbmuf.config.loading import load_config
from gtcbmuf.config.schema import fingerprint, resolve_group_size, run_name

#: Variables of sbatch, without SBATCH_, that are not named after their option.
_VARIABLES = {
    "array": ["ARRAY_INX"],
    "mem": ["MEM_PER_CPU", "MEM_PER_GPU", "MEM_PER_NODE"],
    "requeue": ["NO_REQUEUE", "REQUEUE"],
    "time": ["TIMELIMIT"],
}
#: Variables that say how to reach Slurm.
_OF_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")


@dataclass(frozen=True)
class Job:
    """A training run as a Slurm job.

    Attributes:
        text: script for sbatch.
        out: run directory.
        origin: one line that names the job file.
    """

    text: str
    out: Path
    origin: str


def make_job(
    source: str, assignments: Sequence[str], out: Path | None, options: Mapping[str, str]
) -> Job:
    """Make a job from the jobs/train.sbatch of the working directory, or the packaged one.

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
    text = fill(template, options, [source, *settings, "--out", str(out)])
    return Job(text, out, describe_job_file())


def check(job: Job) -> str:
    """Check a job with `sbatch --test-only`, if Slurm can be asked.

    Returns:
        The answer of sbatch, or a line that says why it was not asked.

    Raises:
        UserError: Slurm would refuse the job.
    """
    if shutil.which("sbatch") is None:
        return "there is no sbatch here that could be asked about this job"
    if failure := _ping():
        return f"not checked, because Slurm's controller cannot be reached: {failure}"
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
        Lines with the job's number, its job file, and commands to follow and to stop it.

    Raises:
        UserError: Slurm is not installed, or refuses the job.
    """
    would_take(job.text)
    number = enqueue(job.text)
    nodes, per_node = layout(job.text)
    return (
        f"job {number}: {nodes} x {per_node} workers -> {job.out}\n"
        f"{job.origin}\n"
        f"to follow it: tail -F {shlex.quote(log_path(job.text, number))}; squeue --job {number}\n"
        f"to stop it with a checkpoint: scancel {number}; the same command continues it"
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
    """Submit jobs/corpus.sbatch of the working directory, or the packaged one.

    Args:
        arguments: arguments of `gtcbmuf corpus`.

    Returns:
        The number of the job.

    Raises:
        UserError: Slurm is not installed, or refuses the job.
    """
    text, file = read_template(CORPUS), find_job_file(CORPUS)
    return _number(_sbatch(text, "--parsable", str(file), *arguments))


def queued(name: str) -> list[str]:
    """Numbers of the user's waiting and running jobs of that name.

    Raises:
        UserError: Slurm does not answer.
    """
    words = ["squeue", "--me", "--noheader", f"--name={name}", "--format=%i"]
    return _call(words, "", "Slurm does not answer").stdout.split()


def _ping() -> str:
    """Return why Slurm's controller does not answer; empty if it does."""
    if shutil.which("scontrol") is None:
        return ""
    # sbatch itself would try again for many seconds.
    process = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
    lines = (process.stderr + process.stdout).splitlines()
    return (lines[0] if lines else f"status {process.returncode}") if process.returncode else ""


def _number(process: subprocess.CompletedProcess[str]) -> str:
    return process.stdout.strip().partition(";")[0]


def _sbatch(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    variables = submission_environment(text, os.environ)
    # Slurm gives the job this PATH, so the job finds the gtcbmuf that submitted it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    command = ["sbatch", *options]
    return _call(command, text, "Slurm does not take this job", {**variables, "PATH": path})


def submission_environment(text: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for sbatch, without those that would change the job.

    A variable of sbatch would override an option of the text, and those of a job in which this
    process runs would reach the srun of the new one.

    Args:
        text: text of the job.
        environment: variables of this process.

    Examples:
        >>> submission_environment("#SBATCH --time=1", {"SBATCH_TIMELIMIT": "9", "SBATCH_QOS": "a"})
        {'SBATCH_QOS': 'a'}
    """
    names = option_names(text)
    overriding = {
        f"SBATCH_{variable}"
        for name in names
        for variable in _VARIABLES.get(name, [name.upper().replace("-", "_")])
    }
    is_in_job = "SLURM_JOB_ID" in environment
    return {
        name: value
        for name, value in environment.items()
        if name not in overriding
        and not (is_in_job and name.startswith("SLURM_") and name not in _OF_CLUSTER)
    }


def _call(
    words: list[str], text: str, refusal: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's programs.

    Args:
        words: the command line.
        text: the program's input.
        refusal: start of the message if the program fails.
        environment: the program's variables; by default those of this process.

    Raises:
        UserError: the program is not installed, or fails; its errors become one line.
    """
    if shutil.which(words[0]) is None:
        raise UserError(f"there is no {words[0]} on PATH; --dry-run shows the jobs")
    process = subprocess.run(words, input=text, capture_output=True, text=True, env=environment)
    if process.returncode:
        reasons = re.findall(r"^(?:\w+: (?:error|fatal): )?(.+)", process.stderr, re.MULTILINE)
        raise UserError(f"{refusal}: {'; '.join(reasons)}")
    return process
