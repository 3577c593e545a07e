"""CTM files, and the names in them."""

from pathlib import Path

import h5py
import pytest
from support.audio import Directory, ctm, make_directory


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return make_directory(tmp_path)


def without_attribute(path: Path) -> dict[str, object]:
    """Read a corpus without the attribute `alignments`."""
    with h5py.File(path) as file:
        data: dict[str, object] = {}
        file.visititems(
            lambda name, item: (
                data.update({name: item[()].tolist()}) if isinstance(item, h5py.Dataset) else None
            )
        )
        attributes = {k: v for k, v in file.attrs.items() if k != "alignments"}
    return {**data, **attributes}


@pytest.mark.parametrize("silences", [True, False])
def test_a_ctm_and_textgrids_give_the_same_corpus(directory: Directory, silences: bool) -> None:
    directory.write().make()
    expected = without_attribute(directory.out)
    grids = directory.path / "grids"
    for key in directory.alignments:
        (grids / key).parent.mkdir(parents=True, exist_ok=True)
        directory.file(key, ".TextGrid").rename(grids / f"{key}.textgrid")
    directory.make(alignments=grids)
    assert without_attribute(directory.out) == expected
    lines = {k: [x for x in v if silences or x[2]] for k, v in directory.alignments.items()}
    table = directory.path / "phones.ctm"
    table.write_text(ctm(lines).replace(" b\n", " b 0.75\n"))
    directory.make(alignments=table)
    assert without_attribute(directory.out) == expected


def test_a_ctm_may_name_files(directory: Directory) -> None:
    """The name of a file stands for its recording if no other recording has that name."""
    for mapping in (directory.recordings, directory.alignments):
        for key in list(mapping):
            speaker, part = key.split("/")
            mapping[f"{speaker}/{speaker}{part}"] = mapping.pop(key)
    directory.write()
    table = directory.path / "phones.ctm"
    table.write_text(ctm(directory.alignments))
    expected = directory.bytes(alignments=table)
    stems = {key: key.split("/")[1] for key in directory.alignments}
    table.write_text(ctm(directory.alignments, stems))
    assert directory.bytes(alignments=table) == expected
    twice = {"s00/s00a": directory.alignments["s00/s00a"]}
    table.write_text(ctm(directory.alignments, stems) + ctm(twice))
    reason = "alignments under the names s00-s00a and s00a; expected one"
    directory.excludes({"s00-s00a": reason}, alignments=table)


def test_a_ctm_with_ambiguous_and_unknown_names(directory: Directory) -> None:
    directory.write()
    table = directory.path / "phones.ctm"
    names = {"s00/a": "a", "s01/a": "nobody"}
    table.write_text(ctm(directory.alignments, names))
    directory.excludes(
        {
            "a": "ambiguous name of s00-a, s01-a, s02-a",
            "nobody": "no audio",
            "s00-a": "no alignment",
            "s01-a": "no alignment",
        },
        alignments=table,
    )
    assert directory.log.read_text().startswith("4 of 26 utterances")


def test_a_byte_order_mark_is_ignored(directory: Directory) -> None:
    table = directory.path / "phones.ctm"
    lines = ctm({k: [x for x in v if x[2]] for k, v in directory.alignments.items()})
    lines = lines.removeprefix(";; comment\n")  # the mark is before the first phone
    table.write_text(lines)
    expected = directory.write().bytes(alignments=table)
    table.write_text(lines, encoding="utf-8-sig")
    assert directory.bytes(alignments=table) == expected


def test_unicode_forms_of_a_name_match(directory: Directory) -> None:
    """macOS decomposes the characters in names of files."""
    for mapping in (directory.recordings, directory.alignments):
        mapping["s00/rene\u0301"] = mapping.pop("s00/a")
    table = directory.path / "phones.ctm"
    table.write_text(ctm(directory.alignments))
    expected = directory.write().bytes(alignments=table)
    for name in ("s00-ren\u00e9", "ren\u00e9"):
        table.write_text(ctm(directory.alignments, {"s00/rene\u0301": name}))
        assert directory.bytes(alignments=table) == expected


@pytest.mark.parametrize("channels", ["AB", "ABA", "12"])
def test_several_channels_of_a_recording(directory: Directory, channels: str) -> None:
    """Speakers on two channels may take turns, so that no times overlap."""
    table = directory.path / "phones.ctm"
    lines = ctm(directory.alignments).splitlines()
    of_recording = [i for i, line in enumerate(lines) if line.startswith("s03-b ")]
    for i, channel in zip(of_recording, channels, strict=False):
        lines[i] = lines[i].replace(" 1 ", f" {channel} ", 1)
    for i in of_recording[len(channels) :]:
        lines[i] = lines[i].replace(" 1 ", f" {channels[0]} ", 1)
    table.write_text("\n".join(lines) + "\n")
    first, second = sorted(set(channels))
    reason = f"channels {first} and {second}; expected one"
    directory.write().excludes({"s03-b": reason}, alignments=table)
    directory.out.unlink()
    directory.log.unlink()
    directory.fails(f"are unusable .s03-b: {reason}", alignments=table, most_bad=0.01)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "phones.ctm: no phones; expected one line per phone"),
        (";; nothing\n\n", "phones.ctm: no phones; expected one line per phone"),
        ("s00-a 1 0.0 0.1\n", "line 1: 's00-a 1 0.0 0.1': expected UTTERANCE CHANNEL START"),
        (";;\ns00-a 1 zero 0.1 b\n", "line 2: .*expected UTTERANCE CHANNEL START DURATION PHONE"),
        (b"\x1f\x8b\xff\xfe", "phones.ctm: cannot be read as UTF-8 text"),
    ],
)
def test_an_invalid_ctm(directory: Directory, text: str | bytes, match: str) -> None:
    table = directory.path / "phones.ctm"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    directory.write().fails(match, alignments=table)


@pytest.mark.parametrize(
    ("begin", "duration"), [("nan", "1"), ("0", "inf"), ("-1", "1"), ("0", "-1")]
)
def test_invalid_times_in_a_ctm(directory: Directory, begin: str, duration: str) -> None:
    table = directory.path / "phones.ctm"
    rest = {key: value for key, value in directory.alignments.items() if key != "s00/a"}
    table.write_text(ctm(rest) + f"s00-a 1 {begin} {duration} b\n")
    reason = "out of order" if "-1" in (begin, duration) else "NaN or infinite"
    directory.write().excludes({"s00-a": reason}, alignments=table)
