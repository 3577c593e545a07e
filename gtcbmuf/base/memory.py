"""The memory of this machine."""

from contextlib import suppress
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that new work may take, or None if the system does not say.

    Inside a container or a Slurm job, its limit counts (version 2 of Linux's control groups).

    Args:
        root: root of the file system with proc/ and sys/.
    """
    free = []
    with suppress(OSError, ValueError, IndexError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        [line] = (line for line in lines if line.startswith("MemAvailable:"))
        free.append(1024 * int(line.split()[1]))
    with suppress(OSError, ValueError, IndexError):
        place = (root / "proc/self/cgroup").read_text().rpartition("::")[2].strip()
        folder = root / "sys/fs/cgroup" / place.lstrip("/")
        limit = int((folder / "memory.max").read_text())
        free.append(limit - int((folder / "memory.current").read_text()))
    return min(free, default=None)
