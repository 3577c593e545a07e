"""A safe subset of HDF5.

A dataset is contiguous. It holds numbers or text of fixed length. Text of variable length is a
pointer in the file, and a flipped bit in this pointer crashes the HDF5 library. Chunks, filters and
links to other files would run code that this package does not need. The files have the format of
HDF5 1.10 (`libver="v110"`), whose structures have checksums.

Files are written beside their place, renamed, and then only read. So they need no locks, which some
network file systems refuse.
"""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

#: Errors that HDF5, NumPy and readers raise for a damaged file or a file of another kind.
READ_ERRORS = (
    *(OSError, RuntimeError, LookupError, AttributeError),
    *(TypeError, ValueError, ArithmeticError),
)
_PLAIN = "biufS"  # kinds of NumPy dtypes: numbers, and text of fixed length


def open_file(path: Path) -> h5py.File:
    """Open a file to read it, without a lock."""
    return h5py.File(path, "r", locking=False)


@contextmanager
def create_file(path: Path, **layout: Any) -> Iterator[h5py.File]:
    """Create a file, and close it at the end of the `with` block.

    Args:
        path: path of the file. An earlier file is replaced.
        layout: options of `h5py.File` for the layout of the file, such as its alignment.

    Raises:
        OSError: the file cannot be written.
    """
    with closing(_Target(path)) as target:
        try:
            with h5py.File(target, "w", libver="v110", **layout) as file:
                yield file
        except SystemError as error:  # an exception of a signal while HDF5 was writing
            raise error.__cause__ or error from None
        target.require_intact()


class _Target:
    """A file that HDF5 writes to, which remembers the first error.

    HDF5 does not report an error when it writes its buffers at the end, and crashes later. So this
    class hides errors from HDF5.

    Args:
        path: path of the file.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: BaseException | None = None
        self.seek, self.tell, self.flush = self._file.seek, self._file.tell, self._file.flush
        self.read, self.close = self._file.read, self._file.close

    def require_intact(self) -> None:
        """Raise the first error, if any."""
        if self._error:
            raise self._error

    def write(self, content: memoryview) -> int:
        rest = content
        try:
            while rest and not self._error:
                rest = rest[self._file.write(rest) :]
        except BaseException as error:  # also that of a signal
            self._error = error
        return len(content)

    def readinto(self, content: memoryview) -> int:
        read = self._file.readinto(content)
        content[read:] = bytes(len(content) - read)  # what could not be written
        return len(content)

    def truncate(self, size: int) -> None:
        try:
            self._file.truncate(size)
        except BaseException as error:
            if getattr(error, "errno", None) != errno.EINVAL:  # of a device
                self._error = self._error or error


def set_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    """Set a file's attributes: numbers, tuples of numbers, or text."""
    for name, value in attributes.items():
        file.attrs[name] = text_array([value])[0] if isinstance(value, str) else value


def get_attributes(file: h5py.File) -> dict[str, Any]:
    """Read the attributes that `set_attributes` wrote. Tuples become arrays.

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
    """Return a contiguous dataset of numbers or text. It cannot be larger than the file.

    Args:
        file: the open file.
        path: path of the dataset in the file.

    Raises:
        One of `READ_ERRORS`: the dataset is missing or has another form.
    """
    node = file
    for name in path.split("/"):
        link = node.get(name, getlink=True) if isinstance(node, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise KeyError(f"no dataset {path}")
        node = node[name]
    if not isinstance(node, h5py.Dataset) or node.dtype.kind not in _PLAIN or not node.shape:
        raise TypeError(f"{path} is neither an array of numbers nor of text of fixed length")
    if node.size and node.id.get_offset() is None:
        raise TypeError(f"{path} is not contiguous")
    return node


def text_array(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """Convert texts to an array of fixed-length UTF-8 text, for a dataset.

    Bytes of a path that are not text are written as escapes.
    """
    encoded = [text.encode(errors="backslashreplace") for text in texts]
    length = max(map(len, encoded), default=0)
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max(length, 1)))
