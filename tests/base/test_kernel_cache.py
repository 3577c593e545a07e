"""Numba's cache, damaged or without a place: the kernels run all the same, and a line says why."""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba.core.config
import pytest
from numba.core.caching import UserProvidedCacheLocator
from support.corpora import write_corpus
from support.launch import gtcbmuf

from gtcbmuf.acoustic import kernels as acoustic
from gtcbmuf.base import jit, kernel_cache
from gtcbmuf.base.kernel_cache import cache_folder, take_fault
from gtcbmuf.core import kernels as core
from gtcbmuf.mpi import host_barrier

SOURCE = """
from gtcbmuf.base.jit import kernel

@kernel("(i8,)")
def add(number):
    return number + {}
"""
INDEX, DATA = "*.nbi", "*.nbc"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new folder of the cache."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep what other tests need of this process."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a module of the same size is not reread
    monkeypatch.setattr(jit, "_pending", [])
    monkeypatch.setattr(kernel_cache, "_faults", [])
    monkeypatch.setattr(kernel_cache, "_taken", False)
    yield
    monkeypatch.undo()
    numba.core.config.reload_config()


def build(folder: Path, summand: int = 1) -> Any:
    """A kernel that adds a number, as a new process would see it."""
    numba.core.config.reload_config()
    kernel_cache._faults.clear()
    kernel_cache._taken = False
    path = folder / "added.py"
    path.write_text(SOURCE.format(summand))
    spec = importlib.util.spec_from_file_location("added", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.add


def run(add: Any) -> tuple[int, bool, str]:
    """Its sum with 1, whether it came from the cache, and the line about a fault."""
    jit.compile_kernels()
    return add(1), bool(add.stats.cache_hits), str(take_fault() or "")


def file(cache: Path, pattern: str) -> Path:
    [path] = cache.rglob(pattern)
    return path


def test_a_kernel_is_loaded_from_the_cache(cache: Path, tmp_path: Path) -> None:
    assert run(build(tmp_path)) == (2, False, "")
    assert run(build(tmp_path)) == (2, True, "")
    assert run(build(tmp_path, summand=5)) == (6, False, "")


def invert_the_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("pattern", [INDEX, DATA])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:40] + bytes(len(content) - 40),
        lambda content: b"no pickle" * 99,
    ],
    ids=["empty", "half", "one byte short", "zeros", "text"],
)
def test_a_damaged_entry_is_replaced(
    pattern: str, damage: Callable[[bytes], bytes], cache: Path, tmp_path: Path
) -> None:
    run(build(tmp_path))
    entry = file(cache, pattern)
    entry.write_bytes(damage(entry.read_bytes()))
    result, is_hit, line = run(build(tmp_path))
    assert (result, is_hit) == (2, False)
    assert line.startswith(f"Numba's cache in {entry.parent} was damaged")
    assert "NUMBA_CACHE_DIR" in line
    assert run(build(tmp_path)) == (2, True, "")


def test_damaged_machine_code_is_not_run(cache: Path, tmp_path: Path) -> None:
    run(build(tmp_path))
    entry = file(cache, DATA)
    entry.write_bytes(invert_the_middle(entry.read_bytes()))
    result, is_hit, line = run(build(tmp_path))
    assert (result, is_hit) == (2, False)
    assert "was damaged" in line


def test_machine_code_of_an_earlier_source_is_not_run(cache: Path, tmp_path: Path) -> None:
    # Numba writes the index before the code. A process that is killed in between leaves this.
    run(build(tmp_path, summand=1))
    earlier = file(cache, DATA).read_bytes()
    run(build(tmp_path, summand=5))
    file(cache, DATA).write_bytes(earlier)
    assert run(build(tmp_path, summand=5))[:2] == (6, False)


def test_an_unusable_folder_is_reported_with_the_one_that_is_used(
    cache: Path, tmp_path: Path
) -> None:
    cache.touch()
    result, _, line = run(build(tmp_path))
    assert result == 2
    assert line == (
        f"NUMBA_CACHE_DIR={cache} cannot be written: Numba's cache is in {tmp_path}/__pycache__; "
        "set NUMBA_CACHE_DIR to a folder that can be written"
    )


def test_without_any_folder_kernels_are_compiled(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.touch()
    monkeypatch.setenv("NUMBA_CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    add = build(tmp_path)
    assert cache_folder(add) is None
    assert run(add) == (
        2,
        False,
        f"NUMBA_CACHE_DIR={cache} cannot be written: the kernels are compiled at each start; "
        "set NUMBA_CACHE_DIR to a folder that can be written",
    )
    assert run(build(tmp_path))[:2] == (2, False)


def test_without_a_home_no_folder_of_that_name_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "~")  # as the system's function answers for an unknown user
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    # Not the first ones, because the folder of the kernel can be written.
    monkeypatch.setattr(
        kernel_cache._Entries, "_locator_classes", kernel_cache._Entries._locator_classes[2:]
    )
    monkeypatch.chdir(tmp_path)
    result, is_hit, line = run(build(tmp_path))
    assert (result, is_hit) == (2, False)
    assert line.startswith("no folder for Numba's cache can be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["added.py"]


def test_a_folder_that_is_lost_is_reported(cache: Path, tmp_path: Path) -> None:
    add = build(tmp_path)
    shutil.rmtree(cache)
    cache.touch()
    result, is_hit, line = run(add)
    assert (result, is_hit) == (2, False)
    assert f"Numba's cache in {cache}" in line
    assert "cannot be" in line
    assert "NUMBA_CACHE_DIR" in line


# Commands, whose line stands on stderr once


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, a model, and a cache with all kernels."""
    place = tmp_path_factory.mktemp("place")
    for module in (
        core,
        acoustic,
        host_barrier,
    ):  # what this process's cache holds need not be compiled
        source = Path(module.__file__)
        copy = UserProvidedCacheLocator.get_suitable_cache_subpath(str(source))
        shutil.copytree(source.parent / "__pycache__", place / "cache" / copy)
    write_corpus(place / "corpus.h5")
    assert run_command(place, "train", ranks=2) == []
    return place


COMMANDS = {
    "train": (
        *("gtc", "--set", "corpus.path=corpus.h5", "--set", "train.epochs=1"),
        *("--set", "model.hidden=[64]", "--out", "run"),
    ),
    "score": ("run/model.h5", "corpus.h5"),
    "forward": ("run/model.h5", "corpus.h5", "--ark", "test.ark"),
    "bench": ("wire", "--rounds", "1"),
}


def run_command(place: Path, command: str, ranks: int, **env: str) -> list[str]:
    """The lines of a command on stderr."""
    variables = {"NUMBA_CACHE_DIR": str(place / "cache"), **env}
    done = gtcbmuf(command, *COMMANDS[command], ranks=ranks, env=variables, cwd=place)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "earlier run" not in line]


@pytest.mark.parametrize(
    ("command", "ranks"), [("train", 2), ("score", 2), ("forward", 0), ("bench", 0)]
)
def test_a_command_goes_on_with_a_damaged_cache(command: str, ranks: int, place: Path) -> None:
    model = (place / "run/model.h5").read_bytes()
    for kernel in ("kernels.threshold-", "coding.write_gaps-", "kernels.add_rectified-"):
        for index in (place / "cache").rglob(f"*{kernel}*.nbi"):
            index.write_bytes(b"")
    [line] = run_command(place, command, ranks)
    assert "was damaged" in line
    assert "NUMBA_CACHE_DIR" in line
    assert (place / "run/model.h5").read_bytes() == model


def test_ranks_without_their_folder_say_so_once(place: Path) -> None:
    [line] = run_command(place, "train", 2, NUMBA_CACHE_DIR=str(place / "corpus.h5"))
    assert f"NUMBA_CACHE_DIR={place / 'corpus.h5'} cannot be written" in line
