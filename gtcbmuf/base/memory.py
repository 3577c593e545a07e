"""The memory of this machine."""

from contextlib import suppress
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that new work may take, or None if the system does not say.

    Inside a container or a Slurm job, its limit counts (version 2 of Linux's control groups, which
    are nested).

    Args:
        root: root of the file system with proc/ and sys/.

    Examples:
        >>> available_memory(Path("/no/such/folder")) is None
        True
    """
    free = []
    with suppress(OSError, ValueError, IndexError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        [line] = (line for line in lines if line.startswith("MemAvailable:"))
        free.append(1024 * int(line.split()[1]))
    with suppress(OSError):
        top = root / "sys/fs/cgroup"
        place = (root / "proc/self/cgroup").read_text().rpartition("::")[2].strip()
        group = top / place.lstrip("/")
        for folder in (group, *group.parents[: len(group.relative_to(top).parts)]):
            with suppress(OSError, ValueError):
                free.append(_room(folder))
    return min(free, default=None)


def _room(folder: Path) -> int:
    """Return the bytes below the limit of a control group.

    Raises:
        ValueError: it has no limit.
    """
    limit = int((folder / "memory.max").read_text())
    pairs = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
    cached = int(dict(pairs).get("inactive_file", 0))  # files that give way to new work
    return limit - int((folder / "memory.current").read_text()) + cached
