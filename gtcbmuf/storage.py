"""Files that are never half written, and text in HDF5 that cannot crash its reader."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; at the end of the block it takes the place of `path`.

    If the block fails, what was written goes, and an earlier file stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that people can read, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table whose columns are those of its first row, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


# Text has a fixed length: with a variable one it is a pointer in the file, which a flipped bit
# turns into a crash of the HDF5 library.


def set_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    """Set a file's attributes: numbers, tuples of numbers, text."""
    for name, value in attributes.items():
        file.attrs[name] = text_array([value])[0] if isinstance(value, str) else value


def get_attributes(file: h5py.File) -> dict[str, Any]:
    """A file's attributes as `set_attributes` took them; arrays for tuples.

    Raises:
        UnicodeDecodeError: text that is none.
    """
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in file.attrs.items()
    }


def text_array(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """Text as a dataset takes it."""
    encoded = [text.encode() for text in texts]
    length = max(map(len, encoded), default=0)
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max(length, 1)))
