"""Run directories: their files, earlier runs, and refused paths."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.launch import ROOT

from gtcbmuf.base.errors import UserError
from gtcbmuf.config.loading import load_config
from gtcbmuf.config.schema import to_tables
from gtcbmuf.training import run_directory
from gtcbmuf.training.run_directory import RunDirectory, read_run

PACKAGE = ROOT / "gtcbmuf"


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
    run = read_run(path)
    assert run.path == path
    assert run.summary == {"method": "sgd", "seed": 3}
    assert run.metrics == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}]
    assert run.environment["mpi"] == "of this test"
    assert run.environment["hosts"] == {"h": {"cores": 2}}
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


def test_a_directory_in_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_directory, "_LINGER", 0.2)
    path = tmp_path / "run"
    directory = RunDirectory(path)  # no file is written yet
    assert "in use by another job" in refusal(path, RunDirectory)
    directory.write_environment({})
    directory.write_config({"train": {"seed": 1}})

    def reopen(path: Path) -> RunDirectory:
        return RunDirectory.reopen(path, epochs=0, facts={})

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
