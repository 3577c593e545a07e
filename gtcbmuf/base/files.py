"""Atomic writes of files."""

import csv
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError


def reason(error: Exception) -> str:
    """Return the system's reason for an error of a file.

    HDF5's messages contain the system's error number.
    """
    if isinstance(error, FileExistsError):  # a file has the name of a folder
        return f"{error.filename} is not a folder"
    number = re.search(r"errno = (\d+)", str(error))
    return os.strerror(int(number[1])) if number else getattr(error, "strerror", None) or str(error)


def named(path: Path, option: str) -> str:
    """Return a path for a message, after the command-line option that named it, if any.

    >>> named(Path("a.h5"), "--out"), named(Path("a.h5"), "")
    ('--out a.h5', 'a.h5')
    """
    return f"{option} {path}".lstrip()


@contextmanager
def writing(path: Path, option: str = "") -> Iterator[None]:
    """Turn write errors of the `with` block into user errors.

    Args:
        path: path of the file, or of the folder of several files.
        option: command-line option with which the user named the path.

    Raises:
        UserError: OSError was raised, or the path has no name.
    """
    where = named(path, option)
    if not path.name:
        raise UserError(f"{where}: expected a file")
    try:
        yield
    except OSError as error:
        raise UserError(f"{where}: cannot be written: {reason(error)}") from None


def check_output(path: Path, option: str, inputs: Iterable[Path | None] = ()) -> None:
    """Check, before a long computation, that its result can be written to a file.

    Args:
        path: path of the file.
        option: command-line option with which the user named the path.
        inputs: files that the computation reads, which must not be replaced. None is skipped.

    Raises:
        UserError: the path is a folder or one of the inputs, or the output of this process goes
            there, or a file has the name of its folder.

    Examples:
        >>> check_output(Path("/dev"), "--out")
        Traceback (most recent call last):
        gtcbmuf.base.errors.UserError: --out /dev: a folder; expected a file
    """
    where = named(path, option)
    with writing(path, option):
        if path.is_dir():
            raise UserError(f"{where}: a folder; expected a file")
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        if not nearest.is_dir():
            raise UserError(f"{where}: cannot be written: {nearest} is not a folder")
        for read in inputs:
            if read is not None and path.exists() and read.exists() and path.samefile(read):
                raise UserError(f"{where}: this file is read; expected another one")
        is_named = path.parts[:2] not in (("/", "dev"), ("/", "proc"))  # not as /dev/stdout
        if (
            is_named
            and path.is_file()
            and any(_is_open(path, stream) for stream in (sys.stdout, sys.stderr))
        ):
            raise UserError(f"{where}: this command's output goes there; expected another file")


def _is_open(path: Path, stream: Any) -> bool:
    """Return whether a standard stream of this process is a file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except (OSError, ValueError, TypeError, AttributeError):  # closed, replaced, or none
        return False


@contextmanager
def reading(path: Path, option: str = "") -> Iterator[None]:
    """Turn read errors of the `with` block into user errors.

    Args:
        path: path of the file or folder.
        option: command-line option with which the user named the path.

    Raises:
        UserError: the path cannot be read, for example because it is too long.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{named(path, option)}: cannot be read: {reason(error)}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file atomically: the `with` block writes to a temporary path.

    The context manager creates the folder. At the end of the block, it renames the temporary file
    to `path`. After an error, it deletes the temporary file, and an earlier file remains. The
    target of a symbolic link is replaced, not the link. A device such as /dev/null or a pipe is
    written to directly.

    Args:
        path: path of the file.

    Yields:
        The temporary path, in the same folder.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "a.txt") as path:
        ...         _ = path.write_text("a")
        ...     print(os.listdir(folder))
        ['a.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, atomically. Bytes of a path that are not text are written as escapes."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON, atomically."""
    write_text(path, as_json(content))


def as_json(content: Mapping[str, Any]) -> str:
    """Format content as indented JSON."""
    return json.dumps(content, indent=2) + "\n"


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table as CSV, atomically.

    Args:
        path: path of the file.
        rows: values of each row by column. The first row sets the columns.
    """
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
