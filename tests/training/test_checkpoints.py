"""The choice of a checkpoint: the newest usable one, or a refusal in one line."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from gtcbmuf.mpi.job import CollectiveError
from gtcbmuf.training import checkpoint_files
from gtcbmuf.training.checkpoints import Checkpoints


def save(folder: Path, *steps: int) -> list[Path]:
    """Save checkpoints of one worker."""
    for step in steps:
        state = {"model": np.full(3, step, np.float32)}
        Checkpoints(MPI.COMM_SELF, folder, len(steps)).save(step, state, {}, {"epoch": step})
    return sorted(folder.iterdir())


def load(folder: Path) -> Any:
    return Checkpoints(MPI.COMM_SELF, folder, 2).load()


def cut(path: Path) -> None:
    file = path / "rank-00000.h5"
    file.write_bytes(file.read_bytes()[:-1])


def remove_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def remove_rank(path: Path) -> None:
    (path / "rank-00000.h5").unlink()


def set_version(path: Path, version: int) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    text = manifest["manifest"].replace('"version": 3', f'"version": {version}')
    digest = hashlib.sha256(text.encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({"sha256": digest, "manifest": text}))


def hide_rank(path: Path) -> None:
    """Put a folder in the place of a file, which not even root can read."""
    remove_rank(path)
    (path / "rank-00000.h5").mkdir()


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (cut, "/rank-00000.h5: damaged checkpoint: the file does not match its hash"),
    (remove_manifest, ": damaged checkpoint: no manifest.json"),
    (remove_rank, "/rank-00000.h5: damaged checkpoint: no rank-00000.h5"),
    (hide_rank, "/rank-00000.h5: the checkpoint cannot be read: Is a directory"),
    (
        lambda path: set_version(path, 2),
        ": checkpoint of format version 2, which an older gtcbmuf wrote; this one reads version 3",
    ),
    (
        lambda path: set_version(path, 4),
        ": checkpoint of format version 4, which a newer gtcbmuf wrote; this one reads version 3",
    ),
]
ENDING = "; there is no other checkpoint; to begin anew, omit --resume"


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_without_a_usable_checkpoint_one_line_says_why(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    [path] = save(tmp_path, 1)
    damage(path)
    with pytest.raises(CollectiveError) as error:
        load(tmp_path)
    assert str(error.value) == f"{path}{message}{ENDING}"
    assert error.value.status == 2


def test_the_line_tells_the_reason_of_each_checkpoint(tmp_path: Path) -> None:
    paths = save(tmp_path, *range(1, len(DAMAGE) + 1))
    for path, (damage, _) in zip(paths, DAMAGE, strict=True):
        damage(path)
    with pytest.raises(CollectiveError) as error:
        load(tmp_path)
    reasons = [f"{path}{message}" for path, (_, message) in zip(paths, DAMAGE, strict=True)]
    assert str(error.value) == "; ".join(reversed(reasons)) + ENDING


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_an_older_checkpoint_replaces_an_unusable_one(
    tmp_path: Path,
    damage: Callable[[Path], None],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, newest = save(tmp_path, 1, 2)
    damage(newest)
    assert load(tmp_path).checkpoint.shared == {"epoch": 1}
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"gtcbmuf: {newest}{message}; continuing from an earlier checkpoint"


def test_incomplete_checkpoints_are_none(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert load(folder) is None
    folder.mkdir()
    assert load(folder) is None
    checkpoint_files.begin_checkpoint(folder, 1)
    (folder / "step-00000001.bak").mkdir()
    assert load(folder) is None


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    for number in (errno.EIO, errno.EACCES, errno.ESTALE):

        def listdir(path: Path, number: int = number) -> list[str]:
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr(os, "listdir", listdir)
        with pytest.raises(CollectiveError, match=f"cannot be read: {os.strerror(number)}$"):
            load(tmp_path)


def test_an_input_error_is_told_from_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = save(tmp_path, 1)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hashlib, "file_digest", fail)
    with pytest.raises(CollectiveError) as error:
        load(tmp_path)
    fault = "the checkpoint cannot be read: Input/output error"
    assert str(error.value) == f"{path}/rank-00000.h5: {fault}{ENDING}"
