"""Ends a job that stands still, and tells which rank the others wait for.

A rank that dies ends its job through its launcher. One that stops answering (a process that was
stopped, a file system or a device that hangs) would leave the others waiting until the job's time
is up. So each rank has a thread that writes down, in the run directory, how far the rank has come.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gtcbmuf.base.files import write_text
from gtcbmuf.mpi import launcher

#: Parts of a step in which a rank waits for others.
_WAITING = ("communicate", "filter")
#: Seconds that the rank that tells of it has to end the job.
_PRECEDENCE = 10


class Watchdog:
    """Watches over one rank, in a `with` block.

    Args:
        folder: for the files of all ranks; is made, and removed by whoever is last.
        rank, ranks: this one, of how many.
        patience: seconds without a `step` until the job ends.
        part: tells what the rank does now: a part of `gtcbmuf.core.meter`, or nothing.
    """

    def __init__(
        self, folder: Path, rank: int, ranks: int, patience: float, part: Callable[[], str]
    ) -> None:
        self._folder, self._rank, self._ranks = folder, rank, ranks
        self._patience, self._part = patience, part
        self._report = folder / "told"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.step(0)

    def __enter__(self) -> "Watchdog":
        self._report.unlink(missing_ok=True)  # of an earlier job
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._file(self._rank).unlink(missing_ok=True)
        with suppress(OSError):  # others are still there
            self._folder.rmdir()

    def step(self, done: int) -> None:
        """Take note that this rank goes on; `done` steps of the run are behind it."""
        self._done, self._since = done, time.monotonic()

    def _file(self, rank: int) -> Path:
        return self._folder / f"rank-{rank:05}"

    def _watch(self) -> None:
        while not self._over.wait(min(self._patience / 10, 30)):
            with suppress(OSError):  # a full disk is no reason to end
                write_text(self._file(self._rank), f"{self._done} {self._part()}")
            idle = time.monotonic() - self._since
            if idle > self._patience:
                if self._is_first():
                    print(
                        f"gtcbmuf: no step for {idle:.0f} s (train.patience): {self._culprits()}",
                        file=sys.stderr,
                        flush=True,
                    )
                    launcher.wait_until_read()
                else:
                    time.sleep(_PRECEDENCE)
                os._exit(1)  # the launcher ends the others, whatever state they are in

    def _is_first(self) -> bool:
        """Whether no other rank tells of it."""
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
            except OSError:
                silent.append(f"rank {rank} has not been heard of")
                continue
            if age > self._patience / 2:
                silent.append(f"rank {rank} has not been heard of for {age:.0f} s")
            elif part not in _WAITING:
                busy.append(f"rank {rank} is in step {int(done) + 1} ({part or 'no part'})")
        return "; ".join(silent or busy) or "all ranks wait for each other"
