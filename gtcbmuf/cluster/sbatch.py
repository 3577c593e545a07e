"""The text of a Slurm job: jobs/train.sbatch with options and arguments. No Slurm here.

The job files of the working directory come first, because users adapt them to their site. Where
there is none, the packaged file of the same name takes its place.
"""

import getpass
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.text import read_text

#: The script of a training job.
TEMPLATE = Path("jobs/train.sbatch")
#: The script of a job that makes a corpus.
CORPUS = Path("jobs/corpus.sbatch")
#: Folder of the packaged job files. In a checkout, it is a link to jobs/ at the top.
_PACKAGED = Path(__file__).with_name("jobs")
#: The packaged job files.
JOB_FILES = tuple(
    _PACKAGED / name
    for name in ("train.sbatch", "array.sbatch", "corpus.sbatch", "report.sbatch", "chain")
)
#: Options of sbatch that `gtcbmuf submit` takes.
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


def find_job_file(path: Path = TEMPLATE) -> Path:
    """Find a job file in the working directory, or else in the package.

    Args:
        path: path relative to the working directory.
    """
    return path if path.exists() else _PACKAGED / path.name


def describe_job_file() -> str:
    """Describe in one line which file of a training job `find_job_file` finds."""
    if find_job_file() == TEMPLATE:
        return f"job file: {TEMPLATE}"
    return f"job file: {TEMPLATE.name} of the package; to edit it for your site: gtcbmuf init DIR"


def read_template(path: Path = TEMPLATE) -> str:
    """Read the job file that `find_job_file` finds.

    Raises:
        UserError: the file cannot be read.
    """
    file = find_job_file(path)
    try:
        return read_text(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{file}: expected UTF-8: {error}") from None


def fill_array(template: str, name: str, workers: int, runs: Mapping[Path, Sequence[str]]) -> str:
    """Make the text of an array job, whose runs have the same number of workers.

    Args:
        template: text such as jobs/train.sbatch, whose --ntasks-per-node is the most workers that
            a node takes.
        name: name of the job.
        workers: N.
        runs: arguments of `gtcbmuf train` for each run, by the run's log file.

    Raises:
        UserError: the template has an invalid layout.
    """
    _, per_node = layout(template)
    nodes = -(-workers // per_node)
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
    begin = _first_command(lines)
    dispatch = [f"export SLURM_NTASKS={workers}", "case $SLURM_ARRAY_TASK_ID in", *cases, "esac"]
    return "\n".join([*lines[:begin], *dispatch, *lines[begin:]]) + "\n"


def fill(template: str, options: Mapping[str, str], arguments: Sequence[str]) -> str:
    """Make the text of a job from a template, options of sbatch and arguments.

    Args:
        template: text such as jobs/train.sbatch.
        options: options of sbatch, among `OPTIONS`. They replace those of the template, including
            those that ## comments out.
        arguments: arguments of `gtcbmuf train`, which replace "$@".

    Raises:
        UserError: an option's value is no single word, or the template has no "$@".

    Examples:
        >>> print(fill('#SBATCH --nodes=1\\ngtcbmuf train "$@"', {"nodes": "4"}, ["gtc"]), end="")
        #SBATCH --nodes=4
        gtcbmuf train gtc
    """
    if _TRAIN not in template:
        raise UserError(f"{TEMPLATE}: has no {_TRAIN!r} to be filled in")
    text = "\n".join(_with_options(template, options)) + "\n"
    return text.replace(_TRAIN, f"gtcbmuf train {shlex.join(arguments)}")


def _with_options(template: str, options: Mapping[str, str]) -> list[str]:
    """Lines of a template with other options, as in `fill`.

    Raises:
        UserError: an option's value is no single word.
    """
    for name, value in options.items():
        if not re.fullmatch(r"[^\s\"'\\#]+", value):
            raise UserError(f"--{name} {value!r}: expected a word without blanks, quotes, \\ and #")
    lines, pending = [], dict(options)
    for line in template.splitlines():
        line_options = _parse_options(line)
        if len(line_options) == 1 and line_options[0][0] in options:
            name, _ = line_options[0]
            if name in pending:
                lines.append(f"#SBATCH --{name}={pending.pop(name)}")
        else:
            lines.append(line)
    # sbatch reads no option after the first command. The last of several equal options counts.
    head = lines[: _first_command(lines)]
    end = max((n for n, line in enumerate(head, 1) if line.startswith("#SBATCH")), default=1)
    lines[end:end] = [f"#SBATCH --{name}={value}" for name, value in pending.items()]
    return lines


def _first_command(lines: Sequence[str]) -> int:
    """Index of a job's first command."""
    commands = (n for n, line in enumerate(lines) if line and not line.startswith("#"))
    return next(commands, len(lines))


def _parse_options(line: str) -> list[tuple[str, str | None]]:
    """Long names and values of the options in a line for sbatch, or in one that ## comments out."""
    match = re.match(r"##?SBATCH\s+(.*)", line)
    try:
        words = shlex.split(match[1], comments=True) if match else []
    except ValueError:  # an unclosed quote, which sbatch reports
        words = []
    options: list[tuple[str, str | None]] = []
    for word in words:
        if long := re.fullmatch(r"--([a-z-]+)(?:=(.*))?", word):
            options.append((long[1], long[2]))
        elif (short := re.fullmatch(r"-([A-Za-z])(.*)", word)) and short[1] in _SHORT:
            options.append((_SHORT[short[1]], short[2].removeprefix("=") or None))
        elif options and options[-1][1] is None:
            options[-1] = options[-1][0], word
    return options


def option(text: str, name: str) -> str | None:
    """Value of an option of sbatch in a job's text; None if the text does not set it.

    Examples:
        >>> option("#SBATCH --nodes=2\\n#SBATCH -N 3", "nodes")
        '3'
    """
    value = None
    for line in text.splitlines():
        if line.startswith("#SBATCH"):
            value = next((text for key, text in _parse_options(line) if key == name), value)
    return value


def option_names(text: str) -> set[str]:
    """Names of the options of sbatch that a job's text sets.

    Examples:
        >>> sorted(option_names("#SBATCH --nodes=2 -t 1\\n##SBATCH --qos=a"))
        ['nodes', 'time']
    """
    lines = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    return {name for line in lines for name, _ in _parse_options(line)}


def layout(text: str) -> tuple[int, int]:
    """Nodes, and workers per node, of a job's text.

    Raises:
        UserError: one of them is missing, or no number.
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
    """Path of the file that a job writes its output to.

    Args:
        text: text of the job.
        number: number of the job.
    """
    pattern = option(text, "output") or "slurm-%j.out"
    values = {
        "%": "%",
        "A": number,
        "j": number,
        "u": getpass.getuser(),
        "x": option(text, "job-name") or "sbatch",
    }
    return re.sub(r"%([%Ajux])", lambda match: values[match[1]], pattern)
