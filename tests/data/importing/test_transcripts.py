"""Texts of recordings: files beside them, and Kaldi's table."""

from pathlib import Path

import pytest

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.transcripts import read_transcripts

RECORDINGS = {"a-1": Path("a/1.wav"), "a-2": Path("a/2.wav"), "b-2": Path("b/2.wav")}


def test_files_beside_recordings(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.txt").write_text("\ufeffOne line,\nand another.\n")
    (tmp_path / "a/2.lab").write_text("words\n")
    (tmp_path / "a/3.txt").write_text("nobody\n")
    transcripts = read_transcripts(tmp_path, RECORDINGS)
    assert transcripts.text_of == {"a-1": "One line, and another.", "a-2": "words"}
    assert transcripts.faults == {"a-3": "no audio"}


def test_a_table_names_utterances_or_files(tmp_path: Path) -> None:
    table = tmp_path / "text"
    table.write_text("a-1 some words\n\n2 ambiguous\nb-2\tmore words\nc-1 nobody\na-2\n")
    transcripts = read_transcripts(table, RECORDINGS)
    assert transcripts.text_of == {"a-1": "some words", "b-2": "more words", "a-2": ""}
    assert transcripts.faults == {"2": "ambiguous name of a-2, b-2", "c-1": "no audio"}


def test_tables_beside_recordings_as_in_librispeech(tmp_path: Path) -> None:
    recordings = {f"{s}-{c}-{s}-{c}-0": Path(f"{s}/{c}/{s}-{c}-0.flac") for s in "12" for c in "34"}
    for name, path in recordings.items():
        folder = tmp_path / path.parent
        folder.mkdir(parents=True)
        table = folder / f"{path.stem.removesuffix('-0')}.trans.txt"
        table.write_text(f"{path.stem} THE TEXT OF {name}\n{path.stem}1 NOBODY\n")
    transcripts = read_transcripts(tmp_path, recordings)
    assert transcripts.text_of == {name: f"THE TEXT OF {name}" for name in recordings}
    assert transcripts.faults == {f"{x.stem}1": "no audio" for x in recordings.values()}


def test_a_table_may_name_utterances_with_blanks(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a 1 one\na 10  two  words\na three\n")
    recordings = {name: Path(f"{name}.wav") for name in ("a", "a 1", "a 10")}
    texts = read_transcripts(tmp_path / "text", recordings).text_of
    assert texts == {"a 1": "one", "a 10": "two  words", "a": "three"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a-1 x\na-1 y\n", "line 2: second text of a-1; expected one"),
        ("c-1 x\n", "no text of a recording; expected an utterance and its text in each line"),
        ("\n", "no text of a recording"),
    ],
)
def test_invalid_tables(tmp_path: Path, content: str, message: str) -> None:
    table = tmp_path / "text"
    table.write_text(content)
    with pytest.raises(UserError) as error:
        read_transcripts(table, RECORDINGS)
    assert str(error.value).startswith(f"{table}: {message}")


def test_missing_texts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no texts in this directory; expected .txt or .lab files"):
        read_transcripts(tmp_path, RECORDINGS)
    with pytest.raises(UserError, match=r"--texts .*none: no such file or directory"):
        read_transcripts(tmp_path / "none", RECORDINGS)
