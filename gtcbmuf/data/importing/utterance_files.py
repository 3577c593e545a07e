"""Finds the files of utterances in a directory tree."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.names import NameTable


def find_utterance_files(directory: Path, suffixes: Collection[str]) -> NameTable[Path]:
    """Find the files with one of some suffixes in a directory tree.

    The name of an utterance is the path of its file relative to the directory, without the suffix
    and with "-" for "/". Hidden files are skipped.

    Args:
        directory: root of the search, which follows symbolic links.
        suffixes: suffixes in lower case, such as ".wav". They match files of either case.

    Returns:
        The file of each utterance, in order of the paths.

    Raises:
        UserError: a directory cannot be read or is reached twice. A name is not printable, or two
            files give utterances of the same name.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read as a directory: {error.strerror}")

    paths: list[Path] = []
    first_paths: dict[str, str] = {}  # links may form a cycle, or reach a speaker twice
    for folder, _, names in os.walk(directory, onerror=refuse, followlinks=True):
        first = first_paths.setdefault(os.path.realpath(folder), folder)
        if first != folder:
            raise UserError(f"{folder}: the same folder as {first}; expected every folder once")
        paths += [
            Path(folder, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes
        ]
    files: NameTable[Path] = NameTable()
    for path in sorted(paths):
        utterance = path.relative_to(directory).with_suffix("").as_posix().replace("/", "-")
        if not utterance.isprintable():  # not UTF-8, or with a newline
            raise UserError(f"{str(path)!r}: expected a printable file name in UTF-8")
        if files.setdefault(utterance, path) != path:
            raise UserError(
                f"{files[utterance]} and {path}: two files of utterance {utterance}; expected one"
            )
    return files


def find_candidates(files: Mapping[str, Path]) -> NameTable[list[str]]:
    """Return the utterances that each name in a table may stand for.

    A table, such as a CTM, names an utterance as above, or by its file name without the suffix.

    Args:
        files: file of each utterance.
    """
    candidates_of: NameTable[list[str]] = NameTable()
    for name, path in files.items():
        candidates_of.setdefault(path.stem, []).append(name)
    candidates_of.update((name, [name]) for name in files)
    return candidates_of
