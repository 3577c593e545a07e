"""A run directory: configuration, environment, metrics and results of a run.

- config.toml: the resolved configuration; `gtcbmuf train DIR/config.toml` repeats the run
- environment.json: command, versions, MPI, hosts, threads, commit
- metrics.jsonl: one line per epoch
- model.h5: the final anchor
- summary.json: the result, written last; a directory with this file is a finished run
- .lock: lock file of the job that uses the directory
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import as_json, write_text, writing
from gtcbmuf.base.provenance import command, environment
from gtcbmuf.training.directory_claim import acquire_lock, claim_directory
from gtcbmuf.training.run_files import read_environment, read_metrics, require


class RunDirectory:
    """Writes the directory of a run while it runs. Only one rank uses it.

    A file is written completely or not at all. A failed write raises a UserError.

    Args:
        path: path of the new directory. An earlier run there is moved to the first free path of
            `path`.1, `path`.2, ...

    Attributes:
        path: path of the directory.
        metrics: lines of metrics.jsonl, one per finished epoch.

    Raises:
        UserError: another job uses the directory, the path holds something other than a run, or
            the directory cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics: list[Mapping[str, Any]] = []
        self._environment: dict[str, Any] = {}
        self._lock = claim_directory(path)

    @classmethod
    def reopen(
        cls, path: Path, *, epochs: int, facts: Mapping[str, Any], saved: Mapping[str, Any]
    ) -> "RunDirectory":
        """Open the directory of an unfinished run to continue the run.

        Missing or damaged files are written anew from the checkpoint.

        Args:
            path: path of the directory.
            epochs: number of finished epochs. Metrics of later epochs are deleted.
            facts: facts to add to environment.json, with the command and the time.
            saved: result of `records` in the checkpoint, with or without other entries.
                Checkpoints of version 0.1.0 have none.

        Raises:
            UserError: another job uses the directory or has finished the run, or it cannot be
                written to. A file is damaged that the checkpoint does not replace.
        """
        directory = cls.__new__(cls)
        directory.path = path
        try:
            directory._lock = acquire_lock(path)
        except OSError as error:
            raise UserError(f"{path}: the run cannot be resumed: {error}") from None
        if (path / "summary.json").exists():
            directory.close()
            raise UserError(f"{path}: another job has finished this run; nothing is left to resume")
        directory.metrics = _saved_metrics(path, epochs, saved)
        directory._environment = _saved_environment(path, saved)
        restart = {
            "command": command(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **facts,
        }
        directory._environment["resumed"] = [
            *directory._environment.get("resumed", []),
            restart,
        ]
        directory._write_metrics()
        directory._write("environment.json", as_json(directory._environment))
        return directory

    def close(self) -> None:
        """Unlock the directory."""
        self._lock.close()

    def records(self) -> dict[str, Any]:
        """Return what `reopen` writes anew if it is missing. It is part of every checkpoint."""
        return {"metrics": self.metrics, "environment": self._environment}

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.toml."""
        import tomli_w

        self._write("config.toml", tomli_w.dumps(config))

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Write environment.json: `facts`, and the environment of this process."""
        self._environment = {**environment(), **facts}
        self._write("environment.json", as_json(self._environment))

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl. If the write fails, the next write includes the line."""
        self.metrics.append(line)
        self._write_metrics()

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write metrics.jsonl once more, then summary.json."""
        self._write_metrics()
        self._write("summary.json", as_json(summary))

    def _write_metrics(self) -> None:
        self._write("metrics.jsonl", "".join(f"{json.dumps(line)}\n" for line in self.metrics))

    def _write(self, name: str, text: str) -> None:
        with writing(self.path / name):
            write_text(self.path / name, text)


def _saved_metrics(run: Path, epochs: int, saved: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the metrics of the finished epochs, from the checkpoint or from metrics.jsonl."""
    lines = saved.get("metrics")
    if lines is None:
        file = run / "metrics.jsonl"
        lines = read_metrics(run) if epochs else []
        for line in lines:
            require(file, line, ("epoch", "tau"))
    if len(lines) < epochs:
        raise UserError(f"{run}/metrics.jsonl: {len(lines)} lines; expected {epochs} or more")
    return list(lines[:epochs])


def _saved_environment(run: Path, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment of the run. The file may know of more resumptions than `saved`."""
    environment = saved.get("environment", {})
    try:
        return {**environment, **read_environment(run)}
    except UserError:
        if not environment:
            raise
        return dict(environment)
