"""Layout of a corpus file, for its reader and its writer.

docs/reference/files.md describes the format.
"""

import hashlib
from pathlib import Path

FORMAT = "gtcbmuf-corpus"
VERSION = 1
#: Size of HDF5's user block, in bytes. It holds the name of the format and the hash of the content.
USER_BLOCK = 512
#: Alignment of the datasets, in bytes.
ALIGNMENT = 64
#: Number of frames per checksum.
CHECKSUM_FRAMES = 4096


def hash_content(path: Path) -> str:
    """Compute the SHA-256 of a corpus file after its user block, in hexadecimal."""
    with path.open("rb") as file:
        file.seek(USER_BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest()


def format_user_block(digest: str) -> bytes:
    """Format the user block of a corpus file, given the hash of its content."""
    return f"{FORMAT} {VERSION}\nsha256 {digest}\n".encode().ljust(USER_BLOCK, b"\0")
