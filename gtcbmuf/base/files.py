"""Files that are never half written, and what of HDF5 can be read whoever wrote it.

All content is numbers, or text of fixed length, in one piece. Text of variable length is a pointer
in the file, which a flipped bit turns into a crash of the HDF5 library; pieces, filters and links
to other files are code that nothing here needs. The files are of HDF5's version 1.10, which has
checksums in its structures (`libver="v110"`).
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

#: What is raised where a file cannot be written; the latter by h5py, as it closes on a full disk.
WRITE_ERRORS = (OSError, RuntimeError)


def reason(error: Exception) -> str:
    """Why a file cannot be written, in the system's words; HDF5 has their number in its own."""
    if isinstance(error, FileExistsError):  # of a folder that was to be made
        return f"{error.filename} is no folder"
    number = re.search(r"errno = (\d+)", str(error))
    return os.strerror(int(number[1])) if number else getattr(error, "strerror", None) or str(error)


@contextmanager
def writing(path: Path, option: str = "") -> Iterator[None]:
    """What cannot be written in the block is its user's to mend.

    Args:
        path: of a file, or of a folder whose files are to be written.
        option: by which the user named it.

    Raises:
        UserError: there was one of WRITE_ERRORS, or the path has no name.
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
    """A path beside `path` to write to; at the end of the block it takes the place of `path`.

    Its folder is made. If the block fails, what was written goes, and an earlier file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that people can read, whole or not at all."""
    write_text(path, as_json(content))


def as_json(content: Mapping[str, Any]) -> str:
    """As JSON that people can read."""
    return json.dumps(content, indent=2) + "\n"


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table whose columns are those of its first row, whole or not at all."""
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


#: What is raised of a file that is damaged, or another than expected, by HDF5, NumPy, and readers
#: that find values of another type.
READ_ERRORS = (
    *(OSError, RuntimeError, LookupError, AttributeError),
    *(TypeError, ValueError, ArithmeticError),
)

_PLAIN = "biufS"  # kinds of NumPy's types: numbers, and text of fixed length


def set_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    """Set a file's attributes: numbers, tuples of numbers, text."""
    for name, value in attributes.items():
        file.attrs[name] = text_array([value])[0] if isinstance(value, str) else value


def get_attributes(file: h5py.File) -> dict[str, Any]:
    """A file's attributes as `set_attributes` took them; arrays for tuples.

    Raises:
        One of READ_ERRORS: they cannot be read, or are neither numbers nor text.
    """
    attributes = {}
    for name in file.attrs:
        if file.attrs.get_id(name).dtype.kind not in _PLAIN:
            raise TypeError(f"the attribute {name} is neither numbers nor text of fixed length")
        value = file.attrs[name]
        attributes[name] = value.decode() if isinstance(value, bytes) else value
    return attributes


def get_dataset(file: h5py.File, path: str) -> h5py.Dataset:
    """A dataset of numbers or text, which lies in the file in one piece: so it is no larger.

    Raises:
        One of READ_ERRORS: there is none, or another one.
    """
    place = file
    for name in path.split("/"):
        link = place.get(name, getlink=True) if isinstance(place, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise KeyError(f"{path} is not in it")
        place = place[name]
    if not isinstance(place, h5py.Dataset) or place.dtype.kind not in _PLAIN or not place.shape:
        raise TypeError(f"{path} is no array of numbers or of text of fixed length")
    if place.size and place.id.get_offset() is None:
        raise TypeError(f"{path} is not contiguous")
    return place


def text_array(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """Text as a dataset takes it."""
    encoded = [text.encode() for text in texts]
    length = max(map(len, encoded), default=0)
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max(length, 1)))
