"""A run directory: configuration, environment, metrics and results of a run.

- config.toml: the resolved configuration; `gtcbmuf train DIR/config.toml` repeats the run
- environment.json: command, versions, MPI, hosts, threads, commit
- metrics.jsonl: one line per epoch
- model.h5: the final anchor
- summary.json: the result, written last; a directory with this file is a finished run
- .lock: lock file of the job that uses the directory
"""

import fcntl
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import as_json, write_json, write_text, writing
from gtcbmuf.base.provenance import command, environment

#: Files that identify the directory of a run, finished or not.
_RUN_FILES = ("environment.json", "config.toml")
_LOCK = ".lock"
#: Seconds that a killed job may take to end.
_LINGER = 5


class RunDirectory:
    """Writes the directory of a run while it runs. Only one rank uses it.

    A file is written completely or not at all. A failed write raises a UserError.

    Args:
        path: path of the new directory. An earlier run there is moved to the first free path of
            `path`.1, `path`.2, ...

    Raises:
        UserError: another job uses the directory, the path holds something other than a run, or
            the directory cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._metrics = ""
        try:
            if path.name and all((path / file).exists() for file in _RUN_FILES):
                with _acquire_lock(path):
                    _move_aside(path)
            elif path.exists() and (not path.is_dir() or set(os.listdir(path)) - {_LOCK}):
                raise UserError(f"--out {path}: not a run directory; choose another path")
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _acquire_lock(path)
        except OSError as error:
            raise UserError(f"--out {path}: cannot be created: {error.strerror}") from None

    @classmethod
    def reopen(cls, path: Path, *, epochs: int, facts: Mapping[str, Any]) -> "RunDirectory":
        """Open the directory of an unfinished run to continue the run.

        Args:
            path: path of the directory.
            epochs: number of finished epochs. Metrics of later epochs are deleted.
            facts: facts to add to environment.json, with the command and the time.

        Raises:
            UserError: another job uses the directory, it is damaged, or it cannot be written to.
        """
        directory = cls.__new__(cls)
        directory.path = path
        metrics, facts_file = path / "metrics.jsonl", path / "environment.json"
        try:
            directory._lock = _acquire_lock(path)
            lines = metrics.read_text().splitlines(keepends=True) if epochs else []
            if len(lines) < epochs:
                raise UserError(f"{metrics}: {len(lines)} lines; expected {epochs} or more")
            directory._metrics = "".join(lines[:epochs])
            write_text(metrics, directory._metrics)
            environment = json.loads(facts_file.read_text())
            restart = {
                "command": command(),
                "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                **facts,
            }
            environment.setdefault("resumed", []).append(restart)
            write_json(facts_file, environment)
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: the run cannot be resumed: {error}") from None
        return directory

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.toml."""
        import tomli_w

        self._write("config.toml", tomli_w.dumps(config))

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Write environment.json: `facts`, and the environment of this process."""
        self._write("environment.json", as_json({**environment(), **facts}))

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl. If the write fails, the next write includes the line."""
        self._metrics += json.dumps(line) + "\n"
        self._write("metrics.jsonl", self._metrics)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write metrics.jsonl once more, then summary.json."""
        self._write("metrics.jsonl", self._metrics)
        self._write("summary.json", as_json(summary))

    def _write(self, name: str, text: str) -> None:
        with writing(self.path / name):
            write_text(self.path / name, text)


@dataclass(frozen=True)
class Run:
    """A finished run, read from its directory."""

    path: Path
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    summary: dict[str, Any]


def read_run(path: Path | str) -> Run:
    """Read a finished run.

    Args:
        path: path of the run directory.

    Raises:
        UserError: the path is not a run directory, the run is unfinished, or a file is damaged.

    Examples:
        >>> try:
        ...     read_run("runs/no-such-run")
        ... except UserError as error:
        ...     print(error)
        runs/no-such-run: not a run directory: no summary.json
    """
    path = Path(path)
    if not (path / "summary.json").exists():
        state = "unfinished run" if (path / "config.toml").exists() else "not a run directory"
        raise UserError(f"{path}: {state}: no summary.json")
    try:
        return Run(
            path,
            json.loads((path / "environment.json").read_text()),
            [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()],
            json.loads((path / "summary.json").read_text()),
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged run directory: {error}") from None


def _acquire_lock(path: Path) -> TextIO:
    """Lock a run directory and return the lock file.

    The lock is held until the file is closed, at the latest when this process ends.

    Raises:
        UserError: another job holds the lock and does not release it.
        OSError: the lock file cannot be created.
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
                f"--out {path}: in use by another job; wait for its end, or choose another path "
                f"(if no job uses it: remove {path / _LOCK})"
            ) from None
        except OSError:  # a file system without locks
            pass
        return lock


def _move_aside(path: Path) -> None:
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    path.rename(aside)
    print(f"the earlier run in {path} is now in {aside}", file=sys.stderr)
