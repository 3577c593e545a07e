"""Rules that find the speaker of a recording: by a folder, by its name, or in a table."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import NamedTuple

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.kaldi_tables import read_speakers
from gtcbmuf.data.importing.names import NameTable, compose_name
from gtcbmuf.data.importing.utterance_files import find_candidates

#: Rule that fits one folder per speaker, with any folders below it.
DEFAULT_RULE = "folder"

_GRAMMAR = (
    "expected folder, folder:N, prefix:N, pattern:REGEX, or a file with an utterance and its "
    "speaker in each line"
)


class Speakers(NamedTuple):
    """The speakers of recordings.

    Attributes:
        speaker_of: speaker of each utterance, by name.
        faults: reason why an utterance has no speaker, by name.
        rule: rule that found the speakers, in words.
        hint: advice for utterances without a speaker.
    """

    speaker_of: dict[str, str]
    faults: dict[str, str]
    rule: str
    hint: str = ""

    def group(self, names: Iterable[str]) -> NameTable[list[str]]:
        """Group utterances that have a speaker by that speaker, in their order."""
        utterances_of: NameTable[list[str]] = NameTable()
        for name in names:
            utterances_of.setdefault(self.speaker_of[name], []).append(name)
        return utterances_of


def find_speakers(choice: str, directory: Path, recordings: Mapping[str, Path]) -> Speakers:
    """Find the speaker of each recording.

    | rule | speaker |
    |---|---|
    | `folder` | the first folder below `directory`; a file in `directory` is its own speaker |
    | `folder:N` | the N-th folder below `directory`, from 1 |
    | `prefix:N` | the first N characters of the file name |
    | `pattern:REGEX` | the group of a regular expression, in the path below `directory` |
    | a path | the entry of the utterance in this file, such as Kaldi's utt2spk |

    Args:
        choice: the rule. A path of a pattern has "/" between folders and no suffix. A file names an
            utterance in full, or by its file name without the suffix.
        directory: directory of the recordings.
        recordings: file of each utterance.

    Raises:
        UserError: there is no such rule or file, or the file is invalid.
    """
    kind, colon, value = choice.partition(":")
    where = f"--speakers {choice}"
    if choice == DEFAULT_RULE:
        return _find_by_first_folder(directory, recordings)
    if colon and kind in ("folder", "prefix"):
        if not re.fullmatch("[1-9][0-9]{0,4}", value):
            raise UserError(f"{where}: expected {kind}:N with a number N from 1 to 99999")
        if kind == "folder":
            rule, find = f"folder {value} below {directory}", _folder_finder(int(value))
        else:
            rule = f"the first {value} characters of the file name"
            find = _prefix_finder(int(value))
    elif colon and kind == "pattern":
        rule, find = f"the pattern {value} in the path", _pattern_finder(where, value)
    elif Path(choice).exists():
        return _read_table(Path(choice), recordings)
    else:
        raise UserError(f"{where}: no such rule or file; {_GRAMMAR}")
    speaker_of, faults = {}, {}
    for name, path in recordings.items():
        relative = path.relative_to(directory)
        try:
            speaker_of[name] = find(PurePath(compose_name(str(relative.with_suffix("")))))
        except LookupError as error:
            faults[name] = f"no speaker: {relative}: {error.args[0]}"
    return Speakers(speaker_of, faults, rule)


def _find_by_first_folder(directory: Path, recordings: Mapping[str, Path]) -> Speakers:
    folders_of = {name: path.relative_to(directory).parts[:-1] for name, path in recordings.items()}
    speaker_of = {name: folders[0] if folders else name for name, folders in folders_of.items()}
    depths = {len(folders) for folders in folders_of.values()}
    rule = f"the first folder below {directory}"
    if max(depths) > 1:
        rule += " (--speakers folder:2 takes the second)"
    if depths == {0}:
        rule = "recording, because they are in no folders"
    elif 0 in depths:
        rule += ", or by recording outside of folders"
    return Speakers(speaker_of, {}, rule)


def _folder_finder(number: int) -> Callable[[PurePath], str]:
    def find(path: PurePath) -> str:
        folders = path.parts[:-1]
        if number > len(folders):
            raise LookupError(f"in {len(folders)} folders; expected {number} or more")
        return folders[number - 1]

    return find


def _prefix_finder(length: int) -> Callable[[PurePath], str]:
    def find(path: PurePath) -> str:
        if len(path.name) < length:
            raise LookupError(f"expected a file name of {length} or more characters")
        return path.name[:length]

    return find


def _pattern_finder(where: str, text: str) -> Callable[[PurePath], str]:
    try:
        pattern = re.compile(compose_name(text))
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"{where}: expected a regular expression: {error}") from None
    if pattern.groups != 1:
        raise UserError(
            f"{where}: {pattern.groups} groups; expected one, such as (p[0-9]+) in (p[0-9]+)_; "
            "write (?:...) for further parentheses"
        )

    def find(path: PurePath) -> str:
        match = pattern.search(path.as_posix())
        if not match or not match[1]:
            raise LookupError(f"expected a match of the pattern {text}")
        return match[1]

    return find


def _read_table(path: Path, recordings: Mapping[str, Path]) -> Speakers:
    candidates_of = find_candidates(recordings)
    speaker_of: dict[str, str] = {}
    for entry, speaker in read_speakers(path, candidates_of).items():
        match candidates_of.get(entry, []):
            case [name] if speaker_of.setdefault(name, speaker) != speaker:
                raise UserError(f"{path}: {entry}: second speaker of {name}; expected one")
    faults = {name: f"no speaker in {path}" for name in recordings if speaker_of.get(name) is None}
    name, file = next(iter(recordings.items()))
    hint = f"expected lines such as {name} SPEAKER, or {file.stem} SPEAKER"
    return Speakers(speaker_of, faults, str(path), hint)
