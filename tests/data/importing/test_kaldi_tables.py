"""Locations and names in the tables of Kaldi's files."""

import gzip
import re
from pathlib import Path

import kaldi_native_io as kio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kaldi import (
    DIM,
    Directory,
    cut,
    make_directory,
    read_utterances,
    speaker_of,
    write_statistics,
)

from gtcbmuf.data.importing.kaldi_ranges import MatrixRange


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return make_directory(tmp_path)


def test_gunzip_needs_no_shell(directory: Directory) -> None:
    directory.write()
    lines = []
    for name, matrix in directory.features.items():
        plain = directory.path / f"{name}.mat"
        with kio.FloatMatrixWriter(f"ark:{plain}") as writer:
            writer.write(name, matrix)
        content = gzip.compress(plain.read_bytes()[len(name) + 1 :])
        (directory.path / f"{name}.gz").write_bytes(content)
        lines.append(f"{name} gunzip -c {directory.path}/{name}.gz |\n")
    directory.feats.write_text("".join(lines))
    directory.make(normalise="none")
    for name, utterance in read_utterances(directory.out).items():
        expected = directory.features[name].astype(np.float16)
        np.testing.assert_array_equal(utterance.features, expected)
    (directory.path / "s00-1.gz").write_bytes(content[:50])
    directory.out.unlink()
    Path(f"{directory.out}.log").unlink()
    directory.fails(r"feats.scp: s00-1: .*s00-1.gz .*expected a matrix")


@pytest.mark.parametrize(
    "command", ["copy-feats ark:x - |", "gunzip -c x; touch HACKED |", "gunzip -c $(touch x) |"]
)
def test_a_command_is_not_run(directory: Directory, command: str) -> None:
    directory.write()
    directory.feats.write_text(f"s00-0 {command}\n")
    directory.fails("s00-0.*shell command.*expected FILE:OFFSET, or 'gunzip -c PATH |'")


def test_a_location_too_long_for_a_path(directory: Directory) -> None:
    directory.feats.write_text(f"s00-0 {'x' * 5000}:12\n")
    directory.fails("s00-0: 'x.*no such file; expected the file of a matrix")


def test_damaged_features(directory: Directory) -> None:
    feats = directory.path / "feats.ark"
    directory.write()
    cut(feats, 0.5)
    directory.fails("feats.scp: s.*feats.ark:[0-9]+: expected a matrix")
    feats.write_bytes(np.random.default_rng(0).bytes(99999))
    directory.fails("feats.scp: s00-0: .*expected a matrix")
    feats.unlink()
    directory.fails("feats.scp: s00-0: .*no such file")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"s00-0\n", "line 1: 's00-0': expected a name and a value"),
        (b"", "no entries; expected one line per utterance"),
        (b"\xff\0\xfe", "cannot be read as UTF-8 text"),
        ("s00-0 x".encode("utf-16"), "cannot be read as UTF-8 text: it is in UTF-16; convert it"),
        ("s00-0 x".encode("utf-16-le"), "cannot be read as UTF-8 text: it has null characters"),
        (None, "cannot be read"),
    ],
)
def test_damaged_tables(directory: Directory, content: bytes | None, match: str) -> None:
    for path in (directory.write().feats, directory.utt2spk):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        directory.fails(f"{path}: {match}")
        directory.write()


MARK = b"\xef\xbb\xbf"


def test_byte_order_marks_and_line_ends(directory: Directory) -> None:
    """Windows editors write a mark and CRLF; joined files have a mark in the middle."""
    directory.write()
    lists = {split: directory.path / split for split in ("valid", "test")}
    lists["valid"].write_text("s03\ns04\n")
    lists["test"].write_text("s05-0\ns05-1\ns05-2\n")
    names: dict[str, list[str]] = {}
    for name in directory.features:
        names.setdefault(speaker_of(name), []).append(name)
    cmvn = write_statistics(directory, names)
    options = {"cmvn": cmvn, **{split: str(path) for split, path in lists.items()}}
    directory.make(**options)
    expected = directory.out.read_bytes()
    texts = [directory.feats, directory.utt2spk, directory.path / "ali.2", cmvn, *lists.values()]
    for path in texts:
        content = path.read_bytes()
        first, rest = content.split(b"\n", 1)
        path.write_bytes(MARK + first + b"\n" + MARK + rest)
        directory.make(**options)
        assert directory.out.read_bytes() == expected, path
        path.write_bytes(MARK + content.replace(b"\n", b"\r\n"))
        directory.make(**options)
        assert directory.out.read_bytes() == expected, path


def add_ranges(table: Path, ranges: dict[str, str]) -> None:
    """Add a range to the locations of some names."""
    lines = (line.split() for line in table.read_text().splitlines())
    table.write_text(
        "".join(f"{name}\t{location}{ranges.get(name, '')}\n" for name, location in lines)
    )


@pytest.mark.parametrize("kind", ["float", "double", "compressed"])
def test_ranges_give_the_corpus_of_their_parts(directory: Directory, kind: str) -> None:
    """Whole matrices as Kaldi's code reads them, NumPy's slices of them, written as floats."""
    whole = directory.write(kind).feats.read_text().splitlines()
    ranges = {
        "s00-0": ("[3:12,0:3]", np.s_[3:13, :4]),
        "s00-1": ("[:,0:3]", np.s_[:, :4]),
        "s01-0": ("[5:5,0:3]", np.s_[5:6, :4]),
        "s01-1": ("[7:,:3]", np.s_[7:, :4]),
    }
    for line in whole:
        name, location = line.split()
        matrix = kio.FloatMatrix.read(location).numpy()
        _, part = ranges.setdefault(name, (f"[0:{len(matrix) + 1},0:3]", np.s_[:, :4]))
        directory.features[name] = matrix[part].copy()
        directory.targets[name] = directory.targets[name][part[0]]
    directory.write()
    directory.make()
    expected = directory.out.read_bytes()
    # The archives hold the parts now; write the whole matrices again.
    parts = directory.features
    directory.features = make_directory(directory.path).features
    directory.write(kind)
    add_ranges(directory.feats, {name: text for name, (text, _) in ranges.items()})
    directory.make()
    assert directory.out.read_bytes() == expected
    assert set(parts) == set(read_utterances(directory.out))


def test_segments_of_one_recording(directory: Directory) -> None:
    """A range may follow a file without an offset, or a gzipped one."""
    frames = list(directory.write().features.values())
    directory.make(normalise="none")
    expected = directory.out.read_bytes()
    with kio.FloatMatrixWriter(f"ark:{directory.path}/long") as writer:
        writer.write("long", np.concatenate(frames))
    matrix = (directory.path / "long").read_bytes()[len("long ") :]
    (directory.path / "long").write_bytes(matrix)
    (directory.path / "long.gz").write_bytes(gzip.compress(matrix))
    ends = np.cumsum([len(matrix) for matrix in frames])
    for location in (f"{directory.path}/long", f"gunzip -c {directory.path}/long.gz |"):
        directory.feats.write_text(
            "".join(
                f"{name} {location}[{end - len(matrix)}:{end - 1}]\n"
                for (name, matrix), end in zip(directory.features.items(), ends, strict=True)
            )
        )
        directory.make(normalise="none")
        assert directory.out.read_bytes() == expected


def test_ranges_of_statistics(directory: Directory) -> None:
    """As for features without their last column."""
    names = {name: [name] for name in directory.write().features}
    cmvn = write_statistics(directory, names)
    directory.make(cmvn=cmvn)
    expected = directory.out.read_bytes()
    with kio.DoubleMatrixWriter(f"ark,scp:{directory.path}/long.ark,{cmvn}") as writer:
        for name in names:
            frames = directory.features[name].astype("f8")
            sums = np.append(frames.sum(axis=0), len(frames))
            squares = np.append(np.square(frames).sum(axis=0), 0)
            writer.write(name, np.stack([sums, squares, sums, squares]))
    add_ranges(cmvn, dict.fromkeys(names, "[0:1]"))
    directory.make(cmvn=cmvn)
    assert directory.out.read_bytes() == expected
    cmvn.write_text(cmvn.read_text().replace("[0:1]", "[2:9]"))
    directory.out.unlink()
    Path(f"{directory.out}.log").unlink()
    directory.fails(r"cmvn.scp: s.*long.ark:\d+\[2:9\]: not a range of .* 4 rows", cmvn=cmvn)


def test_a_range_beyond_its_matrix_is_excluded(directory: Directory) -> None:
    directory.write()
    rows = len(directory.features["s01-0"])
    add_ranges(directory.feats, {"s01-0": f"[0:{rows + 2}]", "s01-1": "[0:99]"})
    assert "1 of 36 excluded" in directory.make()
    log = Path(f"{directory.out}.log").read_text()
    rows = len(directory.features["s01-1"])
    end = rf"feats\.ark:\d+\[0:99\]: not a range of a matrix with {rows} rows and {DIM} columns"
    assert re.search(f"^s01-1: .*{end}$", log, re.MULTILINE)


@pytest.mark.parametrize(
    "text", ["3", "1:2:3", ",0:3", "0:3,", "a:b", "-1:3", "1:2][0:1", "", "²:3"]
)
def test_what_is_no_range(directory: Directory, text: str) -> None:
    add_ranges(directory.write().feats, {"s01-0": f"[{text}]"})
    directory.fails(r"feats.scp: s01-0: .*\]': expected a range \[FIRST:LAST\] of rows, or")


@pytest.fixture(scope="module")
def matrix_location(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The location of a matrix (6, 4) with the values 0 to 23."""
    folder = tmp_path_factory.mktemp("ranges")
    with kio.FloatMatrixWriter(f"ark,scp:{folder}/a.ark,{folder}/a.scp") as writer:
        writer.write("a", np.arange(24, dtype=np.float32).reshape(6, 4))
    return (folder / "a.scp").read_text().split()[1]


def axes(size: int) -> st.SearchStrategy[str]:
    number = st.integers(0, size + 4)
    return st.just(":") | st.builds("{}:{}".format, number, number)


@given(axes(6), st.none() | axes(4))
def test_ranges_are_those_of_kaldi(matrix_location: str, rows: str, columns: str | None) -> None:
    text = rows if columns is None else f"{rows},{columns}"
    try:
        expected = kio.FloatMatrix.read(f"{matrix_location}[{text}]").numpy().copy()
    except RuntimeError:
        expected = None
    matrix = np.arange(24, dtype=np.float32).reshape(6, 4)
    parsed = MatrixRange.parse(text)
    assert parsed is not None
    if expected is None:
        assert not parsed.fits(matrix.shape)
    else:
        assert parsed.fits(matrix.shape)
        np.testing.assert_array_equal(parsed.extract(matrix), expected)


NFC, NFD = "s\u00e9", "se\u0301"


@pytest.fixture
def accented(directory: Directory) -> Directory:
    """Files with names in the composed form."""
    for table in (directory.features, directory.targets):
        for name in list(table):
            table[name.replace("s", NFC)] = table.pop(name)
    return directory.write()


def decompose(path: Path, *lines: int) -> None:
    """Rewrite the names in some lines of a table, or in all of them, in the other form."""
    table = path.read_text().splitlines()
    for number in lines or range(len(table)):
        table[number] = table[number].replace(NFC, NFD)
    path.write_text("\n".join(table) + "\n")


def test_the_unicode_form_of_a_name_does_not_matter(accented: Directory) -> None:
    lists = {split: accented.path / split for split in ("valid", "test")}
    lists["valid"].write_text(f"{NFC}03\n")
    lists["test"].write_text("".join(f"{NFC}05-{number}\n" for number in range(3)))
    statistics: dict[str, list[str]] = {}
    for name in accented.features:
        statistics.setdefault(speaker_of(name), []).append(name)
    cmvn = write_statistics(accented, statistics)
    options = {"cmvn": cmvn, **{split: str(path) for split, path in lists.items()}}
    assert "0 of 36 excluded" in accented.make(**options)
    expected = accented.out.read_bytes()
    decompose(accented.utt2spk, 1, 5)  # one speaker in two forms: the first counts
    for path in (accented.path / "ali.2", cmvn, *lists.values()):
        decompose(path)
        accented.make(**options)
        assert accented.out.read_bytes() == expected, path


@pytest.mark.parametrize("normalise", ["speaker", "none"])
def test_a_corpus_has_the_names_of_its_tables(accented: Directory, normalise: str) -> None:
    accented.make(normalise=normalise)
    composed = read_utterances(accented.out)
    decompose(accented.feats)
    accented.make(normalise=normalise)
    for name, utterance in read_utterances(accented.out).items():
        assert NFD in name
        assert NFC in utterance.speaker
        other = composed[name.replace(NFD, NFC)]
        assert utterance.split == other.split
        np.testing.assert_array_equal(utterance.features, other.features)


def test_a_name_in_two_forms_is_a_duplicate(accented: Directory) -> None:
    text = accented.feats.read_text()
    first, second = text.splitlines()[:2]
    accented.feats.write_text(f"{text}{first.split()[0].replace(NFC, NFD)} {second.split()[1]}\n")
    accented.fails(f"feats.scp: line 37: second value of {NFD}00-0, whose Unicode form differs;")
    accented.feats.write_text(text)
    (accented.path / "ali.3").write_text(f"{NFD}00-0 1 2 3\n")
    accented.fails(f"ali.3: {NFD}00-0: second alignment of this utterance; expected one")
