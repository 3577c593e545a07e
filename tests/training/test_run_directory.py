"""Run directories: their files, earlier runs, and refused paths."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.corpora import write_corpus
from support.launch import ROOT, run

from gtcbmuf.base.errors import UserError
from gtcbmuf.config.loading import load_config
from gtcbmuf.config.schema import to_tables
from gtcbmuf.mpi.job import CollectiveError
from gtcbmuf.mpi.topology import Topology
from gtcbmuf.training import directory_claim
from gtcbmuf.training.run import train
from gtcbmuf.training.run_directory import RunDirectory
from gtcbmuf.training.run_files import read_run

PACKAGE = ROOT / "gtcbmuf"
RUN_FILES = {"environment.json", "config.toml"}


def finished_run(path: Path, seed: int = 0) -> None:
    directory = RunDirectory(path)
    directory.write_config({"train": {"seed": seed}})
    directory.write_environment({"mpi": "of this test", "hosts": {"h": {"cores": 2}}})
    for epoch in (1, 2):
        directory.append_metrics({"epoch": epoch, "loss": 1 / epoch})
    directory.write_summary({"method": "sgd", "seed": seed})


def refusal(path: Path, act: Any) -> str:
    """Return the message of an action that a path does not allow."""
    with pytest.raises(UserError) as error_info:
        act(path)
    message = str(error_info.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return message


def seed_of(path: Path) -> int:
    seed: int = read_run(path).summary["seed"]
    return seed


def test_a_run_reads_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "one"
    finished_run(path, seed=3)
    content = read_run(path)
    assert content.path == path
    assert content.summary == {"method": "sgd", "seed": 3}
    assert content.metrics == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}]
    assert content.environment["mpi"] == "of this test"
    assert content.environment["hosts"] == {"h": {"cores": 2}}
    assert sorted(file.name for file in path.iterdir()) == [
        ".lock",
        "config.toml",
        "environment.json",
        "metrics.jsonl",
        "summary.json",
    ]


def test_the_environment_has_command_and_versions(tmp_path: Path) -> None:
    finished_run(tmp_path / "run")
    environment = read_run(tmp_path / "run").environment
    assert environment["command"] == [Path(sys.argv[0]).name, *sys.argv[1:]]
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"gtcbmuf", "numpy", "numba", "h5py", "mpi4py", "msgspec"} <= set(
        environment["packages"]
    )
    assert all(pool["num_threads"] >= 1 for pool in environment["threads"])
    assert {"started", "platform", "processor", "commit", "dirty"} <= set(environment)


def test_the_config_can_be_loaded_again(tmp_path: Path) -> None:
    config = load_config("gtc-bmuf", ["corpus.path=Wörter.h5", "train.seed=5"])
    RunDirectory(tmp_path / "run").write_config(to_tables(config))
    assert load_config(str(tmp_path / "run" / "config.toml")) == config


def test_an_earlier_run_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run"
    for seed in (1, 2, 3):
        finished_run(path, seed)
    assert [seed_of(tmp_path / name) for name in ("run", "run.1", "run.2")] == [3, 1, 2]
    assert len(list(tmp_path.iterdir())) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"the earlier run in {path} is now in {path}.{number}" for number in (1, 2)]


def test_an_unfinished_run_is_kept_too(tmp_path: Path) -> None:
    path = tmp_path / "run"
    unfinished = RunDirectory(path)
    unfinished.write_environment({})
    unfinished.write_config({"train": {"seed": 1}})
    del unfinished  # its job has ended
    finished_run(path, seed=2)
    assert tomllib.loads((tmp_path / "run.1" / "config.toml").read_text()) == {"train": {"seed": 1}}
    assert seed_of(path) == 2


def test_a_job_that_waits_gets_no_lock_of_a_run_that_was_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "run"
    finished_run(path, seed=1)
    first = directory_claim.acquire_lock(path)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(directory_claim.acquire_lock, path)
        time.sleep(0.3)
        path.rename(tmp_path / "run.1")  # as the first job does, with its lock file
        path.mkdir()
        second = directory_claim.acquire_lock(path)
        first.close()
        time.sleep(0.3)
        assert not waiting.done()
        second.close()
        with waiting.result() as lock:
            assert os.path.samestat(os.fstat(lock.fileno()), (path / ".lock").stat())


def test_a_run_that_another_job_has_finished_is_not_reopened(tmp_path: Path) -> None:
    finished_run(tmp_path / "run", seed=1)
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}

    def reopen(path: Path) -> RunDirectory:
        return RunDirectory.reopen(path, epochs=0, facts={}, saved={})

    assert refusal(tmp_path / "run", reopen).endswith(
        "another job has finished this run; nothing is left to resume"
    )
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before
    assert RunDirectory(tmp_path / "run")  # it is not locked any more


def test_a_directory_in_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_claim, "_LINGER", 0.2)
    path = tmp_path / "run"
    directory = RunDirectory(path)  # no file is written yet
    assert "in use by another job" in refusal(path, RunDirectory)
    directory.write_environment({})
    directory.write_config({"train": {"seed": 1}})

    def reopen(path: Path) -> RunDirectory:
        return RunDirectory.reopen(path, epochs=0, facts={}, saved={})

    for act in (RunDirectory, reopen):
        assert f"(if no job uses it: remove {path / '.lock'})" in refusal(path, act)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]
    del directory
    directory = reopen(path)
    refusal(path, reopen)
    (path / ".lock").unlink()
    assert reopen(path).path == directory.path


def test_an_empty_directory_is_used(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    finished_run(tmp_path / "run")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_a_path_with_other_content_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("y")
    assert "not a run directory" in refusal(tmp_path / "folder", RunDirectory)
    assert "not a run directory" in refusal(tmp_path / "file", RunDirectory)
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "x"
    assert (tmp_path / "file").read_text() == "y"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_with_only_a_config_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "config.toml").write_text("[train]")
    assert "not a run directory" in refusal(tmp_path / "project", RunDirectory)
    assert [entry.name for entry in tmp_path.iterdir()] == ["project"]


def test_the_working_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    refusal(Path("."), RunDirectory)
    assert seed_of(tmp_path / "run") == 0


def test_a_path_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be created" in refusal(tmp_path / "file" / "run", RunDirectory)
    assert "cannot be created" in refusal(tmp_path / ("x" * 300), RunDirectory)
    assert "cannot be created" in refusal(Path("/proc/run"), RunDirectory)


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The directories that a job leaves if it is killed before one of its first writes."""
    folder = tmp_path_factory.mktemp("starts")
    write_corpus(folder / "corpus.h5", train_frames=500)
    done = run(
        *(sys.executable, ROOT / "tests/support/first_writes.py", folder),
        *("train", "sgd", "--set", f"corpus.path={folder}/corpus.h5", "--tensorboard"),
        *("--set", "train.epochs=1", "--set", "model.hidden=[8]"),
    )
    assert done.returncode == 0, done.stderr
    return sorted(
        (path for path in folder.iterdir() if path.name.isdecimal()), key=lambda p: int(p.name)
    )


def test_a_start_that_was_killed_is_taken_over(starts: list[Path], tmp_path: Path) -> None:
    *unfinished, finished = starts
    states = [names(path) for path in unfinished]
    assert states[:2] == [set(), {".lock"}]
    assert any(".config.toml" in name for name in states[-1])
    for start in unfinished:
        path = tmp_path / start.name
        shutil.copytree(start, path)
        RunDirectory(path)
        assert names(path) == {".lock"}
    assert not list(tmp_path.glob("*.1"))

    shutil.copytree(finished, tmp_path / "run")
    RunDirectory(tmp_path / "run")
    assert names(tmp_path / "run.1") == names(finished) | {".aside"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    "name", ["notes.txt", "config.toml", "tensorboard/other", ".a.json.1.part"]
)
def test_a_start_with_another_file_is_refused(
    name: str, starts: list[Path], tmp_path: Path
) -> None:
    for start in starts[:-1]:
        path = tmp_path / start.name
        shutil.copytree(start, path)
        (path / ".lock").unlink(missing_ok=True)
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).touch()
        before = names(path)
        if before >= RUN_FILES:
            continue
        assert "not a run directory" in refusal(path, RunDirectory)
        assert names(path) == before


@pytest.mark.parametrize("files", [["config.toml", ".lock"], ["checkpoints/.step-00000001.part"]])
def test_other_remains_of_a_start_are_taken_over(files: list[str], tmp_path: Path) -> None:
    for file in files:
        (tmp_path / "run" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / file).touch()
    RunDirectory(tmp_path / "run")
    assert names(tmp_path / "run") == {".lock"}


def test_a_checkpoint_is_no_remains_of_a_start(tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints/step-00000001").mkdir(parents=True)
    assert "not a run directory" in refusal(tmp_path / "run", RunDirectory)


@pytest.mark.parametrize("write", [1, 2])
def test_a_start_on_a_full_disk_is_taken_over(
    write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the given write, and later has space again."""
    path, replace = tmp_path / "run", os.replace
    calls = 0

    def fail(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(*arguments)

    def start() -> str:
        directory = RunDirectory(path)
        try:
            directory.write_environment({})
            directory.write_config({"train": {"seed": 1}})
        except UserError as error:
            return str(error)
        return ""

    monkeypatch.setattr(os, "replace", fail)
    assert start().endswith(": cannot be written: No space left on device")
    assert start() == ""
    assert names(path) == {".lock", *RUN_FILES}
    assert names(tmp_path) == {"run"}


def test_a_symbolic_link_stays_and_its_target_is_the_run_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link, target = tmp_path / "link", tmp_path / "disk/run"
    target.parent.mkdir()
    link.symlink_to(target)  # dangling
    for seed in (1, 2):
        finished_run(link, seed)
        assert link.readlink() == target
    assert [seed_of(path) for path in (link, target)] == [2, 2]
    assert seed_of(tmp_path / "disk/run.1") == 1
    assert names(tmp_path) == {"link", "disk"}
    assert capsys.readouterr().err == f"the earlier run in {target} is now in {target}.1\n"
    for place in ("run", "run.1"):
        shutil.rmtree(tmp_path / "disk" / place)
    target.write_text("")
    assert "not a run directory" in refusal(link, RunDirectory)
    link.unlink()
    link.symlink_to(link)
    assert "cannot be created" in refusal(link, RunDirectory)


def test_a_checkpoint_holds_metrics_that_could_not_be_written(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.write_environment({"mpi": "of this test"})
    directory.append_metrics({"epoch": 1, "loss": 1 / 3})
    written = (tmp_path / "run/metrics.jsonl").read_bytes()
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    (tmp_path / "run/metrics.jsonl").unlink()
    (tmp_path / "run/metrics.jsonl").mkdir()
    with pytest.raises(UserError):
        directory.append_metrics({"epoch": 2, "loss": 1 / 7})
    saved = json.loads(json.dumps(directory.records()))
    del directory  # its job has ended
    (tmp_path / "run/metrics.jsonl").rmdir()
    (tmp_path / "run/environment.json").unlink()

    RunDirectory.reopen(tmp_path / "run", epochs=2, facts={"step": 7}, saved=saved)
    lines = (tmp_path / "run/metrics.jsonl").read_bytes()
    assert lines == written + b'{"epoch": 2, "loss": 0.14285714285714285}\n'
    content = json.loads((tmp_path / "run/environment.json").read_text())
    assert [resumption["step"] for resumption in content.pop("resumed")] == [7]
    assert content == environment


def test_each_resumption_is_kept(tmp_path: Path) -> None:
    """The second job starts from the same checkpoint as the first, which knows of neither."""
    directory = RunDirectory(tmp_path / "run")
    directory.write_environment({})
    saved = json.loads(json.dumps(directory.records()))
    del directory
    for step in (1, 2):
        RunDirectory.reopen(tmp_path / "run", epochs=0, facts={"step": step}, saved=saved)
    content = json.loads((tmp_path / "run/environment.json").read_text())
    assert [resumption["step"] for resumption in content["resumed"]] == [1, 2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", b'{"epoch": 1}\n'),
        ("metrics.jsonl", b'{"epoch": 1, "tau": 2}\n'),
        ("metrics.jsonl", b"[]\n"),
        ("metrics.jsonl", b""),
        ("metrics.jsonl", b"\xff"),
        ("metrics.jsonl", None),
        ("environment.json", b"[]"),
        ("environment.json", b'{"resumed": 3}'),
        ("environment.json", b"\xff"),
        ("environment.json", None),
    ],
)
def test_without_them_in_the_checkpoint_a_damaged_file_is_named(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    """Checkpoints of version 0.1.0 do not hold the metrics and the environment."""
    path = tmp_path / "run"
    directory = RunDirectory(path)
    directory.write_environment({})
    directory.append_metrics({"epoch": 1, "tau": []})
    del directory
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)

    def reopen(path: Path) -> None:
        RunDirectory.reopen(path, epochs=1, facts={}, saved={})

    assert refusal(path, reopen).startswith(f"{path}/{name}: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be created" in refusal(tmp_path / "run", RunDirectory)


def test_read_refuses_other_folders_and_unfinished_runs(tmp_path: Path) -> None:
    assert "not a run directory" in refusal(tmp_path, read_run)
    assert "not a run directory" in refusal(tmp_path / "none", read_run)
    RunDirectory(tmp_path / "run").write_config({})
    assert "unfinished run" in refusal(tmp_path / "run", read_run)


@pytest.mark.parametrize("name", ["environment.json", "metrics.jsonl", "summary.json"])
@pytest.mark.parametrize("content", [b"{", b'{"a": 1}\n{"b"', b"\xff\xfe{}", b"\n\n"])
def test_read_refuses_a_damaged_file(tmp_path: Path, name: str, content: bytes) -> None:
    finished_run(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    assert "damaged" in refusal(tmp_path / "run", read_run)


@pytest.mark.parametrize("name", ["environment.json", "metrics.jsonl"])
def test_read_refuses_a_run_with_a_missing_file(tmp_path: Path, name: str) -> None:
    finished_run(tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    assert name in refusal(tmp_path / "run", read_run)


def test_failed_writes_are_reported_and_metrics_are_written_later(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    for name in ("config.toml", "environment.json", "metrics.jsonl", "summary.json"):
        (tmp_path / "run" / name / "in the way").mkdir(parents=True)
    writes: list[tuple[str, Callable[[], None]]] = [
        ("config.toml", lambda: directory.write_config({})),
        ("environment.json", lambda: directory.write_environment({})),
        ("metrics.jsonl", lambda: directory.append_metrics({"epoch": 1})),
        ("metrics.jsonl", lambda: directory.append_metrics({"epoch": 2})),
        ("metrics.jsonl", lambda: directory.write_summary({})),
    ]
    for name, write in writes:
        with pytest.raises(UserError, match=rf"run/{name}: cannot be written: "):
            write()
    shutil.rmtree(tmp_path / "run" / "metrics.jsonl")
    directory.append_metrics({"epoch": 3})
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    names = {path.suffix or path.name for path in (tmp_path / "run").iterdir()}
    assert names == {".lock", ".toml", ".json", ".jsonl"}


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit_and_dirty(checkout: Path) -> list[Any]:
    """Return the commit and the dirty flag that a process with a checkout's code records."""
    code = (
        "import pathlib; from gtcbmuf.training import run_directory; run = pathlib.Path('run');"
        "run_directory.RunDirectory(run).write_environment({})"
    )
    # git does not search for a repository above the test's folder.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(checkout.parent)}
    subprocess.run([sys.executable, "-c", code], cwd=checkout, env=environment, check=True)
    facts = json.loads((checkout / "run" / "environment.json").read_text())
    shutil.rmtree(checkout / "run")
    return [facts["commit"], facts["dirty"]]


@pytest.mark.needs("git")
def test_commit_and_dirty_flag_describe_the_running_code(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(PACKAGE, checkout / "gtcbmuf", ignore=shutil.ignore_patterns("__pycache__"))
    assert commit_and_dirty(checkout) == [None, None]

    git(checkout, "init", "-q")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "without the package")
    assert commit_and_dirty(checkout) == [None, None]  # installed in a foreign repository

    (checkout / "results.csv").touch()
    git(checkout, "add", "gtcbmuf", "results.csv")
    git(checkout, "commit", "-q", "-m", "the package")
    commit = git(checkout, "rev-parse", "HEAD")
    assert len(commit) == 40
    (checkout / "notes.txt").write_text("not tracked\n")
    (checkout / "results.csv").write_text("results of an earlier run\n")
    assert commit_and_dirty(checkout) == [commit, False]

    with (checkout / "gtcbmuf/base/errors.py").open("a") as file:
        file.write("# changed\n")
    assert commit_and_dirty(checkout) == [commit, True]


def test_a_refused_run_frees_its_communicators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[Topology] = []
    monkeypatch.setattr(Topology, "free", lambda topology: freed.append(topology))
    write_corpus(tmp_path / "corpus.h5")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/diary").touch()
    with pytest.raises(CollectiveError, match="not a run directory"):
        train("sgd", [f"corpus.path={tmp_path}/corpus.h5"], tmp_path / "mine")
    assert len(freed) == 1
