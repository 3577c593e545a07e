"""Compares the names of utterances and speakers.

One name can have several Unicode forms: macOS writes "é" as "e" and an accent (NFD), other systems
write one character (NFC). All tables of an import take them for the same name.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import TypeVar

_Value = TypeVar("_Value")


def compose_name(name: str) -> str:
    """Return a name in the composed form (NFC), for comparisons.

    >>> compose_name("Rene\\u0301") == "Ren\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def name_splitter(known: Iterable[str]) -> Callable[[str], tuple[str, str]]:
    """Return a function that splits a line of a table into the name at its beginning and the rest.

    A known name may have blanks; the longest one counts. Any other name ends at the first blank.

    Args:
        known: names that may be in the table.

    >>> split = name_splitter(["Speaker 01", "Speaker 01-a"])
    >>> split("Speaker 01-a  Speaker 01"), split("s02 Speaker 01")
    (('Speaker 01-a', 'Speaker 01'), ('s02', 'Speaker 01'))
    """
    with_blanks = {compose_name(name) for name in known if len(name.split()) > 1}

    def split(line: str) -> tuple[str, str]:
        text = line.strip()
        blanks = re.finditer(r"\s|$", text) if with_blanks else ()
        ends = [
            blank.start() for blank in blanks if compose_name(text[: blank.start()]) in with_blanks
        ]
        end = ends[-1] if ends else len(text.split(maxsplit=1)[0]) if text else 0
        return text[:end], text[end:].strip()

    return split


class NameTable(MutableMapping[str, _Value]):
    """A dictionary that takes all Unicode forms of a name for the same key.

    Iteration gives each name in the form of its first entry.

    Args:
        entries: names and values.

    >>> table = NameTable([("Rene\\u0301", 1)])
    >>> table["Ren\\u00e9"]
    1
    """

    def __init__(self, entries: Iterable[tuple[str, _Value]] = ()) -> None:
        # Name as written and value, by composed name.
        self._entries: dict[str, tuple[str, _Value]] = {}
        self.update(entries)

    def __getitem__(self, name: str) -> _Value:
        return self._entries[compose_name(name)][1]

    def __setitem__(self, name: str, value: _Value) -> None:
        composed = compose_name(name)
        written, _ = self._entries.get(composed, (name, value))
        self._entries[composed] = (written, value)

    def __delitem__(self, name: str) -> None:
        del self._entries[compose_name(name)]

    def __iter__(self) -> Iterator[str]:
        return (written for written, _ in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)
