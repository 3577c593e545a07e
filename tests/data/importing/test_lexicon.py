"""Lexicons of CMUdict, Kaldi and espeak-ng, and the words of texts."""

from pathlib import Path

import pytest

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.espeak_lexicon import EspeakLexicon
from gtcbmuf.data.importing.lexicon import Lexicon, read_lexicon

CMUDICT = """;;; a comment
HELLO  HH AH0 L OW1
HELLO(2)  HH EH0 L OW1
WORLD  W ER1 L D # another comment
!SIL SIL
'TIS  T IH1 Z
A.M.  EY2 EH1 M
WELL  W EH1 L
KNOWN  N OW1 N
RENÉ  R AH0 N EY1
"""


@pytest.fixture
def lexicon(tmp_path: Path) -> Lexicon:
    (tmp_path / "cmudict.dict").write_text(CMUDICT)
    return read_lexicon(tmp_path / "cmudict.dict")


def test_variants_and_stress_of_cmudict(lexicon: Lexicon) -> None:
    assert lexicon["Hello"] == [("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW")]
    assert lexicon["world"] == [("W", "ER", "L", "D")]
    assert "!SIL" not in lexicon


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"Hello, WORLD!"', ["hello", "world"]),
        ("well-known", ["well", "known"]),
        ("well\u2014hello \u2026 world", ["well", "hello", "world"]),
        ("'tis 10 a.m. -- 'hello'", ["'tis", "10", "a.m.", "hello"]),
        ("\u2019Tis Rene\u0301", ["'tis", "ren\u00e9"]),
        ("well-unknown", ["well-unknown"]),
        (" -- ... ", []),
    ],
)
def test_words_of_a_text(lexicon: Lexicon, text: str, words: list[str]) -> None:
    assert lexicon.words(text) == words


def test_lexicons_of_kaldi(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("<SIL> SIL\na AH_S\nab AH_B B_E\nab EY_B B_E\n")
    assert read_lexicon(tmp_path / "lexicon.txt")["ab"] == [("AH", "B"), ("EY", "B")]
    (tmp_path / "lexiconp.txt").write_text("a 1.0 AH\nab 0.25 AH B\nab 1 EY B\n")
    assert read_lexicon(tmp_path / "lexiconp.txt")["AB"] == [("AH", "B"), ("EY", "B")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a AH\nb\n", "line 2: 'b': expected a word and its phones"),
        ("\n;;; nothing\n", "no words; expected one per line"),
        ("\0", "cannot be read as UTF-8 text"),
    ],
)
def test_invalid_lexicons(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "lexicon"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read_lexicon(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_pronunciations_of_espeak() -> None:
    pytest.importorskip("espeakng_loader")
    english = EspeakLexicon("en-us")
    assert english.words("Hello -- 42 cats!") == ["hello", "42", "cats"]
    assert english["cats"] == [("k", "a", "t", "s")]
    assert english["42"] == [("f", "o@", "t#", "i", "t", "u:")]
    assert "..." not in english
    assert EspeakLexicon("cs")["ahoj"] == [("a", "h", "o", "j")]
    with pytest.raises(UserError, match="espeak:nowhere: no such voice"):
        EspeakLexicon("nowhere")
