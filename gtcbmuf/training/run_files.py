"""Readers of the files of a run directory. They check the types of all keys that are used."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import reading
from gtcbmuf.base.toml import Count, explain

# The bounds exclude NaN and infinity.
_Number = Annotated[float, Meta(ge=-1e100, le=1e100)]
_Amount = Annotated[float, Meta(ge=0, le=1e100)]


class _Host(Struct):
    cores: Count | None = None


class _ThreadPool(Struct):
    internal_api: str | None = None
    version: str | None = None
    num_threads: int | None = None


class _Resumption(Struct):
    command: list[str] | UnsetType = UNSET
    started: str | UnsetType = UNSET
    epoch: int | UnsetType = UNSET
    step: int | UnsetType = UNSET


def _table(**keys: Any) -> type[Struct]:
    """Return the type of an object with these keys, all of which may be absent."""
    fields = [(name, kind | UnsetType, UNSET) for name, kind in keys.items()]
    return msgspec.defstruct("Table", fields)


_SUMMARY = _table(
    method=str,
    workers=Count,
    groups=Count,
    fer_valid=_Amount,
    fer_test=_Amount | None,
    per_test=_Amount | None,
    frames_per_second=_Amount,
    bytes_sent_per_step=_Amount,
    density=_Amount,
    steps=Count,
    wall_seconds=_Amount,
)
_METRICS = _table(
    epoch=Count,
    loss=_Number,
    fer_valid=_Amount,
    learning_rate=_Amount,
    density=_Amount,
    tau=list[_Amount],
    bytes_sent_per_step=_Amount,
    frames_per_second=_Amount,
    seconds=_Amount,
    seconds_by_part=dict[str, dict[str, _Amount]],
    peak_resident_mib=dict[str, _Amount],
)
_ENVIRONMENT = _table(
    command=list[str],
    started=str,
    python=str,
    platform=str,
    processor=str,
    packages=dict[str, str],
    threads=list[_ThreadPool],
    commit=str | None,
    dirty=bool | None,
    mpi=str,
    launcher=str,
    ranks=Count,
    hosts=dict[str, _Host],
    host_of_rank=list[str],
    corpus=str,
    resumed=list[_Resumption],
)


@dataclass(frozen=True)
class Run:
    """A finished run, read from its directory.

    Attributes:
        path: path of the run directory.
        environment: content of environment.json.
        metrics: lines of metrics.jsonl, one per epoch.
        summary: content of summary.json.
    """

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
    if not is_there(path / "summary.json"):
        state = "unfinished run" if is_there(path / "config.toml") else "not a run directory"
        raise UserError(f"{path}: {state}: no summary.json")
    return Run(path, read_environment(path), read_metrics(path), read_summary(path))


def is_there(file: Path) -> bool:
    """Return whether a file exists.

    Raises:
        UserError: its folder cannot be read, or the path is too long.
    """
    with reading(file):
        return file.exists()


def read_summary(run: Path) -> dict[str, Any]:
    """Read the summary.json of a run directory.

    Raises:
        UserError: the file is missing or damaged, or cannot be read.
    """
    file = run / "summary.json"
    return _parse(_read(file), _SUMMARY, file)


def read_environment(run: Path) -> dict[str, Any]:
    """Read the environment.json of a run directory.

    Raises:
        UserError: the file is missing or damaged, or cannot be read.
    """
    file = run / "environment.json"
    return _parse(_read(file), _ENVIRONMENT, file)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read the metrics.jsonl of a run directory.

    Raises:
        UserError: the file is missing or damaged, or cannot be read.
    """
    file = run / "metrics.jsonl"
    lines = _read(file).splitlines()
    return [_parse(line, _METRICS, file, f"line {n}: ") for n, line in enumerate(lines, 1)]


def require(file: Path, content: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of some keys.

    Args:
        file: path of the file with this content.
        content: content of the file, or of a line of it.
        keys: keys that must be there.

    Raises:
        UserError: a key is missing.

    Examples:
        >>> require(Path("run/summary.json"), {"method": "sgd", "seed": 0}, ("method",))
        {'method': 'sgd'}
    """
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(f"{file}: damaged: no key {missing[0]}")
    return {key: content[key] for key in keys}


def _read(file: Path) -> str:
    try:
        with reading(file):
            return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: damaged: {error}") from None


def _parse(text: str, kind: type[Struct], file: Path, where: str = "") -> dict[str, Any]:
    """Parse a JSON object and check the types of its keys."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: damaged: {where}{error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: damaged: {where}expected a JSON object")
    for key, value in content.items():
        try:
            msgspec.convert({key: value}, kind)
        except msgspec.ValidationError as error:
            raise UserError(f"{file}: damaged: {where}{explain(error, content)[1]}") from None
        except UnicodeError as error:
            raise UserError(f"{file}: damaged: {where}{key} = {value!r}: {error}") from None
    return content
