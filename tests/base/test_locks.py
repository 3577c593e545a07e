"""File systems without locks, and files that others have locked."""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.corpora import write_corpus
from support.launch import ROOT, gtcbmuf, run

from gtcbmuf.base import locks
from gtcbmuf.data.corpus import find_damage, open_corpus
from gtcbmuf.training.run_directory import RunDirectory

#: What flock has answered on NFS, Lustre and others.
ERRNOS = sorted(
    {
        *(errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS),
        *(errno.EIO, errno.EINTR, errno.EBADF, errno.EACCES, errno.EINVAL),
    }
)


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a program whose locks fail."""
    library = tmp_path_factory.mktemp("preload") / "flock.so"
    words = ["gcc", "-shared", "-fPIC", "-o", str(library), str(ROOT / "tests/support/flock.c")]
    subprocess.run([*words, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


@pytest.fixture(scope="module")
def results(preload: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/support/lockless.py prints for all error numbers."""
    folder = tmp_path_factory.mktemp("lockless")
    script, numbers = ROOT / "tests/support/lockless.py", [str(number) for number in ERRNOS]
    env = {**preload, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"}
    done = run(sys.executable, script, folder, *numbers, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("number", ERRNOS, ids=errno.errorcode.get)
def test_without_locks_all_files_have_the_same_bytes(number: int, results: dict[str, Any]) -> None:
    assert results["0"]["lines"] == []
    assert results[str(number)]["hashes"] == results["0"]["hashes"]
    [line] = results[str(number)]["lines"]
    assert line.endswith(
        f"/run: cannot be locked: {os.strerror(number)}; start no second job in this directory"
    )


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("below", ["", "run"], ids=["everywhere", "below the run directory"])
def test_a_job_trains_without_locks(below: str, preload: dict[str, str], tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5", train_frames=600)
    settings = ("corpus.path=corpus.h5", "train.epochs=1", "model.hidden=[8]")
    words = [word for setting in settings for word in ("--set", setting)]
    env = {
        **preload,
        "FLOCK_ERRNO": str(errno.ENOLCK),
        "FLOCK_BELOW": str(tmp_path / below) if below else "/",
        "HDF5_USE_FILE_LOCKING": "TRUE",  # as a site's module may set it
    }
    done = gtcbmuf("train", "gtc", *words, "--out", "run", ranks=2, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "run: cannot be locked: No locks available; start no second job in this directory"
    ]


def test_a_corpus_that_another_program_has_locked_is_read(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_corpus(path, train_frames=600)
    digest = hashlib.sha256(open_corpus(path).train.features.tobytes()).digest()
    script = (
        "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); "
        "print(flush=True); input()"
    )
    words = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        with path.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        corpus = open_corpus(path)
        assert hashlib.sha256(corpus.train.features.tobytes()).digest() == digest
        assert find_damage(path) == []
        write_corpus(path, train_frames=700)
        assert len(open_corpus(path).train) == 700
        holder.stdin.write(b"\n")


@pytest.mark.parametrize("number", ERRNOS, ids=errno.errorcode.get)
def test_a_run_directory_without_locks_is_used(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class LibraryWithoutLocks:
        def flock(self, file: int, operation: int) -> int:
            ctypes.set_errno(number)
            return -1

    monkeypatch.setattr(locks, "_libc", LibraryWithoutLocks())
    run_directory = RunDirectory(tmp_path / "run")
    run_directory.append_metrics({"epoch": 1})
    reason = os.strerror(number)
    assert capfd.readouterr().err == (
        f"{tmp_path}/run: cannot be locked: {reason}; start no second job in this directory\n"
    )
