"""Ends a stalled job, and names the rank that the other ranks wait for.

When a rank dies, the launcher ends the job. A rank that hangs would keep the other ranks waiting
until the job's time limit. Causes are a stopped process, or a file system or device that hangs. So
each rank has two threads. One records the rank's progress in the run directory. The other watches
the clock, and touches no file that could make it hang as well.

If all ranks were stopped, such as by a suspended node, each begins to count anew.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gtcbmuf.base.files import write_text
from gtcbmuf.base.output import warn
from gtcbmuf.mpi import launcher

#: Parts of a step in which a rank waits for others.
WAITING = ("communicate", "filter")
#: Seconds that the reporting rank has to end the job before another rank does.
_PRECEDENCE = 10


class Watchdog:
    """Watches one rank. Use it in a `with` statement.

    Args:
        folder: folder for the files of all ranks. It is created, and the last rank removes it.
        rank, ranks: number of this rank, and number of all ranks.
        patience: seconds without a call of `step` until the job ends.
        part: function that returns the rank's current part of a step, as in
            `gtcbmuf.core.meter`. The name is empty between parts.
    """

    def __init__(
        self, folder: Path, rank: int, ranks: int, patience: float, part: Callable[[], str]
    ) -> None:
        self._folder, self._rank, self._ranks = folder, rank, ranks
        self._patience, self._part = patience, part
        self._report = folder / "report"
        self._interval = min(patience / 10, 30)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._watch, self._record)
        ]
        self.step(0)

    def __enter__(self) -> "Watchdog":
        self._report.unlink(missing_ok=True)  # report of an earlier job
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._file(self._rank).unlink(missing_ok=True)
        with suppress(OSError):  # other ranks still use it
            self._folder.rmdir()

    def step(self, done: int) -> None:
        """Record that this rank makes progress and has finished `done` steps of the run."""
        self._done, self._since = done, time.monotonic()

    def _file(self, rank: int) -> Path:
        return self._folder / f"rank-{rank:05}"

    def _record(self) -> None:
        while not self._stop.wait(self._interval):
            with suppress(OSError):  # a full disk must not end the job
                write_text(self._file(self._rank), f"{self._done} {self._part()}")

    def _watch(self) -> None:
        begin = time.monotonic()
        while not self._stop.wait(self._interval):
            now = time.monotonic()
            if now - begin > 3 * self._interval:  # this process was stopped, as probably all were
                self._since = now
            begin = now
            if (idle := now - self._since) > self._patience:
                reporter = threading.Thread(target=self._report_stall, args=(idle,), daemon=True)
                reporter.start()
                reporter.join(2 * _PRECEDENCE)
                if reporter.is_alive():
                    warn(
                        f"gtcbmuf: no step for {idle:.0f} s (train.patience): the file system of "
                        f"{self._folder} does not answer"
                    )
                os._exit(1)  # the launcher ends the other ranks, whatever their state

    def _report_stall(self, idle: float) -> None:
        if self._is_first():
            warn(f"gtcbmuf: no step for {idle:.0f} s (train.patience): {self._culprits()}")
            launcher.wait_until_read()
        else:
            time.sleep(_PRECEDENCE)

    def _is_first(self) -> bool:
        """Return whether this rank is the first to report the stall."""
        try:
            self._report.touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:
            pass
        return True

    def _culprits(self) -> str:
        silent, busy = [], []
        now = time.time()
        for rank in range(self._ranks):
            try:
                file = self._file(rank)
                age = now - file.stat().st_mtime
                done, _, part = file.read_text().partition(" ")
                step = int(done) + 1
            except (OSError, ValueError):
                silent.append(f"rank {rank} has not reported")
                continue
            if age > self._patience / 2:
                silent.append(f"rank {rank} has not reported for {age:.0f} s")
            elif part not in WAITING:
                busy.append(f"rank {rank} is in step {step} ({part or 'between parts'})")
        return "; ".join(silent or busy) or "all ranks wait for each other"
