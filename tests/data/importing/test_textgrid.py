"""TextGrids in all forms that Praat reads, and damaged ones."""

import codecs
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio.data_classes.interval_tier import IntervalTier
from praatio.data_classes.textgrid import Textgrid as PraatioGrid
from support.audio import (
    Directory,
    Interval,
    long_textgrid,
    make_directory,
    read_utterances,
    short_textgrid,
)

from gtcbmuf.data.importing.phone_alignments import PhoneAlignments
from gtcbmuf.data.importing.textgrid import read_textgrids


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return make_directory(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("textgrids")


def free_textgrid(tiers: dict[str, list[Interval]]) -> str:
    """Write values of all tiers in few lines, with comments and words between them."""
    end = max(intervals[-1][1] for intervals in tiers.values())
    text = f'"ooTextFile" is "TextGrid" ! of item [1] up to 99 s\n0 to {end!r} s <exists>\n'
    text += f"{len(tiers)} tiers! 5\n"
    for name, intervals in tiers.items():
        text += f'"IntervalTier" "{name}" [0] 0 {end!r}\t{len(intervals)} intervals[1]:\n'
        text += " ".join(f'{a!r}! "x"\n {b!r}s = "{label}"' for a, b, label in intervals) + " "
    return text


Textgrid = Callable[[dict[str, list[Interval]]], str]
FORMS = [long_textgrid, short_textgrid, free_textgrid]


def read_text(folder: Path, text: str | bytes) -> PhoneAlignments:
    """Read one TextGrid with this content, of the utterance "u"."""
    path = folder / "u.TextGrid"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_textgrids(folder, {"u": folder / "u.wav"})


def intervals_of(alignments: PhoneAlignments) -> list[Interval]:
    """Return the intervals of the utterance "u"."""
    assert not alignments.faults
    labels = list(alignments.label_numbers)
    numbers, times = alignments.alignments["u"]
    return [(a, b, labels[i]) for i, (a, b) in zip(numbers, times.tolist(), strict=True)]


def fault_of(alignments: PhoneAlignments) -> str:
    """Return the fault of the utterance "u", which is one line and names the file."""
    assert not alignments.alignments
    fault = alignments.faults["u"]
    assert "\n" not in fault
    assert "u.TextGrid: " in fault
    return fault


# Forms


def test_all_forms_of_a_textgrid_give_the_same_corpus(directory: Directory) -> None:
    directory.write()
    expected = directory.bytes()
    assert len(read_utterances(directory.out)) == 24

    encodings = {
        "short": lambda text: short_textgrid(text).encode(),
        "free": lambda text: free_textgrid(text).encode(),
        "no last newline": lambda text: short_textgrid(text).rstrip().encode(),
        "Windows": lambda text: long_textgrid(text).replace("\n", "\r\n").encode("utf-8-sig"),
        "UTF-16": lambda text: codecs.BOM_UTF16_BE + long_textgrid(text).encode("utf-16-be"),
        "short UTF-16": lambda text: short_textgrid(text).encode("utf-16"),
    }
    for name, encode in encodings.items():
        for key in directory.alignments:
            tiers = directory.tiers(key, "s00 - phones")
            directory.file(key, ".TextGrid").write_bytes(encode(tiers))
        assert directory.bytes() == expected, name


ODD_TEXTS = [
    *("", " ", '"', '""', "!", "a! b", "0.5", "-1", "1 2 3", "<exists>", "<eps>", "item [1]:"),
    *("item [", "intervals [2]:", "xmin = 3", "IntervalTier", '"IntervalTier" "phones"', "ʃ\u0303"),
    *('say "no"', "two\nlines", "\\ae", "ooTextFile short", "=", "t;", "\ufeff", "[", "\t\t"),
]
odd_texts = st.sampled_from(ODD_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]))
number_formats = st.sampled_from(["{!r}", "{:+.17g}", "{:.17e}", "{:.17E}"])
# Tier kind, name and entries: times and text.
OddTier = tuple[str, str, list[tuple[list[float], str]]]


@st.composite
def odd_tiers(draw: st.DrawFn, kind: str, name: st.SearchStrategy[str]) -> OddTier:
    """A tier with gaps, odd texts, and times that may begin below 0."""
    count = 2 if kind == "IntervalTier" else 1
    times = sorted(draw(st.lists(st.floats(-2, 1e4), max_size=6 * count)))
    entries = [times[i : i + count] for i in range(0, len(times) // count * count, count)]
    return kind, draw(name), [(entry, draw(odd_texts)) for entry in entries]


def write_odd(tiers: list[OddTier], format_number: str, form: str) -> str:
    """Write tiers as Praat does, or as a stream of values."""

    def text(value: str) -> str:
        return '"' + value.replace('"', '""') + '"'

    def number(value: float) -> str:
        return format_number.format(value)

    span = [("xmin", number(-2.0)), ("xmax", number(1e4))]
    lines = [("File type", text("ooTextFile")), ("Object class", text("TextGrid")), *span]
    lines += [("tiers?", "<exists>"), ("size", str(len(tiers))), ("item []:", "")]
    for i, (kind, name, entries) in enumerate(tiers, 1):
        things = "intervals" if kind == "IntervalTier" else "points"
        lines += [(f"item [{i}]:", ""), ("class", text(kind)), ("name", text(name)), *span]
        lines.append((f"{things}: size", str(len(entries))))
        for j, (times, label) in enumerate(entries, 1):
            lines.append((f"{things} [{j}]:", ""))
            keys = ("xmin", "xmax") if kind == "IntervalTier" else ("number",)
            lines += zip(keys, map(number, times), strict=True)
            lines.append(("text" if kind == "IntervalTier" else "mark", text(label)))
    if form == "long":
        return "\n".join(f"{key} = {value} " if value else f"{key} " for key, value in lines)
    separator = {"short": "\n", "free": ' ! "x" 1\n\tword [2]: '}[form]
    return separator.join(value for _, value in lines if value)


@given(
    tiers=st.tuples(
        odd_tiers("IntervalTier", odd_texts.filter(lambda x: not x.endswith("phones"))),
        odd_tiers("IntervalTier", st.sampled_from(["phones", 'the "boss" - phones'])),
        odd_tiers("TextTier", odd_texts | st.just("phones")),
    ),
    order=st.permutations(range(3)),
    format_number=number_formats,
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]),
)
def test_all_forms_are_read_as_written(
    folder: Path,
    tiers: tuple[OddTier, ...],
    order: list[int],
    format_number: str,
    encoding: str,
) -> None:
    _, _, phones = tiers[1]
    expected = [
        (*np.clip(times, 0, None).tolist(), label.replace("\r\n", "\n").replace("\r", "\n").strip())
        for times, label in phones
    ]
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    for form in ("long", "short", "free"):
        text = write_odd([tiers[i] for i in order], format_number, form)
        assert intervals_of(read_text(folder, mark + text.encode(encoding))) == expected


@settings(max_examples=30)
@given(labels=st.lists(st.sampled_from(ODD_TEXTS), min_size=1, max_size=5))
def test_textgrids_of_praatio(folder: Path, labels: list[str]) -> None:
    """The Montreal Forced Aligner writes its TextGrids with praatio."""
    labels = [label.strip() for label in labels]
    expected = [(i / 7, (i + 1) / 7, label) for i, label in enumerate(labels)]
    grid = PraatioGrid(0, len(labels) / 7)
    grid.addTier(IntervalTier("phones", expected))
    for form in ("short_textgrid", "long_textgrid"):
        grid.save(str(folder / "u.TextGrid"), format=form, includeBlankSpaces=True)
        alignments = read_textgrids(folder, {"u": folder / "u.wav"})
        assert intervals_of(alignments) == expected


PHONES: dict[str, list[Interval]] = {"phones": [(0.0, 0.5, "a"), (0.5, 0.75, "b")]}


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize(
    ("number", "begin"),
    [("-0.5", 0.0), ("8e-2", 0.08), ("1.1e-16", 1.1e-16), ("-0", 0.0), ("+8E-02", 0.08), ("0.", 0)],
)
def test_numbers(folder: Path, write: Textgrid, number: str, begin: float) -> None:
    text = write({"phones": [(0.125, 0.5, "a")]}).replace("0.125", number)
    assert intervals_of(read_text(folder, text)) == [(begin, 0.5, "a")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("item [1]:", "item[1]:"),
        ("intervals [1]:", "intervals[1]"),
        ('"TextGrid"\n\n', '"TextGrid"\n'),
        ('"hello"', '"item [1] of 2"'),
        ("xmax = 0.75", "xmax=0 = 0.75"),
        ("text = ", "text=\n"),
        ('"ooTextFile"', '"ooTextFile short"'),
        ("\n", "\r"),
        ("size = 2 \nitem", "size = 2 ! 3 tiers <absent>\nitem"),
        ('"IntervalTier" \n        name = "words" ', '"IntervalTier" "words" '),
    ],
)
def test_layouts_of_the_long_form(folder: Path, old: str, new: str) -> None:
    text = long_textgrid({"words": [(0.0, 0.75, "hello")]} | PHONES)
    assert old in text
    assert intervals_of(read_text(folder, text.replace(old, new))) == PHONES["phones"]


# Sizes and ends


def sized(size: int, end: float) -> str:
    """Write two intervals up to 0.75 s, with this size and end of the tier, and a second tier."""
    text = short_textgrid(PHONES | {"words": [(0.0, 0.75, "a"), (0.75, 1.0, "b"), (1.0, 1.5, "c")]})
    return text.replace("0\n1.5\n2\n", f"0\n{end}\n{size}\n")


@pytest.mark.parametrize(("size", "end"), [(2, 0.77), (2, 9), (1, 0.75), (3, 0.75), (3, 0.7505)])
def test_a_textgrid_is_whole_if_its_size_or_its_end_is_reached(
    folder: Path, size: int, end: float
) -> None:
    assert intervals_of(read_text(folder, sized(size, end))) == PHONES["phones"]


def test_a_textgrid_is_truncated_if_neither_its_size_nor_its_end_is_reached(folder: Path) -> None:
    assert fault_of(read_text(folder, sized(3, 0.77))).endswith(
        'u.TextGrid: truncated: expected 3 intervals up to 0.77 s in the tier "phones", found 2'
    )


@pytest.mark.parametrize("write", FORMS)
def test_every_truncation_is_noticed(folder: Path, write: Textgrid) -> None:
    text = write({"words": [(0.0, 0.75, "hello")]} | PHONES).rstrip()
    for size in range(len(text)):
        fault = fault_of(read_text(folder, text[:size]))
        assert "expected" in fault
    assert intervals_of(read_text(folder, text)) == PHONES["phones"]


def test_a_missing_tier_is_noticed(folder: Path) -> None:
    """The second speaker's tiers are missing."""
    text = short_textgrid(PHONES).replace("<exists>\n1", "<exists>\n2")
    assert "truncated after 1 of 2 tiers" in fault_of(read_text(folder, text))


# Damaged files


ONE = {"phones": [(0.0, 0.1, "b")]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: the file ends here; expected a text in double quotes"),
        ("Just text.\n" * 9, "line 10: the file ends here; expected a text in double quotes"),
        ('"IntervalTier" "phones" 0 1 <exists>', 'expected "ooTextFile" and "TextGrid"'),
        ('"ooTextFile" "Pitch 1" 0 1 <exists>', '"Pitch 1"; expected "ooTextFile" and "TextGrid"'),
        ('{"tiers": 5}', "expected a text in double quotes"),
        ("[" * 100_000, "expected a text in double quotes"),
        (b"ooBinaryFile\x08TextGrid\0\0\xff", "can't decode byte 0xff"),
        (short_textgrid(ONE).encode("utf-16-le"), "expected a text in double quotes"),
        (short_textgrid(ONE).replace("0.1", "zero"), "line 6: '<exists>'; expected a number"),
        (short_textgrid(ONE).replace("0.1", "0,1"), "line 5: '0,1'; expected a number such as 0.5"),
        (short_textgrid(ONE).replace("0.1", "100ms"), "'100ms'; expected a number such as 0.5"),
        (short_textgrid(ONE).replace("0.1", "--undefined--"), "'--undefined--'; expected a num"),
        (short_textgrid(ONE).replace("0.1", ".1"), "line 6: '<exists>'; expected a number"),
        (short_textgrid(ONE).replace('"b"', "b"), "line 16: the file ends here; expected a text"),
        (short_textgrid(ONE).replace('"b"', '"b"c"'), 'line 15: \'"b"c"\' has a quote without'),
        (short_textgrid(ONE).replace("Interval", "Audio"), 'line 8: "AudioTier"; expected a tier'),
        (short_textgrid(ONE).replace("exists", "absent"), "found 0 in the tiers: "),
        (short_textgrid(ONE).replace("phones", "Phones"), "found 0 in the tiers: Phones"),
    ],
)
def test_an_invalid_textgrid(folder: Path, text: str | bytes, reason: str) -> None:
    assert reason in fault_of(read_text(folder, text))


def test_an_infinite_time(folder: Path) -> None:
    text = short_textgrid({"phones": [(0.0, 0.1, "b")]}).replace("0.1", "1e999")
    assert read_text(folder, text).faults == {"u": "a time that is NaN or infinite"}


def test_damaged_textgrids_are_excluded(directory: Directory) -> None:
    directory.write()
    directory.file("s02/a", ".TextGrid").write_text("")
    path = directory.file("s04/a", ".TextGrid")
    path.write_text(long_textgrid(directory.tiers("s04/a"))[:-30])
    fault = "TextGrid: expected a TextGrid in Praat's text format, in UTF-8 or UTF-16: line "
    directory.fails(f"are unusable .s02-a: .*/s02/a.{fault}", most_bad=0.05)
    directory.excludes({"s02-a": f"s02/a.{fault}1: ", "s04-a": f"s04/a.{fault}"})


def test_unicode_forms_of_a_name_match(directory: Directory) -> None:
    """macOS decomposes the characters in names of files."""
    for mapping in (directory.recordings, directory.alignments):
        mapping["s00/ren\u00e9"] = mapping.pop("s00/a")
    expected = directory.write().bytes()
    path = directory.file("s00/ren\u00e9", ".TextGrid")
    path.rename(directory.file("s00/rene\u0301", ".TextGrid"))
    assert directory.bytes() == expected


@given(st.one_of(st.binary(), st.text().map(str.encode)), st.data())
def test_a_damaged_textgrid_gives_no_traceback(
    folder: Path, noise: bytes, data: st.DataObject
) -> None:
    whole = data.draw(st.sampled_from(FORMS))(PHONES).encode()
    place = data.draw(st.integers(0, len(whole)))
    alignments = read_text(folder, whole[:place] + noise + whole[place + len(noise) :])
    assert alignments.names() == {"u"}
