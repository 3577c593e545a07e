"""Signals to a run that is still starting: it stops with status 75, whatever the moment."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.launch import ROOT, clean_environment, gtcbmuf, program, run

SIGNALLED = ROOT / "tests/support/signalled.py"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("signals") / "corpus.h5"
    write_corpus(path)
    return path


def train(corpus: Path, out: Path, epochs: int) -> list[str]:
    settings = (f"corpus.path={corpus}", "model.hidden=[8]", f"train.epochs={epochs}")
    words = [word for setting in settings for word in ("--set", setting)]
    return ["train", "sync-sgd", *words, "--out", str(out)]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    "when", ["gtcbmuf.cli.train", "mpi4py.MPI", "MPI_Init", "gtcbmuf.training.run"]
)
def test_a_signal_during_the_start_stops_the_run(
    when: str, ranks: int, corpus: Path, tmp_path: Path
) -> None:
    words = train(corpus, tmp_path / "run", 300)
    launcher = (program("mpirun"), "-n", str(ranks)) if ranks > 1 else ()
    done = run(*launcher, sys.executable, SIGNALLED, when, str(ranks - 1), *words, timeout=60)
    assert done.returncode == 75, done.stderr
    messages = [line for line in done.stderr.splitlines() if line.startswith("gtcbmuf: ")]
    assert len(messages) == 1
    if when != "MPI_Init":  # that signal may come later
        assert messages[0] == (
            "gtcbmuf: stopped by SIGUSR1 before the first step; the same command with --resume "
            "continues the run"
        )
        assert not (tmp_path / "run").exists()
    if (when, ranks) == ("mpi4py.MPI", 2):
        done = gtcbmuf(*train(corpus, tmp_path / "run", 1), "--resume", ranks=ranks)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "run/summary.json").exists()


LATE = """
import os, signal, sys
from gtcbmuf.base.signals import remember_stop_signals

class Late:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGUSR1):
        kill(process, number)

late = Late()
remember_stop_signals()
sys.exit(75)
"""


def test_a_signal_during_the_exit_leaves_the_status() -> None:
    assert run(sys.executable, "-c", LATE).returncode == 75


@pytest.mark.parametrize("nohup", [False, True])
def test_a_closed_terminal_stops_a_run(nohup: bool, corpus: Path, tmp_path: Path) -> None:
    """It sends SIGHUP, which does nothing under nohup."""
    out = tmp_path / "run"
    process = subprocess.Popen(
        [*(["nohup"] if nohup else []), program("gtcbmuf"), *train(corpus, out, 100_000)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        text=True,
    )

    def wait_for(epochs: int) -> None:
        metrics = out / "metrics.jsonl"
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < epochs:
            assert process.poll() is None
            time.sleep(0.01)

    try:
        wait_for(1)
        process.send_signal(signal.SIGHUP)
        if nohup:
            wait_for(200)
            process.send_signal(signal.SIGUSR1)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 75
    [line] = error.splitlines()
    assert line.startswith(f"gtcbmuf: stopped by {'SIGUSR1' if nohup else 'SIGHUP'} after step ")


WRITING = """
import signal, sys, time
from pathlib import Path
from gtcbmuf.base.files import replacing
from gtcbmuf.cli import compare, main

def run(options):
    with replacing(Path("out/a.ark")) as temporary:
        temporary.write_text("half")
        print("writing", flush=True)
        time.sleep(60)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in the background
compare.run = run
sys.argv = ["gtcbmuf", "compare", "a.json", "--baseline", "b.json"]
main.main()
"""


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stopped_command_leaves_no_part_of_a_file(kind: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        cwd=tmp_path,
        text=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "writing\n"
        process.send_signal(kind)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 128 + kind
    end = "interrupted" if kind == signal.SIGINT else f"stopped by {kind.name}"
    assert error == f"gtcbmuf: {end}\n"
    assert list((tmp_path / "out").iterdir()) == []
