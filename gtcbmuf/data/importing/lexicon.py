"""Reads lexicons: the pronunciations of words, as in CMUdict or in Kaldi's lexicon.txt."""

import re
from collections.abc import Iterable
from pathlib import Path
from unicodedata import category

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import SILENCE
from gtcbmuf.data.importing.names import compose_name
from gtcbmuf.data.importing.phone_names import map_labels
from gtcbmuf.data.importing.text_lines import read_lines

#: Phones of a word.
Pronunciation = tuple[str, ...]

_VARIANT = re.compile(r"(.+)\([0-9]+\)")  # WORD(2), the second pronunciation in CMUdict
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE]-?[0-9]+)?|\.[0-9]+(?:[eE]-?[0-9]+)?")
#: Marks of a sentence's ends and of silence, in texts.
_SILENT = frozenset({"<s>", "</s>", "<sil>", "!sil", "<eps>"})
_TAG = re.compile(r"(\[.*\w.*\]|<.*\w.*>|\{.*\w.*\})[.,;:!?]*")  # [noise], <unk>, {laughter}
_COMMENT = re.compile(r"\s#.*")
_JOINTS = re.compile(r"[-\u2010-\u2015/.,;:!?\u2026]+")


class Lexicon:
    """The pronunciations of words. Words match in any case and in any Unicode form.

    Args:
        entries: words with their pronunciations.
        silent: words that are silence.

    Examples:
        >>> lexicon = Lexicon([("well", ("W", "EH", "L")), ("known", ("N", "OW", "N"))])
        >>> lexicon.words('"Well-known!" -- well...')
        ['well', 'known', 'well']
        >>> lexicon["Known"]
        [('N', 'OW', 'N')]
    """

    def __init__(
        self, entries: Iterable[tuple[str, Pronunciation]], silent: Iterable[str] = ()
    ) -> None:
        self._pronunciations: dict[str, list[Pronunciation]] = {}
        for word, phones in entries:
            variants = self._pronunciations.setdefault(_key(word), [])
            if phones not in variants:
                variants.append(phones)
        self._silent = _SILENT.union(map(_key, silent)) - self._pronunciations.keys()

    def __contains__(self, word: str) -> bool:
        return _key(word) in self._pronunciations

    def __getitem__(self, word: str) -> list[Pronunciation]:
        return self._pronunciations[_key(word)]

    def words(self, text: str) -> list[str]:
        """Divide a text into words, in the form of the lexicon's keys.

        A piece between blanks is a word if the lexicon has it. If not, characters that are no
        letter, digit or apostrophe are taken off its ends. If the lexicon lacks the rest, it is
        divided at hyphens and punctuation, if that gives known words. Pieces without a letter or a
        digit are dropped, and so are words that are silence, such as <s>. A tag, such as [noise] or
        <unk>, is no word in brackets: it is unknown if the lexicon lacks it.

        Returns:
            The words. Those that the lexicon lacks are among them.
        """
        return [word for piece in text.split() for word in self._read(piece)]

    def _read(self, piece: str) -> list[str]:
        key = _key(piece)
        tag = find_tag(key)
        if self._silent & {key, tag, bare_word(piece)}:
            return []
        return [tag] if tag and key not in self._pronunciations else self._divide(piece)

    def _divide(self, piece: str) -> list[str]:
        bare = bare_word(piece)
        for form in (piece, bare, bare.strip("'")):
            if form in self:
                return [_key(form)]
        parts = [part.strip("'") for part in _JOINTS.split(bare)]
        parts = [part for part in parts if any(map(str.isalnum, part))]
        return [_key(part) for part in (parts if all(part in self for part in parts) else [bare])]


def find_tag(piece: str) -> str:
    """Return the tag that a piece of a text is, such as [noise]; empty if it is none."""
    found = _TAG.fullmatch(piece)
    return found[1] if found else ""


def bare_word(piece: str) -> str:
    """Return a piece of a text without what is no letter, mark, digit or apostrophe at its ends.

    It is in lower case, and in one Unicode form. Marks are the vowel signs of Indic scripts, of
    Thai and others.
    """
    word = _key(piece)
    inner = [number for number, character in enumerate(word) if _is_of_word(character)]
    return word[inner[0] : inner[-1] + 1] if inner else ""


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character in "_'" or category(character).startswith("M")


def _key(word: str) -> str:
    return compose_name(word).casefold().replace("\u2019", "'")


def read_lexicon(path: Path) -> Lexicon:
    """Read a lexicon: a word and its phones in each line, separated by blanks.

    A word may have several lines. In CMUdict, `WORD(2)` is another pronunciation of WORD, and ";;;"
    or " #" begins a comment. In Kaldi's lexiconp.txt, a probability stands before the phones of all
    lines. In its lexiconp_silprob.txt and in dictionaries of the Montreal Forced Aligner, these are
    four numbers. Phones lose their position in the word and ARPAbet's stress, as in an import. A
    word that is pronounced as silence alone is silence.

    Raises:
        UserError: the file cannot be read, or a line has no phones, or a number among them.
    """
    lines = []
    for number, line in enumerate(read_lines(path), 1):
        if line.startswith(";;;") or not (words := _COMMENT.sub("", line).split()):
            continue
        if len(words) < 2:
            raise UserError(f"{path}: line {number}: {line[:80]!r}: expected a word and its phones")
        lines.append(words)
    if not lines:
        raise UserError(f"{path}: no words; expected one per line, with its phones")
    if all(len(words) > 5 and all(map(_NUMBER.fullmatch, words[1:5])) for words in lines):
        lines = [[words[0], *words[5:]] for words in lines]
    elif all(len(words) > 2 and _is_probability(words[1]) for words in lines):
        lines = [[words[0], *words[2:]] for words in lines]
    for word, *phones in lines:
        if numbers := [phone for phone in phones if "." in phone and _NUMBER.fullmatch(phone)]:
            raise UserError(
                f"{path}: {word}: {numbers[0]} is no phone; expected one probability or four "
                "numbers before the phones of all words, or of none"
            )
    phone_of = map_labels(sorted({phone for _, *phones in lines for phone in phones})).phone_of
    entries, silent = [], []
    for word, *phones in lines:
        variant = _VARIANT.fullmatch(word)
        mapped = tuple(phone_of[phone] for phone in phones)
        if set(mapped) == {SILENCE}:
            silent.append(word)
        else:
            entries.append((variant[1] if variant else word, mapped))
    return Lexicon(entries, silent)


def _is_probability(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and float(text) <= 1
