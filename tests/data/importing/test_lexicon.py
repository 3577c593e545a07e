"""Lexicons of CMUdict, Kaldi and espeak-ng, and the words of texts."""

from pathlib import Path

import pytest

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.espeak_lexicon import EspeakLexicon
from gtcbmuf.data.importing.lexicon import Lexicon, read_lexicon

CMUDICT = """;;; a comment
HELLO  HH AH0 L OW1
HELLO(2)  HH EH0 L OW1
WORLD	W ER1 L D	# another comment
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
        ("<s> HELLO [noise] [World], <UNK>. </s>", ["hello", "[noise]", "[world]", "<unk>"]),
        ("!SIL hello <eps> !sil", ["hello"]),
        ("(hello) [hello world] [...] <->", ["hello", "hello", "world"]),
    ],
)
def test_words_of_a_text(lexicon: Lexicon, text: str, words: list[str]) -> None:
    assert lexicon.words(text) == words


def test_lexicons_of_kaldi(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("<SIL> SIL\na AH_S\nab AH_B B_E\nab EY_B B_E\n")
    assert read_lexicon(tmp_path / "lexicon.txt")["ab"] == [("AH", "B"), ("EY", "B")]
    (tmp_path / "lexiconp.txt").write_text("a 1.0 AH\nab 0.25 AH B\nab 1 EY B\n")
    assert read_lexicon(tmp_path / "lexiconp.txt")["AB"] == [("AH", "B"), ("EY", "B")]
    numbers = (
        "a 0.99 0.2 1.3 0.97 AH_S\nab 0.16 0.08 2.17 1.13 AH0_B B_E\nab 1 .5 1 1e-2 EY1_B B_E\n"
    )
    (tmp_path / "lexiconp_silprob.txt").write_text(numbers)
    assert read_lexicon(tmp_path / "lexiconp_silprob.txt")["ab"] == [("AH", "B"), ("EY", "B")]


@pytest.mark.parametrize("rare", ["5.12e-05", "1e-05", "0.0", "0", ".5"])
def test_any_probability_of_a_pronunciation(rare: str, tmp_path: Path) -> None:
    (tmp_path / "lexiconp.txt").write_text(f"a 1 AH0\nb 1.0 B IY1\nb {rare} B\n")
    assert read_lexicon(tmp_path / "lexiconp.txt")["b"] == [("B", "IY"), ("B",)]


def test_tags_and_silence_in_a_lexicon(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text(
        "<SIL> SIL\n[PAUSE] SIL\nREST SIL\n[noise] NSN\nnoise N OY Z\n"
    )
    lexicon = read_lexicon(tmp_path / "lexicon.txt")
    assert lexicon.words("<sil> [Noise] [pause], noise rest, (REST)") == ["[noise]", "noise"]
    assert lexicon["[noise]"] == [("NSN",)]
    assert Lexicon([("<s>", ("S",))], silent=["<s>"]).words("<s> </s>") == ["<s>"]


def test_vowel_signs_belong_to_words() -> None:
    words = ["\u0928\u092e\u0938\u094d\u0924\u0947", "\u092e\u0948\u0902", "\u0e19\u0e35\u0e49"]
    lexicon = Lexicon((word, ("x",)) for word in words)
    assert lexicon.words(" ".join(f"\u201c{word},\u201d" for word in words)) == words


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a 1 AH\nab 0.25 0.5 B\n",
            "ab: 0.5 is no phone; expected one probability or four numbers",
        ),
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
    assert english.words("<s> cats [noise]") == ["cats", "[noise]"]
    assert "[noise]" not in english
    assert EspeakLexicon("cs")["ahoj"] == [("a", "h", "o", "j")]
    assert EspeakLexicon("de")["download"] == [("d", "aU", "n", "l", "oU", "d")]  # an English word
    assert EspeakLexicon("hi")["\u0928\u092e\u0938\u094d\u0924\u0947,"][0][-2:] == ("t", "e:")
    with pytest.raises(UserError, match="espeak:nowhere: no such voice"):
        EspeakLexicon("nowhere")
