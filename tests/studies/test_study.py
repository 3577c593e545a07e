"""Studies: no run is repeated, a signal interrupts them, and the same command goes on."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.launch import ROOT, clean_environment, gtcbmuf, run, wait_until
from support.studies import PRESET, result

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.studies.presets import RunSpec, choices_runs
from gtcbmuf.studies.results import read_results
from gtcbmuf.studies.settings_tables import format_choices
from gtcbmuf.studies.study import Study
from gtcbmuf.studies.synthesis import Synthesis
from gtcbmuf.training.outcome import Outcome, write_outcome

STUDYING = ROOT / "tests/support/studying.py"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "corpus.h5"
    write_corpus(path)
    return path


def start(corpus: Path, folder: Path, epochs: int) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, STUDYING, corpus, folder, str(epochs), timeout=100)


def test_what_failed_is_tried_again_and_what_is_done_is_not(corpus: Path, tmp_path: Path) -> None:
    done = start(corpus, tmp_path, 2)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "['sgd', 'sync-sgd', 'gtc']"
    assert "ended with status 1: gtcbmuf: training diverged" in done.stderr
    assert "ended with status 2: gtcbmuf: topology.group_size = 3" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("gtcbmuf: 1 of 4 runs failed: gtc-bmuf-2-")
    assert len(list((tmp_path / "runs").glob("*.log"))) == 4

    first = read_results(tmp_path / "results.csv")
    cells = [(row.method, row.workers, row.seed) for row in first]
    assert cells == [("sgd", 1, 0), ("sync-sgd", 2, 0), ("gtc", 2, 1)]
    assert first[0].density == 0 < first[2].density
    assert math.isnan(first[1].fer_valid)  # it diverged
    assert [math.isnan(row.fer_test) for row in first] == [False, True, True]  # only sgd is to test
    [summary] = (tmp_path / "runs").glob("sgd-*/summary.json")
    before = summary.stat().st_mtime_ns
    again = start(corpus, tmp_path, 2)
    assert again.returncode == 1
    assert again.stdout.count("seed") == 1  # only the one that failed
    assert str(read_results(tmp_path / "results.csv")) == str(first)
    assert summary.stat().st_mtime_ns == before

    other = start(corpus, tmp_path, 1)  # another configuration
    assert other.stdout.count("valid FER") == 3
    assert len(read_results(tmp_path / "results.csv")) == 6


def test_a_place_that_cannot_be_written_to(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    runs = [RunSpec("sgd", 1, 0, ("train.epochs=1",))]
    study = Study(runs, corpus, tmp_path / "file" / "runs", tmp_path / "results.csv")
    with pytest.raises(UserError, match=r"\.log: cannot be written: "):
        study.run()


def test_a_corpus_that_changed_while_a_study_ran(corpus: Path, tmp_path: Path) -> None:
    runs, places = (
        [RunSpec("sgd", 1, 0, ("train.epochs=1",))],
        (tmp_path / "runs", tmp_path / "r.csv"),
    )
    Study(runs, corpus, *places, digest=open_corpus(corpus).digest).run()
    (tmp_path / "r.csv").unlink()
    with pytest.raises(UserError, match=r"runs/sgd-1-\w*-seed0: was trained on another corpus"):
        Study(runs, corpus, *places, digest="of another").run()


def test_the_outcome_of_a_run_decides_and_not_its_log(corpus: Path, tmp_path: Path) -> None:
    logged, diverged = (RunSpec("sgd", 1, seed, ()) for seed in (0, 1))
    folder = tmp_path / "runs"
    for spec in (logged, diverged):
        out = folder / spec.name
        out.mkdir(parents=True)
        (out / "environment.json").write_text('{"commit": "c0ffee", "dirty": false}')
    (folder / f"{logged.name}.log").write_text("gtcbmuf: training diverged at step 3\n")
    write_outcome(folder / diverged.name, Outcome("diverged", 12.34, "training diverged"))
    study = Study([logged, diverged], corpus, folder, tmp_path / "results.csv")
    study.collect()
    [row] = study.results()
    assert (row.seed, row.seconds, row.steps) == (1, 12.3, 0)
    assert math.isnan(row.fer_valid)
    assert study.pending_runs() == [logged]


def test_a_corpus_that_was_made_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_corpus(path)
    study = Study([], path, tmp_path, tmp_path / "r.csv", synthesis=Synthesis("tiny", 0.2))
    for do in (study.run, lambda: study.submit("name")):
        with pytest.raises(UserError, match=r"corpus.h5: was made with hours = None, and the pre"):
            do()


def test_the_command_of_a_result_repeats_it(corpus: Path, tmp_path: Path) -> None:
    start(corpus, tmp_path, 1)
    for row in read_results(tmp_path / "results.csv")[::2]:
        out = tmp_path / row.method
        words = row.command.replace("--out RUN", f"--out {out}")
        done = run("bash", "-c", f". scripts/environment && {words}")
        assert done.returncode == 0, done.stderr
        summary = json.loads((out / "summary.json").read_text())
        assert round(summary["fer_valid"], 4) == row.fer_valid
        tested = summary["fer_test"] is not None
        assert tested == (row.method == "sgd") == ("test FER" in done.stdout)
        assert not tested or round(summary["fer_test"], 4) == row.fer_test


@pytest.fixture
def study(corpus: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A study that has written a checkpoint of its first run."""
    process = begun(corpus, tmp_path)
    wait_until(lambda: list((tmp_path / "runs").glob("sgd-*/checkpoints/step-*")), process)
    yield process
    for _ in range(2):  # if it has not ended
        process.send_signal(signal.SIGINT)
    process.communicate()


def begun(corpus: Path, tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(STUDYING), str(corpus), str(tmp_path), "1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        text=True,
        cwd=ROOT,
    )


def ended(process: subprocess.Popen[str], log: Path) -> str:
    """What a study that was stopped told, once nothing of it is left."""
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75
    assert error.splitlines()[-1].endswith("was stopped; the same command goes on")
    assert "Traceback" not in error
    deadline = time.monotonic() + 10  # a rank of Open MPI's notices within a second
    while processes(log):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return log.read_text()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_the_same_command_goes_on(
    kind: int, study: subprocess.Popen[str], corpus: Path, tmp_path: Path
) -> None:
    [log] = (tmp_path / "runs").glob("sgd-*.log")
    study.send_signal(kind)
    assert "gtcbmuf: stopped by SIGUSR1 after step" in ended(study, log)  # with a checkpoint
    assert not read_results(tmp_path / "results.csv")
    again = begun(corpus, tmp_path)
    wait_until(lambda: "resumed from" in log.read_text(), again)
    again.send_signal(signal.SIGTERM)
    ended(again, log)


def test_a_second_signal_ends_a_run_that_stands_still(
    study: subprocess.Popen[str], tmp_path: Path
) -> None:
    [log] = (tmp_path / "runs").glob("sgd-*.log")
    [rank] = [line for line in processes(log) if " -n 1 " not in line]  # no launcher
    os.kill(int(rank.split()[0]), signal.SIGSTOP)
    study.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        study.wait(2)
    study.send_signal(signal.SIGINT)
    assert "stopped by" not in ended(study, log)


def processes(log: Path) -> list[str]:
    """Those of the run that has this log: process id and command line."""
    out, lines = str(log.with_suffix("")), []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            lines.append(f"{path.parent.name} {command}")
    return [line for line in lines if out in line]


def test_choices_are_compared_with_the_first() -> None:
    runs = choices_runs(PRESET)
    results = [
        result("gtc", 8, seed, fer, config=run.fingerprint)
        for run, fers in zip(runs, ([40.0], [42.0, 44.0]), strict=True)
        for seed, fer in enumerate(fers)
    ]
    lines = format_choices(PRESET, results).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [
        ["exchange.tau=1", "gtc 8", "1", "41.00", "+0.0"],
        ["train.momentum=0.5", "gtc 8", "2", "44.00 ± 1.41", "+7.3"],
    ]
    assert len(format_choices(PRESET, []).splitlines()) == 2
    [_, _, alone] = format_choices(PRESET, results[1:]).splitlines()
    assert alone.split("|")[1:-1][-1].strip() == ""  # the first has no result yet
    results[2] = result("gtc", 8, 1, math.nan, config=runs[1].fingerprint)
    assert "±" not in format_choices(PRESET, results)
    results[0] = result("gtc", 8, 0, -1, config=runs[0].fingerprint)  # a valid FER of 0
    assert format_choices(PRESET, results[:1]).splitlines()[-1].split("|")[-2].strip() == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tuning", "--seeds", "1"], "--seeds: only with error-table, not tuning"),
        (["speedup-table", "--slurm"], "--slurm: only with tuning, choices, error-table"),
        (
            ["choices", "--cluster", "x.toml"],
            "--cluster: only with speedup-table, trade-off, not choices",
        ),
        (["tuning", "--dry-run"], "--dry-run: only with --slurm"),
        (["error-table", "--seeds", "1", "1"], "--seeds 1 1: expected numbers from 0, each once"),
        (["error-table", "--seeds", "-1"], "--seeds -1: expected numbers from 0, each once"),
        (["choices", "--preset", "full"], "full: has no [[choices]] to compare"),
    ],
)
def test_an_option_of_another_study_is_refused(words: list[str], says: str) -> None:
    done = gtcbmuf("reproduce", *words)
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith(f"gtcbmuf: {says}")


def test_a_folder_for_results_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = gtcbmuf("reproduce", "tuning", "--results", tmp_path / "file", cwd=tmp_path)
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith(f"gtcbmuf: --results {tmp_path}/file/quick: cannot be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # no corpus was made
