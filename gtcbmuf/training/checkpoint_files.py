"""Checkpoints of a run: a folder each, with a file a rank, so that no rank holds another's state.

    checkpoints/step-00001200/rank-00000.h5 ...    what a rank's next step depends on
    checkpoints/step-00001200/manifest.json        what all share, and the hash of every file

A folder gets its name when all of it is on disk; one with another name is not whole. Nothing here
knows of MPI: what is said of "all files" is for one rank, after the others are through.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.hdf5 import READ_ERRORS, get_attributes, get_dataset, set_attributes

FORMAT = "gtcbmuf-checkpoint"
VERSION = 2
_MANIFEST = "manifest.json"

#: Arrays by their names.
State = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that `read` found whole, but for the files of the ranks.

    Attributes:
        path: its folder.
        shared: what all ranks share.
        hashes: SHA-256, in hexadecimal, of the file of each rank.
    """

    path: Path
    shared: dict[str, Any]
    hashes: tuple[str, ...]


def begin_checkpoint(folder: Path, step: int) -> Path:
    """Make the folder that ranks write to, until `publish`; for one rank, before the others.

    Args:
        folder: of all checkpoints.
        step: of the whole run.

    Raises:
        OSError: it cannot be made.
    """
    part = folder / f".step-{step:08}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def write_rank(part: Path, rank: int, state: State, own: Mapping[str, float]) -> str:
    """Write the file of a rank, wait until it is on disk, and return its hash.

    Args:
        part: the folder that `begin` made.
        rank: whose.
        state: arrays.
        own: numbers.

    Raises:
        OSError: it cannot be written.
    """
    path = _file(part, rank)
    with h5py.File(path, "w", libver="v110") as file:
        set_attributes(file, own)
        for name, array in state.items():
            file[name] = array
    with path.open("rb+") as written:
        os.fsync(written.fileno())
        return hashlib.file_digest(written, "sha256").hexdigest()


def publish_checkpoint(part: Path, shared: Mapping[str, Any], hashes: list[str]) -> Path:
    """Give a folder its name once all ranks' files are on disk; for one rank.

    Checkpoints of later steps go: the run went on from before them, so they could not be read.

    Args:
        part: the folder that `begin` made.
        shared: what all ranks share: text, numbers, lists, dictionaries.
        hashes: of the file of each rank.

    Raises:
        OSError: it cannot be written.
    """
    manifest = {"format": FORMAT, "version": VERSION, "hashes": hashes, "shared": dict(shared)}
    text = json.dumps(manifest, indent=1)
    whole = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "manifest": text}
    with (part / _MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(whole, file)
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
    """The checkpoints in a folder, the newest first."""
    ours = (path for path in folder.glob("step-*") if path.name[len("step-") :].isdecimal())
    return sorted(ours, key=_step, reverse=True)


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the newest checkpoints, and what is left of those that were never whole."""
    for old in [*list_checkpoints(folder)[keep:], *folder.glob(".step-*.part")]:
        shutil.rmtree(old, ignore_errors=True)


def _step(path: Path) -> int:
    return int(path.name[len("step-") :])


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what the ranks share.

    Raises:
        UserError: it is damaged, not whole, or of another version.
    """
    try:
        whole = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        text = whole["manifest"]
        if hashlib.sha256(text.encode()).hexdigest() != whole["sha256"]:
            raise ValueError(f"{_MANIFEST} is not what was written")
        manifest = json.loads(text)
        if manifest["format"] != FORMAT or manifest["version"] != VERSION:
            raise ValueError(f"expected format version {VERSION}")
        shared, hashes = manifest["shared"], manifest["hashes"]
        if not (isinstance(shared, dict) and isinstance(hashes, list)):
            raise ValueError("expected a table that is shared, and a list of hashes")
        return Checkpoint(path, shared, tuple(hashes))
    except READ_ERRORS as error:
        raise UserError(f"{path}: damaged checkpoint: {error}") from None


def read_rank(
    checkpoint: Checkpoint, rank: int
) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """Read the arrays and the numbers of a rank.

    Raises:
        UserError: its file is missing, or not what was written.
    """
    path = _file(checkpoint.path, rank)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != checkpoint.hashes[rank]:
            raise ValueError("it is not what was written")
        with h5py.File(path, "r") as file:
            state = {name: np.asarray(get_dataset(file, name)[:]) for name in file}
            return state, {name: value.item() for name, value in get_attributes(file).items()}
    except READ_ERRORS as error:
        raise UserError(f"{path}: damaged checkpoint: {error}") from None


def _file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:05}.h5"


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
