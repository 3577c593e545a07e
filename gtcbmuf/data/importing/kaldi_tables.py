"""Reads Kaldi's text tables: the locations in an scp, and the speakers in utt2spk.

No entry of an scp ever reaches a shell.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, cast

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.extras import require_extra
from gtcbmuf.data.importing.kaldi_ranges import MatrixRange
from gtcbmuf.data.importing.names import NameTable, name_splitter
from gtcbmuf.data.importing.text_lines import read_lines

_LOCATION_AND_RANGE = re.compile(r"([^\[]+)\[([^\[]*)\]")
_GUNZIP = re.compile(r"(?:gunzip -c|gzip -c?dc?|zcat)\s+([^\s'\"`$;&|<>()\\*?]+)\s*\|")
_FILE_AND_OFFSET = re.compile(r"(.+?)(?::\d+)?")


def require_kaldi_native_io() -> None:
    """Check that the extra `kaldi` is installed.

    Raises:
        UserError: the extra is not installed.
    """
    require_extra("kaldi", ["kaldi_native_io"], "the import of Kaldi's files needs")


class Location(NamedTuple):
    """The location of a matrix.

    Attributes:
        text: the location as written.
        place: FILE or FILE:OFFSET of the whole matrix. For a gzipped file, FILE.
        file: the file.
        is_gzipped: whether the file is gzipped.
        range: range of the matrix. None stands for the whole matrix.
    """

    text: str
    place: str
    file: Path
    is_gzipped: bool
    range: MatrixRange | None


def read_scp(path: Path) -> NameTable[Location]:
    """Read an scp: the location of each matrix, by name.

    A location is a file, a file with an offset (`FILE:OFFSET`), or `gunzip -c FILE |`. A range may
    follow, as in `FILE:OFFSET[0:99,0:39]`.

    Raises:
        UserError: the table cannot be read. A location has another form, or its file does not
            exist.
    """
    table = _read_table(path)
    return NameTable((name, _parse_location(path, name, text)) for name, text in table.items())


def read_speakers(utt2spk: Path | None, utterances: Iterable[str]) -> NameTable[str]:
    """Return the speaker of each utterance. Without a table, each utterance is its own speaker.

    Args:
        utt2spk: path of the table.
        utterances: names of utterances, which may have blanks.

    Raises:
        UserError: the table cannot be read.
    """
    if utt2spk is None:
        return NameTable((name, name) for name in utterances)
    return _read_table(utt2spk, utterances)


def _read_table(path: Path, known: Iterable[str] = ()) -> NameTable[str]:
    """Read a table with a name and a value in each line."""
    table: NameTable[str] = NameTable()
    split = name_splitter(known)
    for number, line in enumerate(read_lines(path), 1):
        name, value = split(line)
        if not value:
            raise UserError(f"{path}: line {number}: {line!r}: expected a name and a value")
        if table.setdefault(name, value) != value:
            form = "" if name in list(table) else ", whose Unicode form differs"
            raise UserError(f"{path}: line {number}: second value of {name}{form}; expected one")
    if not table:
        raise UserError(f"{path}: no entries; expected one line per utterance")
    return table


def _parse_location(scp: Path, name: str, text: str) -> Location:
    """Parse a location. Refuse one without a file, or one that Kaldi would pass to a shell."""
    where = f"{scp}: {name}: {text!r}"
    place, matrix_range = text, None
    if text.endswith("]"):
        parts = _LOCATION_AND_RANGE.fullmatch(text)
        matrix_range = MatrixRange.parse(parts[2]) if parts else None
        if not parts or not matrix_range:
            raise UserError(
                f"{where}: expected a range [FIRST:LAST] of rows, or [FIRST:LAST,FIRST:LAST] of "
                "rows and columns"
            )
        place = parts[1]
    if gunzip := _GUNZIP.fullmatch(place):
        place = path = gunzip[1]
    elif "|" in place:
        raise UserError(
            f"{where}: shell commands are not run; expected FILE:OFFSET, or "
            "'gunzip -c PATH |': run copy-feats first"
        )
    else:
        path = cast(re.Match[str], _FILE_AND_OFFSET.fullmatch(place))[1]
    if not os.path.isfile(path):  # Path.is_file raises if the name is too long
        raise UserError(f"{where}: no such file; expected the file of a matrix")
    return Location(text, place, Path(path), bool(gunzip), matrix_range)
