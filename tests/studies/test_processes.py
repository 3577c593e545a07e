"""A run of a study as a process: signals reach it, also while its mpirun is starting."""

import os
import sys
from pathlib import Path

import pytest

from gtcbmuf.mpi import launcher
from gtcbmuf.studies.processes import run_training, training_command

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


@pytest.mark.parametrize(
    ("workers", "cores", "ranks"),
    [
        (1, 2, 1),
        (2, 2, 2),
        (128, 2, 2),
        (7, 2, 1),
        (9, 4, 3),
        (8, 16, 8),
        (16, 16, 16),
        (32, 16, 16),
    ],
)
def test_ranks_have_a_core_each_and_carry_all_workers(
    workers: int, cores: int, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "mpirun", lambda ranks: ["mpirun", str(ranks)])
    command = training_command(workers, ["train", "gtc"], cores)
    assert ranks == (int(command[1]) if command[0] == "mpirun" else 1)
    carried = command[command.index("--workers") + 1] if "--workers" in command else str(ranks)
    assert int(carried) == workers


def test_a_worker_is_a_rank_in_a_slurm_job_of_several_hosts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    monkeypatch.setattr(launcher, "mpirun", lambda ranks: ["mpirun", str(ranks)])
    assert training_command(8, ["train"], 2) == ["mpirun", "8", launcher.program(), "train"]


def test_an_mpirun_that_drops_a_signal_gets_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(launcher, "mpirun", lambda workers: [sys.executable, "-c", STARTING])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    end = run_training(2, [], tmp_path / "log", tmp_path)
    assert (end.status, end.interrupted) == (75, True)
