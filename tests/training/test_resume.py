"""A resumed run ends with the same bits as an uninterrupted one."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.corpora import write_corpus
from support.launch import clean_environment, gtcbmuf, program, wait_until

from gtcbmuf.base.errors import UserError
from gtcbmuf.config.loading import load_config
from gtcbmuf.training.checkpoint_files import read_checkpoint
from gtcbmuf.training.resume import is_finished

#: Ranks by recipe: one worker, the hybrid, and two that add floats. test_workers_per_rank.py stops
#: and resumes every other exchange and block filter.
RANKS = {"sgd": 1, "sync-sgd": 2, "gtc-bmuf": 4, "powersgd": 2}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resume") / "corpus.h5"
    write_corpus(path, train_frames=12000)
    return path


def command(method: str, corpus: Path, out: Path, *more: str) -> list[str]:
    assignments = [
        *(f"corpus.path={corpus}", "model.hidden=[300, 200]", "model.context=2", "train.epochs=5"),
        *("exchange.tau=1", "block_filter.period=7", "block_filter.nesterov=true"),
        *("train.momentum=0.5", "train.learning_rate=1e-3", "train.checkpoint_every=13 steps"),
        *(["topology.group_size=2", "exchange.density=0.02"] if method == "gtc-bmuf" else []),
        *more,
    ]
    return [
        *("train", method, "--out", str(out)),
        *(word for setting in assignments for word in ("--set", setting)),
    ]


def summary(out: Path) -> dict[str, Any]:
    """Return the summary without the values that depend on the clock."""
    content: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return {key: value for key, value in content.items() if "second" not in key}


def metrics(out: Path) -> list[dict[str, Any]]:
    """Return the metrics without the values that depend on the machine."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if "second" not in k and k != "peak_resident_mib"}
        for line in lines
    ]


def start(words: list[str], ranks: int, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [program("mpirun"), "-n", str(ranks), program("gtcbmuf"), *words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        text=True,
        start_new_session=True,
    )


def has_checkpoint(out: Path, after: int) -> bool:
    """Return whether a run has a checkpoint of step `after` or of a later step."""
    return any(int(path.name[5:]) >= after for path in (out / "checkpoints").glob("step-*"))


def cut(words: list[str], ranks: int, out: Path, *, after: int, by: int) -> int:
    """Start a run, signal its launcher after a checkpoint of step `after`; return its status."""
    process = start(words, ranks)
    wait_until(lambda: has_checkpoint(out, after), process)
    if by == signal.SIGKILL:
        os.killpg(process.pid, by)
        for rank in processes_of(out):  # Open MPI's outlive their mpirun by a moment
            with suppress(ProcessLookupError):
                os.kill(rank, by)
    else:
        process.send_signal(by)
    process.communicate(timeout=60)
    return process.returncode


@pytest.mark.parametrize("method", RANKS)
def test_a_killed_and_resumed_run_ends_like_an_uninterrupted_one(
    method: str, corpus: Path, tmp_path: Path
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    done = gtcbmuf(*command(method, corpus, whole), ranks=RANKS[method])
    assert done.returncode == 0, done.stderr
    assert not (whole / "checkpoints").exists()

    words = [*command(method, corpus, part), "--resume"]
    steps = 12000 // 64 // RANKS[method]  # steps in an epoch
    cut(words, RANKS[method], part, after=steps + 13, by=signal.SIGKILL)
    assert not (part / "summary.json").exists()
    done = gtcbmuf(*words, ranks=RANKS[method])
    assert done.returncode == 0, done.stderr
    assert "resumed from" in done.stdout
    assert summary(part) == summary(whole)
    assert metrics(part) == metrics(whole)
    environment = json.loads((part / "environment.json").read_text())
    assert len(environment["resumed"]) == 1

    again = gtcbmuf(*words, "--set", "train.patience=7", ranks=RANKS[method])
    assert again.stdout == f"{part}: this run is already finished\n"


@pytest.fixture(scope="module")
def stopped(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped by SIGUSR1."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    words = command("gtc-bmuf", corpus, out, "train.epochs=200")
    status = cut(words, 4, out, after=60, by=signal.SIGUSR1)  # in epoch 2, or later
    assert status == 75
    assert len(list((out / "checkpoints").iterdir())) == 2
    return out


def test_a_run_directory_in_use_is_refused(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = command("gtc", corpus, out, "train.epochs=1000")
    first = start(words, 2)
    wait_until(lambda: has_checkpoint(out, 13), first)
    others = [start([*words, *more], 2) for more in ([], ["--resume"])]
    errors = [other.communicate(timeout=60)[1] for other in others]
    first.send_signal(signal.SIGUSR1)
    first.communicate(timeout=60)
    assert [process.returncode for process in (first, *others)] == [75, 2, 2]
    for error in errors:
        [line] = [line for line in error.splitlines() if line.startswith("gtcbmuf: ")]
        assert f"--out {out}: in use by another job" in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def resume(stopped: Path, folder: Path, corpus: Path, *more: str, ranks: int = 4) -> Any:
    """Resume a copy of the stopped run."""
    out = folder / "run"
    shutil.copytree(stopped, out)
    return gtcbmuf(*command("gtc-bmuf", corpus, out, *more), "--resume", ranks=ranks)


def newest_checkpoint(out: Path) -> Path:
    return max((out / "checkpoints").iterdir())


def epochs(stopped: Path, more: int) -> str:
    """Set the number of epochs to the one that was stopped and `more` further ones."""
    return f"train.epochs={read_checkpoint(newest_checkpoint(stopped)).shared['epoch'] + 1 + more}"


def test_the_number_of_epochs_may_change(stopped: Path, corpus: Path, tmp_path: Path) -> None:
    done = resume(stopped, tmp_path, corpus, epochs(stopped, 1))
    assert done.returncode == 0, done.stderr
    assert metrics(tmp_path / "run")[-1]["epoch"] == int(epochs(stopped, 1)[13:])


@pytest.fixture(scope="module")
def whole(stopped: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stopped run with one more epoch, uninterrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = gtcbmuf(*command("gtc-bmuf", corpus, out, epochs(stopped, 1)), ranks=4)
    assert done.returncode == 0, done.stderr
    return out


def damage_rank(checkpoint: Path) -> None:
    data = bytearray((checkpoint / "rank-00002.h5").read_bytes())
    data[-100] ^= 1
    (checkpoint / "rank-00002.h5").write_bytes(data)


def test_an_earlier_checkpoint_replaces_a_damaged_one(
    stopped: Path, whole: Path, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    damaged = newest_checkpoint(out)
    damage_rank(damaged)
    words = command("gtc-bmuf", corpus, out, epochs(stopped, 1))
    done = gtcbmuf(*words, "--resume", ranks=4)
    assert done.returncode == 0, done.stderr
    assert f"{damaged}/rank-00002.h5: damaged checkpoint" in done.stderr
    assert summary(out) == summary(whole)


def test_a_run_is_left_as_it_is_if_no_checkpoint_is_usable(
    stopped: Path, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    older, newest = sorted((out / "checkpoints").iterdir())
    damage_rank(newest)
    (older / "manifest.json").unlink()
    before = contents(tmp_path)
    done = gtcbmuf(*command("gtc-bmuf", corpus, out, "train.epochs=200"), "--resume", ranks=4)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = [line for line in done.stderr.splitlines() if line.startswith("gtcbmuf: ")]
    assert f"{newest}/rank-00002.h5: damaged checkpoint: " in line
    assert f"{older}: damaged checkpoint: no manifest.json; there is no other checkpoint" in line
    assert contents(tmp_path) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_a_checkpoint_is_enough_to_resume(
    damage: str, stopped: Path, whole: Path, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(stopped, out)
    for path in out.iterdir():
        if path.is_file():
            path.unlink() if damage == "lost" else path.write_bytes(b"[\xff")
    done = gtcbmuf(*command("gtc-bmuf", corpus, out, epochs(stopped, 1)), "--resume", ranks=4)
    assert done.returncode == 0, done.stderr
    assert summary(out) == summary(whole)
    assert metrics(out) == metrics(whole)
    earlier = (stopped / "metrics.jsonl").read_bytes()
    assert (out / "metrics.jsonl").read_bytes().startswith(earlier)
    before, after = (json.loads((run / "environment.json").read_text()) for run in (stopped, out))
    [resumption] = after.pop("resumed")
    assert before == after
    assert resumption["epoch"] == json.loads(epochs(stopped, 0)[13:])
    assert (out / "config.toml").read_bytes() == (whole / "config.toml").read_bytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", b"[]"),
        ("summary.json", b'{"workers": "4"}'),
        ("summary.json", b"\xff"),
        ("summary.json", b"{}"),
        ("config.toml", b"["),
    ],
)
def test_a_damaged_file_of_a_finished_run_is_named(
    name: str, content: bytes, whole: Path, tmp_path: Path
) -> None:
    for path in (whole / "config.toml", whole / "summary.json"):
        shutil.copy(path, tmp_path)
    config = load_config(str(tmp_path / "config.toml"))
    assert is_finished(tmp_path, 4, config)  # without an environment.json, too
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path))}/{name}: [^\n]+$"):
        is_finished(tmp_path, 4, config)


def test_a_run_directory_with_too_long_a_name_is_refused_in_one_line(
    corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / ("x" * 300)
    done = gtcbmuf(*command("sgd", corpus, out), "--resume")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"gtcbmuf: --out {out}: cannot be read: File name too long\n"


@pytest.mark.parametrize(
    ("more", "ranks", "message"),
    [
        (["topology.group_size=1"], 2, "was written by 4 workers, but this job has 2"),
        (["topology.group_size=4"], 4, "topology.group_size = 2, but this job has 4"),
        (["model.hidden=[24]"], 4, "model.hidden = [300, 200], but this job has [24]"),
        (["exchange.tau=2"], 4, "exchange.tau = 1.0, but this job has 2.0"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(
    stopped: Path, corpus: Path, tmp_path: Path, more: list[str], ranks: int, message: str
) -> None:
    folder = tmp_path / "damaged"  # this name must not count as a damaged checkpoint
    done = resume(stopped, folder, corpus, epochs(stopped, 1), *more, ranks=ranks)
    messages = [line for line in done.stderr.splitlines() if line.startswith("gtcbmuf: ")]
    assert done.returncode == 2
    assert len(messages) == 1
    assert message in messages[0]
    assert "--resume-weights" in messages[0]


def test_fewer_epochs_than_the_checkpoint_has_are_refused(
    stopped: Path, corpus: Path, tmp_path: Path
) -> None:
    done = resume(stopped, tmp_path, corpus, "train.epochs=1")
    assert done.returncode == 2
    assert "train.epochs = 1: expected " in done.stderr


def test_another_corpus_is_refused(stopped: Path, corpus: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "other.h5", train_frames=12000, seed=1)
    done = resume(stopped, tmp_path, tmp_path / "other.h5", "train.epochs=200")
    assert done.returncode == 2
    assert "was written with a corpus other than" in done.stderr
    (tmp_path / "moved").mkdir()
    shutil.copy(corpus, tmp_path / "moved/corpus.h5")
    shutil.rmtree(tmp_path / "run")
    done = resume(stopped, tmp_path, tmp_path / "moved/corpus.h5", epochs(stopped, 0))
    assert done.returncode == 0, done.stderr


def test_a_finished_run_of_another_configuration_is_refused(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = command("gtc", corpus, out, "train.epochs=1")
    assert gtcbmuf(*words, ranks=2).returncode == 0
    before = (out / "summary.json").read_bytes()
    for method, ranks, more, message in (
        ("gtc", 2, "exchange.tau=2", "exchange.tau = 1.0, but this job has 2.0"),
        ("gtc", 2, "train.epochs=2", "train.epochs = 1, but this job has 2"),
        ("gtc", 4, "train.epochs=1", "workers = 2, but this job has 4"),
        ("sync-sgd", 2, "train.epochs=1", "exchange.kind = gtc, but this job has dense"),
    ):
        words = command(method, corpus, out, "train.epochs=1", more)
        done = gtcbmuf(*words, "--resume", ranks=ranks)
        assert done.returncode == 2
        messages = [line for line in done.stderr.splitlines() if line.startswith("gtcbmuf: ")]
        assert len(messages) == 1
        assert f"--out {out}: holds a finished run with {message}" in messages[0]
        assert (out / "summary.json").read_bytes() == before


def test_saved_weights_start_a_new_run(corpus: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert gtcbmuf(*command("gtc", corpus, first), ranks=2).returncode == 0
    weights = ("--resume-weights", first / "model.h5")
    done = gtcbmuf(*command("gtc-bmuf", corpus, second, "train.epochs=1"), *weights, ranks=4)
    assert done.returncode == 0, done.stderr
    assert metrics(second)[0]["loss"] < metrics(first)[0]["loss"]
    done = gtcbmuf(*command("gtc", corpus, second, "model.hidden=[8]"), *weights, ranks=2)
    assert done.returncode == 2
    assert "--resume-weights" in done.stderr


def test_training_continues_without_checkpoints(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = command("gtc", corpus, out, "train.epochs=200")
    process = start(words, 2, stdout=subprocess.PIPE)
    try:
        while not (out / "checkpoints/step-00000013").exists():
            time.sleep(0.002)
        # A file in place of the folder: not even root can write a checkpoint.
        (out / "checkpoints").rename(out / "away")
        (out / "checkpoints").touch()
        assert process.stdout is not None
        for line in process.stdout:
            if "cannot be written" in line:
                assert "training continues without a checkpoint" in line
                break
        else:
            raise AssertionError("no message")
        for line in process.stdout:
            if line.startswith("epoch"):
                break
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_training_continues_without_metrics(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = command("gtc", corpus, out, "train.epochs=60", "train.checkpoint_every=never")
    process = start(words, 2, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        lines = iter(process.stdout)
        for line in lines:
            if line.startswith("epoch  2"):
                break
        while not (out / "metrics.jsonl").is_dir():
            (out / "metrics.jsonl").unlink(missing_ok=True)
            with suppress(FileExistsError):  # an epoch ended in between
                (out / "metrics.jsonl").mkdir()
        for line in lines:
            if "cannot be written" in line:
                break
        assert "metrics.jsonl: cannot be written: " in line
        (out / "metrics.jsonl").rmdir()
        assert any(line.startswith("test FER") for line in lines)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert [line["epoch"] for line in metrics(out)] == list(range(1, 61))


def test_unwritable_results_are_reported_once(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(command("gtc", corpus, out, "train.epochs=20"), 2, stdout=subprocess.PIPE)
    try:
        while not (out / "metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.002)
        (out / "model.h5").mkdir()
        _, error = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 2
    messages = [line for line in error.splitlines() if line.startswith("gtcbmuf: ")]
    assert messages == [f"gtcbmuf: {out}/model.h5: cannot be written: Is a directory"]
    assert not (out / "summary.json").exists()


def test_a_stopped_rank_is_named(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = command("gtc", corpus, out, "train.epochs=2000", "train.patience=0.05")
    process = start(words, 4)
    try:
        while len(list((out / "alive").glob("rank-*"))) < 4:
            assert process.poll() is None
            time.sleep(0.01)
        victim, rank = rank_of(out)
        os.kill(victim, signal.SIGSTOP)
        _, error = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    messages = [line for line in error.splitlines() if line.startswith("gtcbmuf: ")]
    assert len(messages) == 1
    assert re.search(
        rf"no step for \d+ s \(train.patience\): rank {rank} has not reported", messages[0]
    )


def processes_of(out: Path) -> list[int]:
    """Return the processes that have a run directory in their command line."""
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.fsencode(out) in (entry / "cmdline").read_bytes().split(b"\0"):
                processes.append(int(entry.name))
    return processes


def rank_of(out: Path) -> tuple[int, int]:
    """Return a process of a run and its rank, which is not 0."""
    for process in processes_of(out):
        for variable in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
            name, _, value = variable.partition(b"=")
            if name in (b"PMI_RANK", b"OMPI_COMM_WORLD_RANK") and value != b"0":
                return process, int(value)
    raise AssertionError("no rank is running")
