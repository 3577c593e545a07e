"""The layout of a corpus file, shared by its reader and its writer.

docs/corpus.md describes the format.
"""

import hashlib
from pathlib import Path

FORMAT = "gtcbmuf-corpus"
VERSION = 1
#: Size of HDF5's user block, in bytes. It holds the format's name and the hash of the rest.
USER_BLOCK = 512
#: Datasets start at multiples of this many bytes.
ALIGNMENT = 64
#: Number of frames under one checksum.
CHECKSUM_FRAMES = 4096


def hash_content(path: Path) -> str:
    """Return the SHA-256 of a corpus file after its user block, in hexadecimal."""
    with path.open("rb") as file:
        file.seek(USER_BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest()


def format_user_block(digest: str) -> bytes:
    """Return the user block of a corpus file whose content has this hash."""
    return f"{FORMAT} {VERSION}\nsha256 {digest}\n".encode().ljust(USER_BLOCK, b"\0")
