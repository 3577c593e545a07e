"""Reads the texts of recordings: a file for each, tables beside them, or Kaldi's table `text`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.exclusions import EXAMPLES
from gtcbmuf.data.importing.names import NameTable, name_splitter
from gtcbmuf.data.importing.phone_alignments import NO_AUDIO
from gtcbmuf.data.importing.text_lines import read_lines
from gtcbmuf.data.importing.utterance_files import find_candidates, find_utterance_files

_SUFFIXES = frozenset({".txt", ".lab"})
#: End of the name of a table beside the recordings, as in LibriSpeech.
_TABLE = ".trans.txt"


@dataclass
class Transcripts:
    """The texts of recordings.

    Attributes:
        text_of: text of each utterance, by name.
        faults: reason why an utterance has no usable text, by name.
    """

    text_of: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


def read_transcripts(source: Path, recordings: Mapping[str, Path]) -> Transcripts:
    """Read the texts of all recordings.

    Args:
        source: directory of .txt and .lab files with the layout of the recordings, or path of a
            table with an utterance and its text in each line. The directory may have tables, too,
            with names that end with .trans.txt, as in LibriSpeech. A table names an utterance by
            its name, or by the file name of its recording without the suffix.
        recordings: file of each utterance.

    Raises:
        UserError: the source cannot be read, or has no text.
    """
    if not source.exists():
        raise UserError(f"--texts {source}: no such file or directory")
    return _read_table(source, recordings) if source.is_file() else _read_files(source, recordings)


def _read_files(directory: Path, recordings: Mapping[str, Path]) -> Transcripts:
    files = find_utterance_files(directory, _SUFFIXES)
    if not files:
        raise UserError(
            f"{directory}: no texts in this directory; expected .txt or .lab files, or --texts FILE"
        )
    utterances = NameTable((name, name) for name in recordings)
    transcripts = Transcripts()
    read_table = _table_reader(recordings, transcripts)
    for file_name, path in files.items():
        if file_name not in utterances:
            if path.name.endswith(_TABLE):
                read_table(path)
            else:
                transcripts.faults[file_name] = NO_AUDIO
            continue
        name = utterances[file_name]
        try:
            transcripts.text_of[name] = " ".join(read_lines(path))
        except UserError as error:
            transcripts.faults[name] = str(error)
    return transcripts


def _read_table(path: Path, recordings: Mapping[str, Path]) -> Transcripts:
    transcripts = Transcripts()
    _table_reader(recordings, transcripts)(path)
    if not transcripts.text_of:
        raise UserError(
            f"{path}: no text of a recording; expected an utterance and its text in each line"
        )
    return transcripts


def _table_reader(
    recordings: Mapping[str, Path], transcripts: Transcripts
) -> Callable[[Path], None]:
    """Return a function that adds the texts of a table."""
    candidates_of = find_candidates(recordings)
    split = name_splitter(candidates_of)

    def read(path: Path) -> None:
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip():
                continue
            entry, text = split(line)
            match candidates_of.get(entry, []):
                case []:
                    transcripts.faults[entry] = NO_AUDIO
                case [name] if transcripts.text_of.setdefault(name, text) != text:
                    raise UserError(f"{path}: line {number}: second text of {name}; expected one")
                case [_]:
                    pass
                case [*names]:
                    examples = ", ".join(names[:EXAMPLES])
                    transcripts.faults[entry] = f"ambiguous name of {examples}"

    return read
