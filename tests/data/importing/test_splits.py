"""Splits by shares of the time and by lists."""

from pathlib import Path

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from support.audio import Directory, make_directory

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import SPLITS, open_corpus
from gtcbmuf.data.importing.splits import UNITS, split_utterances
from gtcbmuf.data.inspection import describe_corpus


def split(
    lengths: dict[str, list[float]], valid: str, test: str, unit: str
) -> dict[str, dict[str, float]]:
    """Split speakers with utterances of these lengths. Return the lengths in each split."""
    names = {
        speaker: [f"{speaker}-{i}" for i in range(len(lengths[speaker]))] for speaker in lengths
    }
    flat = {
        name: length
        for speaker in lengths
        for name, length in zip(names[speaker], lengths[speaker], strict=True)
    }
    split_of = split_utterances(
        names,
        flat,
        {*flat, *names},
        {"valid": valid, "test": test},
        unit=unit,
        speaker_rule="tests",
    )
    assert split_of.keys() == flat.keys()
    return {s: {n: flat[n] for n in flat if split_of[n] == s} for s in SPLITS}


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.lists(st.floats(0.1, 10), min_size=1, max_size=4),
        min_size=5,
        max_size=30,
    ),
    st.sampled_from(UNITS),
)
def test_a_share_is_one_of_the_time_as_near_as_its_units_allow(
    lengths: dict[str, list[float]], unit: str
) -> None:
    try:
        parts = split(lengths, "0.2", "0.1", unit)
    except UserError:  # one unit is much longer than all others
        reject()
    of_unit: dict[str, float] = {}
    for part in parts.values():
        for name, length in part.items():
            key = name if unit == "utterance" else name.rsplit("-", 1)[0]
            of_unit[key] = of_unit.get(key, 0) + length
    for name, share in (("valid", 0.2), ("test", 0.1)):
        target, sizes = share * sum(of_unit.values()), sorted(of_unit.values())
        chosen = {n if unit == "utterance" else n.rsplit("-", 1)[0] for n in parts[name]}
        error = abs(sum(parts[name].values()) - target)
        assert error <= sizes[-1] / 2 + 1e-9 or len(chosen) == 1
    if unit == "speaker":
        speakers = [{n.rsplit("-", 1)[0] for n in part} for part in parts.values()]
        assert sum(map(len, speakers)) == len(lengths)


def test_a_talkative_speaker_does_not_fill_a_small_split() -> None:
    lengths = {"lead": [60.0], **{f"part{i}": [2.0] for i in range(20)}}
    parts = split(lengths, "0.1", "0.1", "speaker")
    assert "lead-0" in parts["train"]
    assert all(len(parts[name]) == 5 for name in ("valid", "test"))


def test_one_speaker_is_divided_by_utterances() -> None:
    lengths = {"only": [1.0] * 20}
    parts = split(lengths, "0.1", "0.2", "utterance")
    assert {name: len(part) for name, part in parts.items()} == {"train": 14, "valid": 2, "test": 4}
    with pytest.raises(UserError, match=r"leave no speaker for train: .*--split-by utterance"):
        split(lengths, "0.1", "0.2", "speaker")


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(UserError, match="--split-by word: expected speaker or utterance"):
        split({"a": [1.0]}, "0.1", "0.1", "word")


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return make_directory(tmp_path)


def test_a_corpus_of_one_speaker(directory: Directory) -> None:
    text = directory.write().make(speakers="pattern:(s)", split_by="utterance")
    corpus = open_corpus(directory.out)
    assert corpus.attributes["split_by"] == "utterance"
    assert {len(set(corpus.split(name).speakers)) for name in SPLITS} == {1}
    assert "1 speakers are in several splits (--split-by utterance)" in text
    assert "1 speakers are in several splits" in describe_corpus(corpus)
    directory.make(split_by="utterance", valid=str(_list(directory, "s03-a\n")))
    corpus = open_corpus(directory.out)
    assert corpus.valid.names == ("s03-a",)
    assert "s03-b" in corpus.train.names + corpus.test.names


def test_a_speaker_is_not_divided_by_a_list(directory: Directory) -> None:
    directory.write().fails(
        "speaker s03: only some .*--split-by utterance", valid=str(_list(directory, "s03-a\n"))
    )


def _list(directory: Directory, text: str) -> Path:
    path = directory.path / "list"
    path.write_text(text)
    return path
