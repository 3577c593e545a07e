"""Ranks that carry several workers: the bits of as many ranks, without a launcher or MPI."""

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.corpora import write_corpus
from support.every_method import METHODS
from support.launch import (
    ROOT,
    clean_environment,
    gtcbmuf,
    mpirun,
    program,
    run,
    wait_until,
)

WORKERS = 4
#: Ranks of a job by its form, and whether they carry the workers. 0: no launcher, and no MPI.
FORMS = {"one process": (0, True), "two ranks": (2, True), "a rank each": (WORKERS, False)}
WITHOUT_MPI = {"MPI4PY_LIBMPI": "/nonexistent"}
#: Only these add floats: a rank each in the order that the MPI library chooses.
FLOAT_SUMS = {"sync-sgd", "powersgd", "powersgd-diloco"}
RESUMED = METHODS.keys() - FLOAT_SUMS - {"sync-sgd-overlap"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("carried") / "tiny.h5"
    write_corpus(path)
    return path


def train_all(form: str, corpus: Path, out: Path, *options: str) -> Path:
    ranks, carries = FORMS[form]
    words: list[str | Path] = [sys.executable, ROOT / "tests/support/every_method.py", corpus, out]
    words += [*options, *(["--workers", str(WORKERS)] if carries else [])]
    done = mpirun(ranks, *words) if ranks else run(*words, env=WITHOUT_MPI)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of every method in every form."""
    folder = tmp_path_factory.mktemp("whole")
    return {form: train_all(form, corpus, folder / form) for form in FORMS}


def facts(run_directory: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary and metrics without what depends on the clock and the machine."""

    def lasting(line: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in line.items() if "second" not in k and k != "peak_resident_mib"}

    lines = (run_directory / "metrics.jsonl").read_text().splitlines()
    summary = json.loads((run_directory / "summary.json").read_text())
    return lasting(summary), [lasting(json.loads(line)) for line in lines]


@pytest.mark.parametrize("method", METHODS)
def test_all_forms_have_the_same_bits(method: str, whole: dict[str, Path]) -> None:
    one, two, ranks = (facts(whole[form] / method) for form in FORMS)
    assert one == two
    assert one[0]["workers"] == WORKERS
    if method in FLOAT_SUMS:
        assert one[0]["fer_valid"] == pytest.approx(ranks[0]["fer_valid"], abs=1)
    else:
        assert one == ranks


@pytest.mark.parametrize(
    ("before", "after"),
    [("one process", "a rank each"), ("a rank each", "two ranks")],
)
def test_one_form_resumes_the_checkpoints_of_another(
    before: str, after: str, whole: dict[str, Path], corpus: Path, tmp_path: Path
) -> None:
    train_all(before, corpus, tmp_path, "--stop")
    assert all(list((tmp_path / method / "checkpoints").glob("step-*")) for method in RESUMED)
    train_all(after, corpus, tmp_path, "--resume")
    for method in RESUMED:
        assert facts(tmp_path / method) == facts(whole[after] / method), method
        environment = json.loads((tmp_path / method / "environment.json").read_text())
        assert len(environment["resumed"]) == 1


def test_a_run_says_how_its_workers_shared_the_machine(whole: dict[str, Path]) -> None:
    environment, metrics = {}, {}
    for form in FORMS:
        folder = whole[form] / "hybrid"
        environment[form] = json.loads((folder / "environment.json").read_text())
        metrics[form] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
        assert len(environment[form]["host_of_rank"]) == WORKERS
        # A worker that waits for another one of its process waits for its computation.
        assert ("seconds_by_part" in metrics[form]) == (form == "a rank each")
    assert [environment[form]["ranks"] for form in FORMS] == [1, 2, WORKERS]
    assert environment["one process"]["mpi"] == "none"


def settings(corpus: Path, *more: str) -> list[str]:
    words = ("train.minibatch=16", "model.hidden=[24]", "train.epochs=2", f"corpus.path={corpus}")
    return [argument for word in (*words, *more) for argument in ("--set", word)]


def test_a_study_of_runs_on_few_cores_reports_that_workers_share_them(
    corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    hybrid = ("train", "gtc-bmuf", "--out", out, "--workers", "64", "--no-test")
    done = gtcbmuf(*hybrid, *settings(corpus, "topology.group_size=8"), env=WITHOUT_MPI)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gtc-bmuf: 64 workers (8 x 8), ")
    report = gtcbmuf("report", out, env=WITHOUT_MPI)
    assert re.search(
        r"Up to 64 workers shared \d+ cores, so frames/s measures no sp", report.stdout
    )


FAULT = """
import sys
from gtcbmuf.mpi import launcher

fault, corpus, out = sys.argv[1:]
world = launcher.start(alone=True)
from gtcbmuf.data.minibatches import Minibatches
from gtcbmuf.mpi.job import job
from gtcbmuf.training import run, worker_run

steps = 0

class Damaged(Minibatches):
    def __getitem__(self, step):
        global steps
        steps += self._first == 1500  # worker 2 of 4
        inputs, targets = super().__getitem__(step)
        if steps == 9 and self._first == 1500:
            if fault == "hangs":
                import time
                time.sleep(60)
            inputs[0, 0] = float("inf")
        return inputs, targets

worker_run.Minibatches = Damaged
settings = ["train.minibatch=16", "model.hidden=[24]", "train.patience=0.07"]
with job(world):
    run.train("gtc", [*settings, f"corpus.path={corpus}"], out, world=world, workers=4)
"""


@pytest.mark.parametrize("ranks", [0, 2])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("sends infinity", "training diverged in epoch 1: .* on worker 2;"),
        ("hangs", r"no step for \d+ s .*: rank {} is in step 9 \(read\)"),
    ],
)
def test_a_fault_names_where_it_is(
    fault: str, message: str, ranks: int, corpus: Path, tmp_path: Path
) -> None:
    words = (sys.executable, "-c", FAULT, fault, str(corpus), str(tmp_path / "run"))
    done = mpirun(ranks, *words) if ranks else run(*words)
    assert done.returncode != 0
    [line] = [line for line in done.stderr.splitlines() if line.startswith("gtcbmuf: ")]
    assert re.match("gtcbmuf: " + message.format(1 if ranks else 0), line), line


def test_a_process_may_hold_few_files(corpus: Path, tmp_path: Path) -> None:
    words = ("train", "gtc-bmuf", "--out", tmp_path / "run", "--workers", "100", "--no-test")
    command = [program("gtcbmuf"), *words, *settings(corpus, "topology.group_size=10")]
    done = run("sh", "-c", f"ulimit -n 64; {shlex.join(map(str, command))}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_run_that_diverges_names_the_worker(ranks: int, corpus: Path, tmp_path: Path) -> None:
    words = settings(corpus, "train.learning_rate=1e8", "train.warmup=0", "train.momentum=0.5")
    run = ("train", "sync-sgd", "--out", tmp_path / "run", "--workers", "4")
    done = gtcbmuf(*run, *words, ranks=ranks)
    assert done.returncode != 0
    [line] = [line for line in done.stderr.splitlines() if line.startswith("gtcbmuf: ")]
    assert re.match(r"gtcbmuf: training diverged in epoch 1: .* worker [0-3];", line), line
    outcome = json.loads((tmp_path / "run/outcome.json").read_text())
    assert outcome["state"] == "diverged"
    again = gtcbmuf(*run, *settings(corpus), ranks=ranks)
    assert again.returncode == 0, again.stderr  # the directory is not locked


def test_a_signal_stops_all_workers_with_a_checkpoint(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train", "gtc-bmuf", "--out", str(out), "--workers", "4", "--no-test")
    more = settings(corpus, "topology.group_size=2", "train.checkpoint_every=5 steps")
    process = subprocess.Popen(
        [program("gtcbmuf"), *words, *more, "--set", "train.epochs=9999"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean_environment(), **WITHOUT_MPI},
    )
    wait_until(lambda: list(out.glob("checkpoints/step-*")), process)
    process.send_signal(signal.SIGUSR1)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75
    stopped = re.fullmatch(
        r"gtcbmuf: stopped by SIGUSR1 after step \d+ of epoch (\d+); .*--resume.*\n", error
    )
    assert stopped, error
    last = f"train.epochs={stopped[1]}"
    done = gtcbmuf(*words[:4], "--no-test", "--resume", *more, "--set", last, ranks=4)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "summary.json").read_text())["epochs"] == int(stopped[1])


@pytest.mark.parametrize("ranks", [0, 2])
def test_an_exception_in_one_worker_ends_the_job(ranks: int, corpus: Path, tmp_path: Path) -> None:
    words = ("train", "gtc-bmuf", "--out", tmp_path / "run", "--workers", "4")
    faulty = (sys.executable, ROOT / "tests/support/faulty.py", "raises", "0")
    words = (*faulty, *words, *settings(corpus, "topology.group_size=2"))
    done = mpirun(ranks, *words) if ranks else run(*words)
    assert done.returncode != 0
    assert done.stderr.count("ArithmeticError: a fault") == 1
    assert f"rank 0 of {ranks or 1} failed:" in done.stderr


@pytest.mark.parametrize(
    ("ranks", "workers", "message"),
    [
        (0, "0", "--workers 0: expected 1 or more"),
        (0, "-4", "--workers -4: expected 1 or more"),
        (2, "3", "--workers 3: expected a multiple of this job's 2 ranks"),
        (0, "100000", "--workers 100000: they would take about "),
    ],
)
def test_a_number_of_workers_that_cannot_be_is_refused_in_one_line(
    ranks: int, workers: str, message: str, corpus: Path, tmp_path: Path
) -> None:
    more = ["model.hidden=[1000, 1000]"] if workers == "100000" else []
    words = ("train", "gtc", "--out", tmp_path / "run", "--workers", workers)
    done = gtcbmuf(*words, *settings(corpus, *more), ranks=ranks)
    assert done.returncode == 2
    # Open MPI's mpirun adds lines of its own.
    [line] = [line for line in done.stderr.splitlines() if line.startswith("gtcbmuf: ")]
    assert line.startswith(f"gtcbmuf: {message}"), line
    assert not (tmp_path / "run").exists()
