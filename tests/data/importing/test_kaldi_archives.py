"""Alignments: Kaldi's archives of integer vectors."""

import gzip
from pathlib import Path

import kaldi_native_io as kio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kaldi import PDFS, Directory, cut, make_directory, read_utterances

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.data.importing.kaldi_archives import find_archives, read_vectors


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return make_directory(tmp_path)


def test_large_transition_ids(directory: Directory) -> None:
    directory.targets["s00-0"][4] = 65536
    directory.write().fails("ali.1.gz: s00-0: .* 65536; .*ali-to-pdf final.mdl")


def test_small_transition_ids(directory: Directory) -> None:
    for name, targets in directory.targets.items():
        enters = np.r_[True, targets[1:] != targets[:-1]]
        directory.targets[name] = (2 * targets + np.where(enters, 1, 2)).astype(np.int32)
    directory.write().fails("probably transition-ids: .*ali-to-pdf final.mdl")


def test_alignments_by_phones(directory: Directory) -> None:
    """No phone is 0, but phones repeat, so they do not pass for transition-ids."""
    for name in directory.targets:
        directory.targets[name] = directory.targets[name] + 1
    directory.write().make()
    assert open_corpus(directory.out).target_count == PDFS + 1


def test_alignments_of_a_chain_model(directory: Directory) -> None:
    for name in directory.targets:
        directory.targets[name] = directory.targets[name][::3]
    directory.write().fails("one target per three frames, as from a chain model.*ali-to-pdf")


def test_damaged_alignments(directory: Directory) -> None:
    ali = directory.path / "ali.1.gz"
    directory.write()
    cut(ali, 0.5)
    directory.fails("ali.1.gz: .*expected an archive of alignments")
    directory.write()
    cut(directory.path / "ali.2", 0.5)
    directory.fails("ali.2: at or after s.*: the file ends too early")
    directory.write()
    content = gzip.decompress(ali.read_bytes())
    for size in range(1, 200, 7):  # only the end of the archive is missing
        ali.write_bytes(content[:-size])
        with pytest.raises(UserError, match=r"ali.1.gz: at or after s0.*: the file ends"):
            directory.make()
    ali.write_bytes(np.random.default_rng(0).bytes(9999))
    directory.fails("ali.1.gz: at the start: expected an archive")
    ali.write_bytes((directory.path / "feats.ark").read_bytes())
    directory.fails("ali.1.gz: at or after s00-0: expected .*not an int32 vector")


def test_a_line_without_an_end_is_not_read_whole(directory: Directory) -> None:
    directory.write()
    with gzip.open(directory.path / "ali.1.gz", "wb", 1) as archive:
        archive.write(b"s00-0 " + b"1 " * (1 << 23))
    directory.fails("ali.1.gz: at or after s00-0: .*not an int32 vector")


def test_two_alignments_of_an_utterance(directory: Directory) -> None:
    directory.write()
    (directory.path / "ali.3").write_text("s00-0 1 2 3\n")
    directory.fails("ali.3: s00-0: second alignment of this utterance; expected one")


def read_as_kaldi(path: Path) -> list[tuple[str, list[int]]]:
    with kio.SequentialInt32VectorReader(f"ark:{path}") as reader:
        return [(name, list(vector)) for name, vector in reader]


BLANKS = st.text(" \t", max_size=3)


@given(
    st.lists(
        st.tuples(
            BLANKS,
            st.text("ab-_1é日", min_size=1, max_size=5),
            st.sampled_from(" \t"),
            st.lists(st.tuples(BLANKS, st.integers(-9, 99)), max_size=4),
            BLANKS,
        ),
        max_size=5,
    )
)
def test_text_is_read_as_kaldi_does(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple]
) -> None:
    path = tmp_path_factory.mktemp("text", numbered=True) / "ali"
    lines = [
        f"{before}{name}{separator}{''.join(f'{blanks} {i}' for blanks, i in ids)}{after}\n"
        for before, name, separator, ids, after in entries
    ]
    path.write_text("".join(lines), encoding="utf-8")
    assert [(name, list(ids)) for name, ids in read_vectors(path)] == read_as_kaldi(path)


@pytest.mark.parametrize(
    ("content", "vectors"),
    [
        (b"a\nb 1\n", [("a", []), ("b", [1])]),  # a name alone is an empty vector
        (b"a \nb\t\n", [("a", []), ("b", [])]),
        (b"\n a\t1 2 \n\n\tb\t\t3\n", [("a", [1, 2]), ("b", [3])]),
        (b"a \0B\4\0\0\0\0b 1\n", [("a", []), ("b", [1])]),  # binary and text
        (b"a\t\0B\4\1\0\0\0\4\7\0\0\0", [("a", [7])]),
    ],
)
def test_names_and_empty_vectors(
    tmp_path: Path, content: bytes, vectors: list[tuple[str, list[int]]]
) -> None:
    path = tmp_path / "ali"
    path.write_bytes(content)
    assert read_as_kaldi(path) == vectors
    assert [(name, list(ids)) for name, ids in read_vectors(path)] == vectors
    text = content.replace(b"\n", b"\r\n") if b"\0" not in content else content
    path.write_bytes(b"\xef\xbb\xbf" + text)
    assert [(name, list(ids)) for name, ids in read_vectors(path)] == vectors
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert [(name, list(ids)) for name, ids in read_vectors(path)] == vectors


def test_utterances_without_targets_are_excluded(directory: Directory) -> None:
    text = directory.write().path / "ali.2"
    lines = text.read_text().splitlines()
    lines[0] = lines[0].split()[0]  # without a blank after the name
    lines[1] = lines[1].replace(" ", "\t", 1)
    text.write_text("\n".join(lines) + "\n")
    assert "1 of 36 excluded" in directory.make()
    name = lines[0]
    frames = len(directory.features[name])
    log = Path(f"{directory.out}.log").read_text()
    assert log.splitlines()[1:] == [f"{name}: {frames} frames, but 0 targets"]
    assert lines[1].split()[0] in read_utterances(directory.out)


def test_alignments_in_utf16(directory: Directory) -> None:
    text = directory.write().path / "ali.2"
    text.write_text(text.read_text(), encoding="utf-16")
    directory.fails("ali.2: at the start: .*it is in UTF-16; convert it with iconv")


def test_archives_are_named_by_paths_and_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "tri3b [2020]"
    folder.mkdir()
    first, second, other = (folder / name for name in ("ali.1.gz", "ali.2", "ali.[a].gz"))
    for path in (first, second, other):
        path.touch()
    for patterns, expected in (
        (["ali.*"], [first, second, other]),
        (["ali.2", "ali.1.gz"], [first, second]),  # as a shell may expand a pattern
        (["ali.[12]*", "ali.2"], [first, second]),
        (["ali.[a].gz"], [other]),
    ):
        assert find_archives([f"{folder}/{pattern}" for pattern in patterns]) == expected
    with pytest.raises(UserError, match=r"a folder; expected archives, such as .*/pdf\.\*\.gz"):
        find_archives([str(folder)])
    with pytest.raises(UserError, match=r"none\.\*: no such files; expected alignment archives"):
        find_archives([f"{folder}/ali.*", f"{folder}/none.*"])
