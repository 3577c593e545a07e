"""Shared memory that MPI libraries leave behind when a test kills their ranks."""

from pathlib import Path

_FOLDER = Path("/dev/shm")
_PATTERNS = ("mpich_shm_*", "sm_segment.*", "vader_segment.*")


def segments() -> set[Path]:
    """Return the files of MPI libraries in the memory of this host."""
    return {path for pattern in _PATTERNS for path in _FOLDER.glob(pattern)}


def remove(paths: set[Path]) -> None:
    """Remove those of the files that no process uses."""
    used = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text()
        except OSError:  # the process has ended, or belongs to another user
            continue
        used.update(path for path in paths if str(path) in text)
    for path in paths - used:
        try:
            path.unlink()
        except OSError:  # gone, or of another user
            continue
