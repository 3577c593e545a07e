"""Training runs as Slurm jobs: jobs/train.sbatch, filled in and handed to sbatch."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gtcbmuf import config
from gtcbmuf.errors import UserError

#: What is filled in. It is the user's own, with the modules and the environment of the site.
TEMPLATE = Path("jobs/train.sbatch")
#: Makes a corpus.
CORPUS = Path("jobs/corpus.sbatch")
#: Options of sbatch that a job's text may be given.
OPTIONS = (
    "account",
    "partition",
    "qos",
    "reservation",
    "constraint",
    "nodes",
    "ntasks-per-node",
    "cpus-per-task",
    "mem",
    "time",
    "job-name",
    "output",
    "dependency",
    "mail-user",
    "mail-type",
)
_SHORT = {
    "A": "account",
    "a": "array",
    "C": "constraint",
    "c": "cpus-per-task",
    "d": "dependency",
    "J": "job-name",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "p": "partition",
    "q": "qos",
    "t": "time",
}
_TRAIN = 'gtcbmuf train "$@"'


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
    chosen = config.load(source, assignments)
    template = read()
    nodes, per_node = layout(fill(template, options, []))
    config.group_size(chosen, nodes * per_node, [per_node] * nodes)
    # Jobs with other settings get directories of their own; the same command goes on with its own.
    kind = f"{Path(chosen.corpus.path).stem}-{config.fingerprint(chosen)[:6]}"
    out = out or Path("runs") / f"{config.run_name(chosen, nodes * per_node)}-{kind}"
    assigned = [word for assignment in assignments for word in ("--set", assignment)]
    return Job(fill(template, options, [source, *assigned, "--out", str(out)]), out)


def read(path: Path = TEMPLATE) -> str:
    """The text of a job of this checkout.

    Raises:
        UserError: it is not there.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise UserError(f"{path} cannot be read here; submit from the checkout") from None


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
        f"to follow it: tail -F {shlex.quote(log(job.text, number))}; squeue --job {number}\n"
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
    read(CORPUS)
    return _number(_sbatch("", "--parsable", str(CORPUS), *arguments))


def queued(name: str) -> list[str]:
    """The numbers of the user's jobs of that name that are waiting or running.

    Raises:
        UserError: Slurm does not answer.
    """
    words = ["squeue", "--me", "--noheader", f"--name={name}", "--format=%i"]
    return _ask(words, "", "Slurm does not answer").stdout.split()


def array(template: str, name: str, workers: int, runs: Mapping[Path, Sequence[str]]) -> str:
    """The text of an array of runs with the same number of workers.

    Args:
        template: as jobs/train.sbatch. Its nodes have place for as many workers as it says.
        name: of the job.
        workers: N.
        runs: the log of each run, and what `gtcbmuf train` gets.

    Raises:
        UserError: the template cannot be filled in.
    """
    _, most = layout(template)
    nodes = -(-workers // most)
    options = {
        "array": f"0-{len(runs) - 1}",
        "nodes": str(nodes),
        "ntasks-per-node": str(-(-workers // nodes)),
        "job-name": name,
        "output": f"{next(iter(runs)).parent}/%x-%A_%a.log",
    }
    lines = _with_options(template, options)
    cases = [
        f"    {number}) exec >>{shlex.quote(str(log))} 2>&1; set -- {shlex.join(arguments)} ;;"
        for number, (log, arguments) in enumerate(runs.items())
    ]
    begin = _begin(lines)
    chosen = [f"GTCBMUF_WORKERS={workers}", "case $SLURM_ARRAY_TASK_ID in", *cases, "esac"]
    return "\n".join([*lines[:begin], *chosen, *lines[begin:]]) + "\n"


def fill(template: str, options: Mapping[str, str], arguments: Sequence[str]) -> str:
    """The text of a job: a template with other options, and with what `gtcbmuf train` gets.

    Args:
        template: as jobs/train.sbatch.
        options: of sbatch, among `OPTIONS`; in place of the template's, also of those that ##
            keeps from Slurm.
        arguments: of `gtcbmuf train`, in place of "$@".

    Raises:
        UserError: a value that a line of the text cannot hold, or a template without "$@".
    """
    if _TRAIN not in template:
        raise UserError(f"{TEMPLATE}: has no {_TRAIN!r} to be filled in")
    text = "\n".join(_with_options(template, options)) + "\n"
    return text.replace(_TRAIN, f"gtcbmuf train {shlex.join(arguments)}")


def _with_options(template: str, options: Mapping[str, str]) -> list[str]:
    """The lines of a job's text with other options; as `fill` has them.

    Raises:
        UserError: a value that a line of the text cannot hold.
    """
    for name, value in options.items():
        if not re.fullmatch(r"[^\s\"'\\#]+", value):
            raise UserError(f"--{name} {value!r}: expected a word without blanks, quotes, \\ and #")
    lines, left = [], dict(options)
    for line in template.splitlines():
        told = _told(line)
        if len(told) == 1 and told[0][0] in options:
            name, _ = told[0]
            if name in left:
                lines.append(f"#SBATCH --{name}={left.pop(name)}")
        else:
            lines.append(line)
    # sbatch reads no option behind the first command, and of one that is there twice the last.
    head = lines[: _begin(lines)]
    end = max((n for n, line in enumerate(head, 1) if line.startswith("#SBATCH")), default=1)
    lines[end:end] = [f"#SBATCH --{name}={value}" for name, value in left.items()]
    return lines


def _begin(lines: Sequence[str]) -> int:
    """Where a job's commands begin."""
    commands = (n for n, line in enumerate(lines) if line and not line.startswith("#"))
    return next(commands, len(lines))


def _told(line: str) -> list[tuple[str, str | None]]:
    """The options, by their long names, and values of a line for sbatch, or one that ## keeps."""
    found = re.match(r"##?SBATCH\s+(.*)", line)
    try:
        words = shlex.split(found[1], comments=True) if found else []
    except ValueError:  # quotes that do not end: sbatch will say so
        words = []
    told: list[tuple[str, str | None]] = []
    for word in words:
        if long := re.fullmatch(r"--([a-z-]+)(?:=(.*))?", word):
            told.append((long[1], long[2]))
        elif (short := re.fullmatch(r"-([A-Za-z])(.*)", word)) and short[1] in _SHORT:
            told.append((_SHORT[short[1]], short[2].removeprefix("=") or None))
        elif told and told[-1][1] is None:
            told[-1] = told[-1][0], word
    return told


def option(text: str, name: str) -> str | None:
    """What a job's text says of an option."""
    said = None
    for line in text.splitlines():
        if line.startswith("#SBATCH"):
            said = next((value for key, value in _told(line) if key == name), said)
    return said


def layout(text: str) -> tuple[int, int]:
    """Nodes, and workers of each, that a job's text asks for.

    Raises:
        UserError: one of them is no number.
    """
    numbers = []
    for name in ("nodes", "ntasks-per-node"):
        value = option(text, name)
        if value is None:
            raise UserError(f"--{name}: is neither given nor in {TEMPLATE}")
        if not re.fullmatch(r"[1-9]\d{0,6}", value):
            raise UserError(f"--{name} {value}: expected a number")
        numbers.append(int(value))
    return numbers[0], numbers[1]


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


def log(text: str, number: str) -> str:
    """The file that the job with that number and text writes to."""
    pattern = option(text, "output") or "slurm-%j.out"
    return pattern.replace("%x", option(text, "job-name") or "sbatch").replace("%j", number)
