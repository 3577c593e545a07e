"""Studies: no run is repeated; a signal interrupts a study, and the same command continues it."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
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


def run_study(corpus: Path, folder: Path, epochs: int) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, STUDYING, corpus, folder, str(epochs), timeout=100)


def test_only_failed_runs_are_repeated(corpus: Path, tmp_path: Path) -> None:
    process = run_study(corpus, tmp_path, 2)
    assert process.returncode == 1
    assert process.stdout.splitlines()[-1] == "['sgd', 'sync-sgd', 'gtc']"
    assert "ended with status 1: gtcbmuf: training diverged" in process.stderr
    assert "ended with status 2: gtcbmuf: topology.group_size = 3" in process.stderr
    last_line = process.stderr.splitlines()[-1]
    assert last_line.startswith("gtcbmuf: 1 of 4 runs failed: gtc-bmuf-2-")
    assert len(list((tmp_path / "runs").glob("*.log"))) == 4

    rows = read_results(tmp_path / "results.csv")
    cells = [(row.method, row.workers, row.seed) for row in rows]
    assert cells == [("sgd", 1, 0), ("sync-sgd", 2, 0), ("gtc", 2, 1)]
    assert rows[0].density == 0 < rows[2].density
    assert math.isnan(rows[1].fer_valid)  # the run diverged
    assert [math.isnan(row.fer_test) for row in rows] == [False, True, True]  # only sgd has a test
    [summary] = (tmp_path / "runs").glob("sgd-*/summary.json")
    before = summary.stat().st_mtime_ns
    process = run_study(corpus, tmp_path, 2)
    assert process.returncode == 1
    assert process.stdout.count("seed") == 1  # only the failed run
    assert str(read_results(tmp_path / "results.csv")) == str(rows)
    assert summary.stat().st_mtime_ns == before

    process = run_study(corpus, tmp_path, 1)  # another configuration
    assert process.stdout.count("valid FER") == 3
    assert len(read_results(tmp_path / "results.csv")) == 6


def test_a_log_that_cannot_be_written_is_a_user_error(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    runs = [RunSpec("sgd", 1, 0, ("train.epochs=1",))]
    study = Study(runs, corpus, tmp_path / "file" / "runs", tmp_path / "results.csv")
    with pytest.raises(UserError, match=r"\.log: cannot be written: "):
        study.run()


def test_a_run_on_another_corpus_is_refused(corpus: Path, tmp_path: Path) -> None:
    runs = [RunSpec("sgd", 1, 0, ("train.epochs=1",))]
    folder, file = tmp_path / "runs", tmp_path / "results.csv"
    Study(runs, corpus, folder, file, digest=open_corpus(corpus).digest).run()
    file.unlink()
    with pytest.raises(UserError, match=r"runs/sgd-1-\w*-seed0: was trained on another corpus"):
        Study(runs, corpus, folder, file, digest="another digest").run()


def test_results_come_from_outcomes_and_not_from_logs(corpus: Path, tmp_path: Path) -> None:
    run_with_log, run_with_outcome = (RunSpec("sgd", 1, seed, ()) for seed in (0, 1))
    folder = tmp_path / "runs"
    for spec in (run_with_log, run_with_outcome):
        out = folder / spec.name
        out.mkdir(parents=True)
        (out / "environment.json").write_text('{"commit": "c0ffee", "dirty": false}')
    (folder / f"{run_with_log.name}.log").write_text("gtcbmuf: training diverged at step 3\n")
    write_outcome(folder / run_with_outcome.name, Outcome("diverged", 12.34, "training diverged"))
    study = Study([run_with_log, run_with_outcome], corpus, folder, tmp_path / "results.csv")
    study.collect()
    [row] = study.results()
    assert (row.seed, row.seconds, row.steps) == (1, 12.3, 0)
    assert math.isnan(row.fer_valid)
    assert study.pending_runs() == [run_with_log]


def test_a_corpus_of_another_synthesis_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_corpus(path)
    study = Study([], path, tmp_path, tmp_path / "results.csv", synthesis=Synthesis("tiny", 0.2))
    message = r"corpus.h5: was synthesised with hours = None, but the preset has 0.2;"
    for start in (study.run, lambda: study.submit("name")):
        with pytest.raises(UserError, match=message):
            start()


def test_the_command_of_a_result_repeats_the_run(corpus: Path, tmp_path: Path) -> None:
    run_study(corpus, tmp_path, 1)
    for row in read_results(tmp_path / "results.csv")[::2]:
        out = tmp_path / row.method
        words = row.command.replace("--out RUN", f"--out {out}")
        process = run("bash", "-c", f". scripts/environment && {words}")
        assert process.returncode == 0, process.stderr
        summary = json.loads((out / "summary.json").read_text())
        assert round(summary["fer_valid"], 4) == row.fer_valid
        has_test = summary["fer_test"] is not None
        assert has_test == (row.method == "sgd") == ("test FER" in process.stdout)
        assert not has_test or round(summary["fer_test"], 4) == row.fer_test


@pytest.fixture
def study(corpus: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Process of a study that has written a checkpoint of its first run."""
    process = start_study(corpus, tmp_path)
    wait_until(lambda: list((tmp_path / "runs").glob("sgd-*/checkpoints/step-*")), process)
    yield process
    for _ in range(2):  # in case the process is still running
        process.send_signal(signal.SIGINT)
    process.communicate()


def start_study(corpus: Path, tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(STUDYING), str(corpus), str(tmp_path), "1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        text=True,
        cwd=ROOT,
    )


def log_of_stopped_study(process: subprocess.Popen[str], log: Path) -> str:
    """Wait until no process of a stopped study is left; return the log of its run."""
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75
    assert error.splitlines()[-1].endswith("was stopped; the same command continues")
    assert "Traceback" not in error
    deadline = time.monotonic() + 10  # ranks of Open MPI need up to a second to end
    while processes(log):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return log.read_text()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_a_study_and_the_same_command_continues_it(
    kind: int, study: subprocess.Popen[str], corpus: Path, tmp_path: Path
) -> None:
    [log] = (tmp_path / "runs").glob("sgd-*.log")
    study.send_signal(kind)
    # The run stops with a checkpoint.
    assert "gtcbmuf: stopped by SIGUSR1 after step" in log_of_stopped_study(study, log)
    assert not read_results(tmp_path / "results.csv")
    process = start_study(corpus, tmp_path)
    wait_until(lambda: "resumed from" in log.read_text(), process)
    process.send_signal(signal.SIGTERM)
    log_of_stopped_study(process, log)


def test_a_second_signal_kills_a_run_that_hangs(
    study: subprocess.Popen[str], tmp_path: Path
) -> None:
    [log] = (tmp_path / "runs").glob("sgd-*.log")
    [rank] = [line for line in processes(log) if " -n 1 " not in line]  # without the launcher
    os.kill(int(rank.split()[0]), signal.SIGSTOP)
    study.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        study.wait(2)
    study.send_signal(signal.SIGINT)
    assert "stopped by" not in log_of_stopped_study(study, log)


def processes(log: Path) -> list[str]:
    """Process ids and command lines of the run with this log."""
    out, lines = str(log.with_suffix("")), []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # the process has ended
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            lines.append(f"{path.parent.name} {command}")
    return [line for line in lines if out in line]


def test_choices_that_share_a_run_train_it_once(tmp_path: Path) -> None:
    runs = choices_runs(replace(PRESET, choices=2 * PRESET.choices))
    study = Study(runs, tmp_path / "c.h5", tmp_path, tmp_path / "choices.csv")
    assert [run.name for run in study.pending_runs()] == [run.name for run in runs[:2]]


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
    [_, _, row] = format_choices(PRESET, results[1:]).splitlines()
    assert row.split("|")[1:-1][-1].strip() == ""  # the first setting has no result yet
    results[2] = result("gtc", 8, 1, math.nan, config=runs[1].fingerprint)
    [*_, row] = format_choices(PRESET, results).splitlines()
    assert [cell.strip() for cell in row.split("|")[3:-1]] == ["2", "diverged", ""]
    results[0] = result("gtc", 8, 0, -1, config=runs[0].fingerprint)  # a valid FER of 0
    assert format_choices(PRESET, results[:1]).splitlines()[-1].split("|")[-2].strip() == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tuning", "--seeds", "1"], "--seeds: only with error-table, not tuning"),
        (["speedup-table", "--slurm"], "--slurm: only with tuning, choices, error-table"),
        (
            ["choices", "--cluster", "x.toml"],
            "--cluster: only with speedup-table, trade-off, comparison, not choices",
        ),
        (["tuning", "--dry-run"], "--dry-run: only with --slurm"),
        (["error-table", "--seeds", "1", "1"], "--seeds 1 1: expected different integers from 1 t"),
        (["error-table", "--seeds", "0"], "--seeds 0: expected different integers from 1 to 2^62"),
        (["error-table", "--seeds", "-1"], "--seeds -1: expected different integers from 1 to"),
        (["choices", "--preset", "full"], "full: no table [[choices]]"),
    ],
)
def test_an_invalid_option_of_a_study_is_refused(words: list[str], message: str) -> None:
    process = gtcbmuf("reproduce", *words)
    [line] = process.stderr.splitlines()
    assert (process.returncode, process.stdout) == (2, "")
    assert line.startswith(f"gtcbmuf: {message}")


def test_a_results_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = gtcbmuf("reproduce", "tuning", "--results", tmp_path / "file", cwd=tmp_path)
    [line] = process.stderr.splitlines()
    assert (process.returncode, process.stdout) == (2, "")
    assert line.startswith(f"gtcbmuf: --results {tmp_path}/file/quick: cannot be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # no corpus was synthesised
