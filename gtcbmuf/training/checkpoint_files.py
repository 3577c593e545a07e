"""Files of a run's checkpoints: one folder per checkpoint, with one file per rank.

So no rank holds another rank's state.

    checkpoints/step-00001200/rank-00000.h5 ...    state that a rank's next step depends on
    checkpoints/step-00001200/manifest.json        data that all ranks share, hash of every file

A folder gets its final name when all its files are on disk. A folder with another name is
incomplete. This module does not use MPI. Functions that concern all files are called on one rank,
after the other ranks have written theirs.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import hash_file, reason
from gtcbmuf.base.hdf5 import (
    READ_ERRORS,
    create_file,
    get_attributes,
    get_dataset,
    open_file,
    set_attributes,
)

FORMAT = "gtcbmuf-checkpoint"
VERSION = 3
_MANIFEST = "manifest.json"

#: Arrays by name.
State = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with an intact manifest. The ranks' files are still unchecked.

    Attributes:
        path: folder of the checkpoint.
        shared: data that all ranks share.
        hashes: SHA-256 of each rank's file, in hexadecimal.
    """

    path: Path
    shared: dict[str, Any]
    hashes: tuple[str, ...]


def begin_checkpoint(folder: Path, step: int) -> Path:
    """Create the folder that all ranks write to until `publish_checkpoint`.

    One rank calls it, before any rank writes.

    Args:
        folder: folder of all checkpoints.
        step: number of steps since the start of the run.

    Raises:
        OSError: the folder cannot be created.
    """
    part = folder / f".step-{step:08}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def write_rank(part: Path, rank: int, state: State, numbers: Mapping[str, float]) -> str:
    """Write a rank's file, wait until it is on disk, and return its hash.

    Args:
        part: folder that `begin_checkpoint` created.
        rank: number of the rank.
        state: the rank's arrays.
        numbers: the rank's numbers.

    Raises:
        OSError: the file cannot be written.
    """
    path = _file(part, rank)
    with create_file(path) as file:
        set_attributes(file, numbers)
        for name, array in state.items():
            file[name] = array
    with path.open("rb+") as content:
        os.fsync(content.fileno())
    return hash_file(path)


def publish_checkpoint(part: Path, shared: Mapping[str, Any], hashes: list[str]) -> Path:
    """Write the manifest and give the folder its final name.

    One rank calls it, once all ranks' files are on disk. Checkpoints of later steps are deleted.
    The run continued from an earlier step because they could not be read.

    Args:
        part: folder that `begin_checkpoint` created.
        shared: data that all ranks share: text, numbers, lists, dictionaries.
        hashes: hash of each rank's file.

    Raises:
        OSError: the checkpoint cannot be written.
    """
    manifest = {"format": FORMAT, "version": VERSION, "hashes": hashes, "shared": dict(shared)}
    text = json.dumps(manifest, indent=1)
    document = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "manifest": text}
    with (part / _MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    _sync(part)
    final = part.with_name(part.name.removeprefix(".").removesuffix(".part"))
    shutil.rmtree(final, ignore_errors=True)
    os.replace(part, final)
    _sync(final.parent)
    for later in list_checkpoints(final.parent):
        if _step(later) > _step(final):
            shutil.rmtree(later, ignore_errors=True)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, newest first.

    Raises:
        OSError: the folder exists and cannot be read.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    paths = (folder / name for name in names if re.fullmatch(r"step-[0-9]+", name))
    return sorted(paths, key=_step, reverse=True)


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the `keep` newest checkpoints, and all incomplete ones."""
    with suppress(OSError):
        for old in [*list_checkpoints(folder)[keep:], *folder.glob(".step-*.part")]:
            shutil.rmtree(old, ignore_errors=True)


def _step(path: Path) -> int:
    return int(path.name[len("step-") :])


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the data that all ranks share.

    Raises:
        UserError: the checkpoint cannot be read, is damaged, or has another format version.
    """
    try:
        document = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        text = document["manifest"]
        if hashlib.sha256(text.encode()).hexdigest() != document["sha256"]:
            raise ValueError(f"{_MANIFEST} does not match its hash")
        manifest = json.loads(text)
        version = manifest["version"]
        if manifest["format"] != FORMAT or type(version) is not int:
            raise ValueError(f"expected format version {VERSION}")
        if version != VERSION:
            age = "a newer" if version > VERSION else "an older"
            raise UserError(
                f"{path}: checkpoint of format version {version}, which {age} gtcbmuf wrote; this "
                f"one reads version {VERSION}"
            )
        shared, hashes = manifest["shared"], manifest["hashes"]
        if not (isinstance(shared, dict) and isinstance(hashes, list)):
            raise ValueError("expected a table shared and a list hashes")
        return Checkpoint(path, shared, tuple(hashes))
    except READ_ERRORS as error:
        raise _fault(path, error) from None


def read_rank(
    checkpoint: Checkpoint, rank: int
) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """Read the arrays and numbers of a rank.

    Raises:
        UserError: the rank's file cannot be read, or has changed since it was written.
    """
    path = _file(checkpoint.path, rank)
    try:
        if hash_file(path) != checkpoint.hashes[rank]:
            raise ValueError("the file does not match its hash")
        with open_file(path) as file:
            state = {name: np.asarray(get_dataset(file, name)[:]) for name in file}
            return state, {name: value.item() for name, value in get_attributes(file).items()}
    except READ_ERRORS as error:
        raise _fault(path, error) from None


def _fault(path: Path, error: Exception) -> UserError:
    """Tell a file that the system cannot read, perhaps only now, from a damaged one."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: damaged checkpoint: no {Path(error.filename).name}")
    if isinstance(error, OSError) and (why := reason(error)) != str(error):
        return UserError(f"{path}: the checkpoint cannot be read: {why}")
    return UserError(f"{path}: damaged checkpoint: {error}")


def _file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:05}.h5"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
