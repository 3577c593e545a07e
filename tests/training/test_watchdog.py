"""The watchdog, in two processes that are stopped and continued."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.launch import wait_until

PATIENCE = 1.0
#: A rank that makes no step until it reads a line.
RANK = f"""
import sys
from pathlib import Path
from gtcbmuf.training.watchdog import Watchdog

with Watchdog(Path(sys.argv[1]), int(sys.argv[2]), 2, {PATIENCE}, lambda: "communicate") as dog:
    for done, _ in enumerate(sys.stdin, 1):
        dog.step(done)
"""


@pytest.fixture
def ranks(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    with ExitStack() as stack:
        processes = []
        for rank in range(2):
            process = subprocess.Popen(
                [sys.executable, "-c", RANK, str(tmp_path / "alive"), str(rank)],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        for rank, process in enumerate(processes):
            wait_until((tmp_path / f"alive/rank-{rank:05}").exists, process)
        yield processes


def step(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def wait_for_reports(process: subprocess.Popen[str], file: Path) -> None:
    """Wait until a watchdog has written two further reports."""
    for _ in range(2):
        last = file.stat().st_ino  # each report is a new file
        wait_until(lambda last=last: file.stat().st_ino != last, process)


def test_ranks_that_were_stopped_together_go_on(
    ranks: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    for process in ranks:
        process.send_signal(signal.SIGSTOP)
    time.sleep(1.5 * PATIENCE)
    for process in ranks:
        process.send_signal(signal.SIGCONT)
    for rank, process in enumerate(ranks):
        wait_for_reports(process, tmp_path / f"alive/rank-{rank:05}")
        step(process)
    for process in ranks:
        _, error = process.communicate()
        assert (process.returncode, error) == (0, "")


def test_one_stopped_rank_is_found(ranks: list[subprocess.Popen[str]]) -> None:
    ranks[1].send_signal(signal.SIGSTOP)
    assert ranks[0].wait(timeout=60) == 1
    assert ranks[0].stderr is not None
    assert "(train.patience): rank 1 has not reported for " in ranks[0].stderr.read()


HANGS = f"""
import sys, threading, time
from pathlib import Path
from gtcbmuf.training import watchdog

def hang(*arguments, **options):
    threading.Event().wait()

watchdog._PRECEDENCE = 0.2
if sys.argv[2] == "all files":
    watchdog.write_text = Path.touch = hang
with watchdog.Watchdog(Path(sys.argv[1]), 0, 1, {PATIENCE / 2}, lambda: "compute"):
    if sys.argv[2] == "damaged":
        watchdog.write_text = lambda file, text: file.write_text("odd")
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("none", "rank 0 is in step 1 (compute)"),
        ("all files", "the file system of {} does not answer"),
        ("damaged", "rank 0 has not reported"),
    ],
)
def test_a_job_ends_whatever_its_files_do(tmp_path: Path, fault: str, cause: str) -> None:
    (tmp_path / "alive").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(tmp_path / "alive"), fault],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    line = r"gtcbmuf: no step for \d+ s \(train.patience\): "
    assert re.fullmatch(line + re.escape(cause.format(tmp_path / "alive")) + "\n", done.stderr)
