"""Copies of files on the disks of the hosts."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from mpi4py import MPI

from gtcbmuf.mpi.job import CollectiveError
from gtcbmuf.mpi.staging import staged

WORLD = MPI.COMM_WORLD


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that all ranks share."""
    return Path(WORLD.bcast(str(tmp_path)))


def write(path: Path, content: bytes) -> Path:
    """Write a file on rank 0."""
    if WORLD.rank == 0:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    WORLD.Barrier()
    return path


def test_files_with_one_name_have_separate_copies(place: Path) -> None:
    one, other = (write(place / name / "corpus.h5", name.encode()) for name in ("one", "other"))
    copies = [staged(WORLD, source, place / "scratch") for source in (one, other, one)]
    assert [copy.read_bytes() for copy in copies] == [b"one", b"other", b"one"]
    assert all(copy.parent == place / "scratch" for copy in copies)
    assert copies[0].suffix == ".h5"
    assert WORLD.allgather(copies) == [copies] * WORLD.size


def test_a_copy_that_differs_is_refused_and_removed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_the_first_bytes(source: Path, copy: Path) -> Any:
        copy.write_bytes(source.read_bytes()[:2])

    source = write(place / "corpus.h5" / "corpus.h5", b"content")
    monkeypatch.setattr(shutil, "copyfile", copy_the_first_bytes)
    with pytest.raises(CollectiveError, match="the copy differs from the file that rank 0 read"):
        staged(WORLD, source, place / "scratch")
    WORLD.Barrier()
    assert list((place / "scratch").iterdir()) == []


def test_a_file_that_is_lost_is_refused(place: Path) -> None:
    with pytest.raises(CollectiveError, match=r"cannot be copied there on .*: No such file"):
        staged(WORLD, place / "none.h5", place / "scratch")
