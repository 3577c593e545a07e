"""The text of a Slurm job: jobs/train.sbatch, filled in. Pure text: nothing here needs a Slurm."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from gtcbmuf.base.errors import UserError

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


def read_template(path: Path = TEMPLATE) -> str:
    """The text of a job of this checkout.

    Raises:
        UserError: it is not there.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise UserError(f"{path} cannot be read here; submit from the checkout") from None


def fill_array(template: str, name: str, workers: int, runs: Mapping[Path, Sequence[str]]) -> str:
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
    choice = [f"GTCBMUF_WORKERS={workers}", "case $SLURM_ARRAY_TASK_ID in", *cases, "esac"]
    return "\n".join([*lines[:begin], *choice, *lines[begin:]]) + "\n"


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
        stated = _options_of(line)
        if len(stated) == 1 and stated[0][0] in options:
            name, _ = stated[0]
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


def _options_of(line: str) -> list[tuple[str, str | None]]:
    """The options, by their long names, and values of a line for sbatch, or one that ## keeps."""
    match = re.match(r"##?SBATCH\s+(.*)", line)
    try:
        words = shlex.split(match[1], comments=True) if match else []
    except ValueError:  # quotes that do not end: sbatch will say so
        words = []
    stated: list[tuple[str, str | None]] = []
    for word in words:
        if long := re.fullmatch(r"--([a-z-]+)(?:=(.*))?", word):
            stated.append((long[1], long[2]))
        elif (short := re.fullmatch(r"-([A-Za-z])(.*)", word)) and short[1] in _SHORT:
            stated.append((_SHORT[short[1]], short[2].removeprefix("=") or None))
        elif stated and stated[-1][1] is None:
            stated[-1] = stated[-1][0], word
    return stated


def option(text: str, name: str) -> str | None:
    """What a job's text says of an option."""
    said = None
    for line in text.splitlines():
        if line.startswith("#SBATCH"):
            said = next((value for key, value in _options_of(line) if key == name), said)
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


def log_path(text: str, number: str) -> str:
    """The file that the job with that number and text writes to."""
    pattern = option(text, "output") or "slurm-%j.out"
    return pattern.replace("%x", option(text, "job-name") or "sbatch").replace("%j", number)
