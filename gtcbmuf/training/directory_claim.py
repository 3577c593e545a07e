"""Takes possession of a run directory: its lock, an earlier run, and leftovers of a killed job."""

import os
import re
import shutil
import time
from functools import cache
from pathlib import Path
from typing import TextIO

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.locks import try_lock
from gtcbmuf.base.output import warn

#: Files that identify the directory of a run, finished or not. The last one is the last to be
#: written before training begins.
_RUN_FILES = ("environment.json", "config.toml")
_LOCK = ".lock"
#: Mark of a run that was moved aside.
_ASIDE = ".aside"
#: Other files and folders of a job that ended before it had written all of `_RUN_FILES`.
_PART = re.compile(r"\.(environment\.json|config\.toml)\.\d+\.part")
_FOLDERS = {
    "tensorboard": re.compile(r"events\.out\.tfevents\..*"),
    "checkpoints": re.compile(r"\.step-\d+\.part"),
}
#: Seconds that a killed job may take to end.
_LINGER = 5


def claim_directory(path: Path) -> TextIO:
    """Create a run directory, or take over an existing one, and lock it.

    An earlier run is moved to the first free path of `path`.1, `path`.2, ... What a job left that
    ended before it had written its first files is deleted. The target of a symbolic link is the run
    directory, and the link remains.

    Args:
        path: path of the directory.

    Returns:
        The lock file. The lock is held until the file is closed.

    Raises:
        UserError: another job uses the directory, the path holds something other than a run, or
            the directory cannot be created.
    """
    try:
        place = Path(os.path.realpath(path)) if path.is_symlink() else path
        if place.exists() and not (_is_run(place) or _has_only_first_files(place)):
            raise UserError(f"--out {path}: not a run directory; choose another path")
        place.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(path)
        if _is_run(place):  # perhaps another job has finished it only now
            with lock:
                _move_aside(place)
            place.mkdir()
            return acquire_lock(path)
        _remove_first_files(place)
        return lock
    except OSError as error:
        raise UserError(f"--out {path}: cannot be created: {error.strerror}") from None


def acquire_lock(path: Path) -> TextIO:
    """Lock a run directory and return the lock file.

    The lock is held until the file is closed, at the latest when this process ends.

    Raises:
        UserError: another job holds the lock and does not release it.
        OSError: the lock file cannot be created.
    """
    end = time.monotonic() + _LINGER
    while True:
        lock = (path / _LOCK).open("w")
        try:
            try_lock(lock)
        except BlockingIOError:
            lock.close()
            if time.monotonic() < end:
                time.sleep(0.1)
                continue
            raise UserError(
                f"--out {path}: in use by another job; wait for its end, or choose another path "
                f"(if no job uses it: remove {path / _LOCK})"
            ) from None
        except OSError as error:  # a file system without locks
            _warn_of_missing_lock(path, error.strerror)
            return lock
        if _is_at(lock, path / _LOCK):
            return lock
        lock.close()  # another job has moved this file aside, with its run


def _is_at(file: TextIO, path: Path) -> bool:
    """Return whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@cache  # a run that moves an earlier one aside locks the directory twice
def _warn_of_missing_lock(path: Path, reason: str) -> None:
    warn(f"{path}: cannot be locked: {reason}; start no second job in this directory")


def _is_run(path: Path) -> bool:
    """Return whether a directory, other than the current one, holds a run."""
    return bool(path.name) and all((path / file).exists() for file in _RUN_FILES)


def _has_only_first_files(path: Path) -> bool:
    """Return whether a path is a directory with nothing but leftovers of a start."""
    return path.is_dir() and all(_is_first_file(entry) for entry in path.iterdir())


def _is_first_file(path: Path) -> bool:
    if path.name in _FOLDERS and path.is_dir():
        return all(_FOLDERS[path.name].fullmatch(name) for name in os.listdir(path))
    if path.name == "config.toml":  # without a lock file, it is a configuration of the user's
        return path.with_name(_LOCK).exists()
    return path.name in (_LOCK, *_RUN_FILES) or _PART.fullmatch(path.name) is not None


def _remove_first_files(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()


def was_moved_aside(path: Path) -> bool:
    """Return whether a run is an earlier one, beside the finished run that took its place."""
    return (path / _ASIDE).exists() and (path.with_suffix("") / "summary.json").exists()


def _move_aside(path: Path) -> None:
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.{number}")):
        number += 1
    (path / _ASIDE).touch()
    path.rename(aside)
    warn(f"the earlier run in {path} is now in {aside}")
