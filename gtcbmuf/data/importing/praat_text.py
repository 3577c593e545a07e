"""Reads the values in a text file of Praat, such as a TextGrid.

Values are free-standing numbers, texts in double quotes and flags such as <exists>. "!" begins a
comment. Everything else is ignored. So the long, the short and the free form of a file have the
same values. The format is described at https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html
"""

import re
from typing import NoReturn

# Words without a value and comments match no group.
_TOKEN = re.compile(
    r"""
      "(?P<text>[^"]*(?:""[^"]*)*)"(?=[\s!]|\Z)
    | (?P<quote>"[^\s!]*)                       # without a partner, or in the middle of a word
    | <(?P<flag>\w+)>(?=[\s!]|\Z)
    | (?P<number>[-+0-9][^\s!]*)
    | ![^\n]*
    | [^\s!]+
    """,
    re.VERBOSE,
)
# Praat reads "0,5" as 0 and "100ms" as 100: such numbers are refused here.
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?s?")
_NAMES = {
    "number": "a number",
    "text": "a text in double quotes",
    "flag": "a flag such as <exists>",
}
_EXCERPT = 40  # characters of a value in a message


class PraatValues:
    """The values of a text file of Praat, which are taken in order.

    Args:
        text: content of the file.

    >>> values = PraatValues('File type = "ooTextFile" ! intervals [3]: xmin = -0.5')
    >>> values.take_text(), values.kind
    ('ooTextFile', 'end')
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [token for token in _TOKEN.finditer(text) if token.lastgroup]
        self._next = 0

    @property
    def kind(self) -> str:
        """The kind of the next value: "number", "text", "flag", "quote" (damaged) or "end"."""
        if self._next == len(self._tokens):
            return "end"
        return self._tokens[self._next].lastgroup or ""

    @property
    def line(self) -> int:
        """The line of the next value, from 1."""
        place = len(self._text) if self.kind == "end" else self._tokens[self._next].start()
        return 1 + self._text.count("\n", 0, place)

    def take_number(self) -> float:
        """Return the next value, a number.

        Raises:
            ValueError: the next value is not a number.
        """
        if self.kind == "number" and not _NUMBER.fullmatch(self._word):
            self._refuse("a number such as 0.5")
        return float(self._take("number").removesuffix("s"))

    def take_text(self) -> str:
        """Return the next value, a text, without its quotes.

        Raises:
            ValueError: the next value is not a text.
        """
        return self._take("text").replace('""', '"')

    def take_flag(self) -> str:
        """Return the next value, a flag, without its brackets.

        Raises:
            ValueError: the next value is not a flag.
        """
        return self._take("flag")

    @property
    def _word(self) -> str:
        return self._tokens[self._next][0]

    def _take(self, kind: str) -> str:
        """Return the next value of this kind, as it is written."""
        if self.kind != kind:
            self._refuse(_NAMES[kind])
        token = self._tokens[self._next]
        self._next += 1
        return token[kind]

    def _refuse(self, expected: str) -> NoReturn:
        found = "the file ends here" if self.kind == "end" else repr(self._word[:_EXCERPT])
        reason = " has a quote without its partner" if self.kind == "quote" else ""
        raise ValueError(f"line {self.line}: {found}{reason}; expected {expected}")
