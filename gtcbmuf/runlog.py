"""A run directory: what was asked for, where it ran, what happened, what came out.

- config.toml: the resolved configuration; `gtcbmuf train DIR/config.toml` repeats the run
- environment.json: command, versions, MPI, hosts, threads, commit
- metrics.jsonl: a line an epoch
- model.h5: the final anchor
- summary.json: the result; written last: a directory that has it is a finished run
- .lock: held by the job that is at work here
"""

import fcntl
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from gtcbmuf.errors import UserError
from gtcbmuf.storage import as_json, write_json, write_text, writing

#: The files by which a run directory is known, also one of an unfinished run.
_ALWAYS = ("environment.json", "config.toml")
_LOCK = ".lock"
#: Seconds that a job which was killed may take to end.
_LINGER = 5
_PACKAGES = ("gtcbmuf", "numpy", "numba", "h5py", "mpi4py", "mpich", "openmpi", "msgspec")


class RunDirectory:
    """A run's directory while it runs; for one rank.

    Its files are written whole or not at all; where one cannot be, that is a UserError.

    Args:
        path: is made. An earlier run there is kept, under the first free of `path`.1, .2, ...

    Raises:
        UserError: another job is at work there, something else is there, or it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._metrics = ""
        try:
            if path.name and all((path / file).exists() for file in _ALWAYS):
                with _held(path):
                    _move_aside(path)
            elif path.exists() and (not path.is_dir() or set(os.listdir(path)) - {_LOCK}):
                raise UserError(f"--out {path}: something is there that is no run; choose another")
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _held(path)
        except OSError as error:
            raise UserError(f"--out {path}: cannot be made: {error.strerror}") from None

    @classmethod
    def reopened(cls, path: Path, *, epochs: int, facts: Mapping[str, Any]) -> "RunDirectory":
        """The directory of an unfinished run that goes on.

        Args:
            path: of the directory.
            epochs: that are done; metrics of later ones go.
            facts: to remember with the command and the time, in environment.json.

        Raises:
            UserError: another job is at work there, it is damaged, or cannot be written to.
        """
        directory = cls.__new__(cls)
        directory.path = path
        metrics, told = path / "metrics.jsonl", path / "environment.json"
        try:
            directory._lock = _held(path)
            lines = metrics.read_text().splitlines(keepends=True) if epochs else []
            if len(lines) < epochs:
                raise UserError(f"{metrics}: {len(lines)} lines, after {epochs} epochs")
            directory._metrics = "".join(lines[:epochs])
            write_text(metrics, directory._metrics)
            environment = json.loads(told.read_text())
            again = {
                "command": _command(),
                "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                **facts,
            }
            environment.setdefault("resumed", []).append(again)
            write_json(told, environment)
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: the run there cannot go on: {error}") from None
        return directory

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.toml."""
        import tomli_w

        self._write("config.toml", tomli_w.dumps(config))

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Write environment.json: `facts`, and what this process sees by itself."""
        self._write("environment.json", as_json({**environment(), **facts}))

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl; if that fails, it is written with what is written next."""
        self._metrics += json.dumps(line) + "\n"
        self._write("metrics.jsonl", self._metrics)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, and metrics.jsonl once more."""
        self._write("metrics.jsonl", self._metrics)
        self._write("summary.json", as_json(summary))

    def _write(self, name: str, text: str) -> None:
        with writing(self.path / name):
            write_text(self.path / name, text)


@dataclass(frozen=True)
class Run:
    """A finished run, as its directory tells it."""

    path: Path
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    summary: dict[str, Any]


def read(path: Path) -> Run:
    """Read a finished run.

    Raises:
        UserError: no run directory, an unfinished run, or a damaged file.
    """
    if not (path / "summary.json").exists():
        state = "an unfinished run" if (path / "config.toml").exists() else "no run directory"
        raise UserError(f"{path}: {state}: it has no summary.json")
    try:
        return Run(
            path,
            json.loads((path / "environment.json").read_text()),
            [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()],
            json.loads((path / "summary.json").read_text()),
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged run directory: {error}") from None


def _held(path: Path) -> TextIO:
    """The lock of a run directory, held until it is closed, as it is when this process ends.

    Raises:
        UserError: another job holds it, and goes on to.
        OSError: there can be no file.
    """
    lock = (path / _LOCK).open("w")
    end = time.monotonic() + _LINGER
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < end:
                time.sleep(0.1)
                continue
            lock.close()
            raise UserError(
                f"--out {path}: another job is at work there; wait for its end, or choose another "
                f"(if there is none: remove {path / _LOCK})"
            ) from None
        except OSError:  # a file system without locks
            pass
        return lock


def _move_aside(path: Path) -> None:
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    path.rename(aside)
    print(f"the earlier run in {path} is now {aside}", file=sys.stderr)


def environment() -> dict[str, Any]:
    """What this process sees: command, versions, processor, threads, commit."""
    import threadpoolctl

    return {
        "command": _command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "threads": [
            {key: pool.get(key) for key in ("internal_api", "version", "num_threads")}
            for pool in threadpoolctl.threadpool_info()
        ],
        **_commit(),
    }


def provenance() -> dict[str, str]:
    """How to make again what is being made: columns command and commit of a table."""
    told = environment()
    return {"command": shlex.join(told["command"]), "commit": short_commit(told)}


def short_commit(told: Mapping[str, Any]) -> str:
    """The commit that an `environment` tells of, with a + if there were changes beside it."""
    return str(told["commit"])[:12] + ("+" if told["dirty"] else "")


def _command() -> list[str]:
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The name of this host's kind of processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> dict[str, Any]:
    """Commit of the checkout that this package runs from, if it does, and whether the package was
    changed since; results beside it may have been, by the study that asks.
    """
    source = Path(__file__).resolve().parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(source), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
    if commit is None or tracked is None:
        return {"commit": None, "dirty": None}
    changes = git("status", "--porcelain", "-uno", "--", ".")
    return {"commit": commit, "dirty": None if changes is None else changes != ""}
