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
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import as_json, write_json, write_text, writing
from gtcbmuf.base.provenance import command, environment

#: The files by which a run directory is known, also one of an unfinished run.
_ALWAYS = ("environment.json", "config.toml")
_LOCK = ".lock"
#: Seconds that a job which was killed may take to end.
_LINGER = 5


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
        metrics, facts_file = path / "metrics.jsonl", path / "environment.json"
        try:
            directory._lock = _held(path)
            lines = metrics.read_text().splitlines(keepends=True) if epochs else []
            if len(lines) < epochs:
                raise UserError(f"{metrics}: {len(lines)} lines, after {epochs} epochs")
            directory._metrics = "".join(lines[:epochs])
            write_text(metrics, directory._metrics)
            environment = json.loads(facts_file.read_text())
            again = {
                "command": command(),
                "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                **facts,
            }
            environment.setdefault("resumed", []).append(again)
            write_json(facts_file, environment)
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


def read_run(path: Path | str) -> Run:
    """Read a finished run.

    Args:
        path: of its directory.

    Raises:
        UserError: no run directory, an unfinished run, or a damaged file.

    Example:
        >>> try:
        ...     read_run("runs/no-such-run")
        ... except UserError as error:
        ...     print(error)
        runs/no-such-run: no run directory: it has no summary.json
    """
    path = Path(path)
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
