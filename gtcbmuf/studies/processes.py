"""A training run as a separate job: start, signals, progress, last message."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from gtcbmuf.base.files import writing
from gtcbmuf.base.output import format_duration
from gtcbmuf.base.signals import stop_kinds
from gtcbmuf.mpi import launcher

_STOPPING = b"\nstopping after this step, with a checkpoint; repeat to stop at once\n"


@dataclass(frozen=True)
class ProcessEnd:
    """The end of a process.

    Attributes:
        status: exit status.
        interrupted: whether a signal to this process stopped it.
    """

    status: int
    interrupted: bool


def training_command(workers: int, arguments: Sequence[str], cores: int) -> list[str]:
    """Return the command that starts `gtcbmuf train` with a number of workers.

    A worker is a rank if it has a core, or if this Slurm job has several hosts. Otherwise ranks
    carry several workers each. One rank needs neither launcher nor MPI.

    Args:
        workers: number of workers.
        arguments: arguments of `gtcbmuf`.
        cores: number of cores of this machine.

    Raises:
        UserError: mpirun is needed, and not installed.

    Examples:
        >>> training_command(7, ["train", "gtc"], cores=2)[1:]
        ['train', 'gtc', '--workers', '7']
    """
    ranks = max(number for number in range(1, cores + 1) if workers % number == 0)
    if launcher.spans_hosts():
        ranks = workers
    launch = launcher.mpirun(ranks) if ranks > 1 else []
    carried = ["--workers", str(workers)] if ranks == 1 or ranks < workers else []
    return [*launch, launcher.program(), *arguments, *carried]


def run_training(
    workers: int, arguments: Sequence[str], log: Path, run_directory: Path
) -> ProcessEnd:
    """Run `gtcbmuf train` to its end, and append its output to a log.

    The first signal makes the run write a checkpoint and stop. The second one kills it.

    Args:
        workers: number of workers.
        arguments: arguments of `gtcbmuf`.
        log: path of the log.
        run_directory: directory of the run. Its metrics show the progress.

    Returns:
        Exit status, and whether a signal stopped the run.

    Raises:
        UserError: the log cannot be written, or mpirun is not installed.
    """
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    command = training_command(workers, arguments, len(os.sched_getaffinity(0)))
    with log.open("a", encoding="utf-8") as file, _caught_signals() as signals:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**launcher.settings(), **os.environ},
            start_new_session=True,  # so that a terminal's Ctrl-C reaches only this process
        )
        try:
            _follow(process, signals, run_directory)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    return ProcessEnd(process.returncode, bool(signals))


@contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """Catch the signals that stop a run. Yields a list of their numbers."""
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if not signals:
            with suppress(OSError):  # the terminal is gone
                os.write(2, _STOPPING)
        signals.append(number)

    handlers = {kind: signal.signal(kind, note) for kind in stop_kinds()}
    try:
        yield signals
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)


def _follow(process: subprocess.Popen[bytes], signals: Sequence[int], run_directory: Path) -> None:
    """Wait for a process, and stop it after a signal. On a terminal, show the run's progress."""
    on_terminal, begin = sys.stderr.isatty(), time.monotonic()
    while process.poll() is None:
        if len(signals) > 1:
            process.kill()
        elif signals:
            # After SIGUSR1, every mpirun gives its ranks time to write a checkpoint. It is repeated
            # because an mpirun that is just starting drops it.
            process.send_signal(signal.SIGUSR1)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
        if not on_terminal:
            continue
        try:
            lines = (run_directory / "metrics.jsonl").read_text().splitlines()
            last = json.loads(lines[-1])
            progress = f"{last['epoch']} epochs done, valid FER {last['fer_valid']:.2f} %"
        except (OSError, ValueError, LookupError, TypeError):
            progress = "in the first epoch"
        elapsed = format_duration(time.monotonic() - begin)
        print(f"\r\33[K  {elapsed}, {progress}", end="", file=sys.stderr)
    if on_terminal:
        print("\r\33[K", end="", file=sys.stderr, flush=True)


def last_message(log: Path) -> str:
    """Return the last message of `gtcbmuf` in a log; empty if there is none."""
    if not log.exists():
        return ""
    # Open MPI 5's mpirun ends some of its own messages with a NUL.
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\0", "").splitlines()
    return next((line for line in reversed(lines) if line.startswith("gtcbmuf: ")), "")
