"""A run of a study as a process: signals reach it, also while its mpirun is starting."""

import os
import sys
from pathlib import Path

import pytest

from gtcbmuf.mpi import launcher
from gtcbmuf.studies.processes import run_training

#: An mpirun that drops the first signal, as one that is starting does.
STARTING = """
import os, signal, sys
count = 0
def note(*_):
    global count
    count += 1
    if count == 2:
        sys.exit(75)
signal.signal(signal.SIGUSR1, note)
signal.alarm(20)
os.kill(os.getppid(), signal.SIGINT)
while True:
    signal.pause()
"""


def test_an_mpirun_that_drops_a_signal_gets_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(launcher, "mpirun", lambda workers: [sys.executable, "-c", STARTING])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    end = run_training(2, [], tmp_path / "log", tmp_path)
    assert (end.status, end.interrupted) == (75, True)
