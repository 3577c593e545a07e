"""The memory that new work may take: the machine's, or less under a limit."""

from pathlib import Path

import pytest

from gtcbmuf.base.memory import available_memory

MEMINFO = "MemTotal:  8000 kB\nMemFree:  1000 kB\nMemAvailable:  3000 kB\n"


def machine(root: Path, *, meminfo: str = MEMINFO, limit: str | None = None) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(meminfo)
    if limit is not None:
        (root / "proc/self/cgroup").write_text("0::/job/step\n")
        # Slurm limits the job, not its steps.
        for name, most in {"job/step": "max", "job": limit}.items():
            folder = root / "sys/fs/cgroup" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "memory.max").write_text(f"{most}\n")
            (folder / "memory.current").write_text("700000\n")
            (folder / "memory.stat").write_text("anon 500000\ninactive_file 200000\n")
    return root


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, 3_072_000), ("max", 3_072_000), ("9999999", 3_072_000), ("2500000", 2_000_000)],
)
def test_the_smaller_of_both_is_available(limit: str | None, expected: int, tmp_path: Path) -> None:
    assert available_memory(machine(tmp_path, limit=limit)) == expected


@pytest.mark.parametrize("meminfo", ["", "MemAvailable: kB\n", "MemAvailable:\n"])
def test_a_system_that_does_not_say_is_no_error(meminfo: str, tmp_path: Path) -> None:
    assert available_memory(machine(tmp_path, meminfo=meminfo)) is None


def test_this_machine_says_it() -> None:
    available = available_memory()
    assert available is None or available > 1e6
