"""Finds the files of utterances below a directory."""

import os
from collections.abc import Collection
from pathlib import Path

from gtcbmuf.base.errors import UserError


def find_utterance_files(directory: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """Find the files below a directory that have one of the suffixes.

    The name of an utterance is the path of its file below the directory, without the suffix and
    with "-" for "/". Hidden files are skipped.

    Args:
        directory: to search, also behind links.
        suffixes: in lower case, such as ".wav". Upper case in a file name does not matter.

    Returns:
        The file of each utterance, ordered by path.

    Raises:
        UserError: a directory cannot be read or is reached twice, a name is not printable, or two
            files have the same name.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read as a directory: {error.strerror}")

    paths: list[Path] = []
    first_paths: dict[str, str] = {}  # links may form a circle, or reach a speaker twice
    for folder, _, names in os.walk(directory, onerror=refuse, followlinks=True):
        first = first_paths.setdefault(os.path.realpath(folder), folder)
        if first != folder:
            raise UserError(f"{folder}: the same folder as {first}; expected it once")
        paths += [
            Path(folder, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes
        ]
    files: dict[str, Path] = {}
    for path in sorted(paths):
        utterance = path.relative_to(directory).with_suffix("").as_posix().replace("/", "-")
        if not utterance.isprintable():  # not in UTF-8, or with a newline
            raise UserError(f"{str(path)!r}: expected a name of printable characters")
        if files.setdefault(utterance, path) != path:
            raise UserError(
                f"{files[utterance]} and {path}: both would be the utterance {utterance}"
            )
    return files
