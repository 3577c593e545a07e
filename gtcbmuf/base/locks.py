"""Locks on files, which some network file systems refuse."""

import ctypes
import fcntl
import os
from typing import IO

_libc = ctypes.CDLL(None, use_errno=True)


def try_lock(file: IO[str]) -> None:
    """Lock an open file for this process, without waiting.

    The lock is held until the file is closed, at the latest when this process ends.

    Args:
        file: the open file.

    Raises:
        BlockingIOError: another process holds the lock.
        OSError: the file system refuses locks.

    Examples:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w") as first, open(first.name) as second:
        ...     try_lock(first)
        ...     try:
        ...         try_lock(second)
        ...     except BlockingIOError:
        ...         print("in use")
        in use
    """
    # fcntl.flock would try again for ever on a file system that answers each time with EINTR.
    if _libc.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
