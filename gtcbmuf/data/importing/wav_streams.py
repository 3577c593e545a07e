"""Completes the headers of WAV files that were written to a pipe.

A program that cannot seek back to the header leaves 0 as the number of bytes of audio, and means
all bytes up to the end of the file. libsndfile takes the 0 literally. It handles the other
convention, the largest numbers, by itself.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

_CHUNK_NAME = re.compile(rb"[ -~]{4}")


def complete_wav(path: Path) -> bytes | None:
    """Return the content of a WAV with the number of bytes of audio in its header.

    Args:
        path: path of a file.

    Returns:
        The content. None if the file is no WAV that states 0 bytes of audio, or if it holds no
        audio.
    """
    content = path.read_bytes()
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    for begin, name, size in _find_chunks(content, 12):
        if name == b"data":
            audio = len(content) - begin
            # Further chunks, such as a LIST, may follow a recording that really is empty.
            if size or not audio or _is_chunk_list(content, begin):
                return None
            return content[: begin - 4] + audio.to_bytes(4, "little") + content[begin:]
    return None


def _find_chunks(content: bytes, place: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield the begin of the data, the name and the stated size of each chunk from a place on."""
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        yield place + 8, name, size
        place += 8 + size + size % 2


def _is_chunk_list(content: bytes, place: int) -> bool:
    """Return whether only complete chunks follow a place."""
    return all(
        _CHUNK_NAME.fullmatch(name) and begin + size <= len(content)
        for begin, name, size in _find_chunks(content, place)
    )
