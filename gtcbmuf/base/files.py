"""Atomic writes of files, and a safe subset of HDF5.

A dataset holds numbers, or text of fixed length, and is contiguous. Text of variable length is a
pointer in the file, and a flipped bit in it crashes the HDF5 library. Chunks, filters and links to
other files would run code that nothing here needs. The files have the format of HDF5 1.10
(`libver="v110"`), whose structures have checksums.
"""

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError

#: Errors of a file that cannot be written. h5py raises RuntimeError as it closes on a full disk.
WRITE_ERRORS = (OSError, RuntimeError)


def reason(error: Exception) -> str:
    """Format one of `WRITE_ERRORS` as the system's reason; HDF5's messages contain its number."""
    if isinstance(error, FileExistsError):  # a file has the name of a folder
        return f"{error.filename} is no folder"
    number = re.search(r"errno = (\d+)", str(error))
    return os.strerror(int(number[1])) if number else getattr(error, "strerror", None) or str(error)


@contextmanager
def writing(path: Path, option: str = "") -> Iterator[None]:
    """Turn write errors into user errors: a context manager around the writing of a file.

    Args:
        path: the file, or the folder of several files.
        option: the option with which the user named the path.

    Raises:
        UserError: one of `WRITE_ERRORS` was raised, or the path has no name.
    """
    where = f"{option} {path}".lstrip()
    if not path.name:
        raise UserError(f"{where}: expected a file")
    try:
        yield
    except WRITE_ERRORS as error:
        raise UserError(f"{where}: cannot be written: {reason(error)}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file atomically: a context manager that gives a temporary path.

    It makes the folder. At the end it renames the temporary file to `path`. After an error it
    deletes the temporary file, and an earlier file remains.

    Args:
        path: the file.

    Yields:
        The temporary path, in the same folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "a.txt") as path:
        ...         _ = path.write_text("a")
        ...     print(os.listdir(folder))
        ['a.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with indents, atomically."""
    write_text(path, as_json(content))


def as_json(content: Mapping[str, Any]) -> str:
    """Format as JSON with indents."""
    return json.dumps(content, indent=2) + "\n"


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table as CSV, atomically.

    Args:
        path: the file.
        rows: values of each row by column. The first row sets the columns.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


#: Errors that HDF5, NumPy and readers raise for a damaged file or a file of another kind.
READ_ERRORS = (
    *(OSError, RuntimeError, LookupError, AttributeError),
    *(TypeError, ValueError, ArithmeticError),
)

_PLAIN = "biufS"  # kinds of NumPy dtypes: numbers, and text of fixed length


def set_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    """Set a file's attributes: numbers, tuples of numbers, text."""
    for name, value in attributes.items():
        file.attrs[name] = text_array([value])[0] if isinstance(value, str) else value


def get_attributes(file: h5py.File) -> dict[str, Any]:
    """Read the attributes that `set_attributes` wrote; tuples become arrays.

    Raises:
        One of `READ_ERRORS`: an attribute cannot be read, or is neither numbers nor text.
    """
    attributes = {}
    for name in file.attrs:
        if file.attrs.get_id(name).dtype.kind not in _PLAIN:
            raise TypeError(f"the attribute {name} is neither numbers nor text of fixed length")
        value = file.attrs[name]
        attributes[name] = value.decode() if isinstance(value, bytes) else value
    return attributes


def get_dataset(file: h5py.File, path: str) -> h5py.Dataset:
    """Find a contiguous dataset of numbers or text, which cannot be larger than the file.

    Args:
        file: the open file.
        path: path of the dataset in the file.

    Raises:
        One of `READ_ERRORS`: there is no such dataset, or it has another form.
    """
    node = file
    for name in path.split("/"):
        link = node.get(name, getlink=True) if isinstance(node, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise KeyError(f"{path} is not in it")
        node = node[name]
    if not isinstance(node, h5py.Dataset) or node.dtype.kind not in _PLAIN or not node.shape:
        raise TypeError(f"{path} is no array of numbers or of text of fixed length")
    if node.size and node.id.get_offset() is None:
        raise TypeError(f"{path} is not contiguous")
    return node


def text_array(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """Convert texts to an array of fixed length in UTF-8, for a dataset."""
    encoded = [text.encode() for text in texts]
    length = max(map(len, encoded), default=0)
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max(length, 1)))
