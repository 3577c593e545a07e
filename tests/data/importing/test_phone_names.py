"""Phones of labels: silence, positions in the word, stress and tones."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.audio import make_directory

from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.data.importing.phone_names import map_labels


@pytest.mark.parametrize(
    ("labels", "phones"),
    [
        (["", "sil", "SIL", "sp", "<eps>", "spn", "b"], ["sil"] * 5 + ["spn", "b"]),
        (["h#", "pau", "<sil>", "SILENCE", "<p:>", "SIL_B", "p"], ["sil"] * 5 + ["SIL_B", "p"]),
        (["AH0", "AH1", "ER2", "T", "t"], ["AH", "AH", "ER", "T", "t"]),
        (["SIL", "AH0_B", "T_I", "AH2_S", "SIL_S"], ["sil", "AH", "T", "AH", "sil"]),
        (["t_S", "t", "S", "AH0_B"], None),  # t_S is a phone: no label has a position
        (["ɕ", "tʰ", "aː", "ɐ"], None),  # noqa: RUF001
        (["_B", "a_B"], None),
        # tones and numbers
        (["AA1", "AA2", "AA3", "AA4", "AA5", "NG1"], None),
        (["AA1", "AA3"], None),
        (["AO1", "AO2", "NG1"], None),
        (["AO1", "AO2", "IAO1"], None),
        (["AH0", "AH1", "T3"], None),
        (["AH0", "AH10"], None),
        (["AH0", "a˥¹"], None),
        (["aa1", "aa2", "a1", "˥1"], None),
        (["AA1_B", "AA4_E", "SIL"], ["AA1", "AA4", "sil"]),
    ],
)
def test_phones_of_labels(labels: list[str], phones: list[str] | None) -> None:
    """Without `phones`, all labels stay as they are."""
    phone_of = map_labels(labels).phone_of
    assert [phone_of[label] for label in labels] == (phones or labels)


VOWELS = ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"]


def test_all_vowels_of_arpabet_lose_their_stress() -> None:
    labels = [f"{vowel}{stress}" for vowel in VOWELS for stress in "012"]
    names = map_labels([*labels, "NG"])
    assert sorted({names.phone_of[label] for label in labels}) == VOWELS
    assert names.notes == ["stress removed from 45 labels, such as AA0, AA1, AA2"]


@pytest.mark.parametrize(
    ("labels", "phones", "summary"),
    [
        (["", "AH0", "T", "AH1"], "sil AH T", "\nstress removed from 2 labels, such as AH0, AH1"),
        (["", "AH1", "AH4"], "sil AH1 AH4", "\ndigits kept: AH4 is not one of ARPAbet's vowels w"),
        (["", "t", "a"], "sil a t", ""),
        (["h#", "t", "sil", "PAU"], "sil t", "\nsilence: PAU, h#"),
    ],
)
def test_the_summary_states_what_was_done_with_silence_and_stress(
    tmp_path: Path, labels: list[str], phones: str, summary: str
) -> None:
    directory = make_directory(tmp_path)
    bounds = np.linspace(0, 0.08, len(labels) + 1).tolist()
    for key in directory.alignments:
        intervals = zip(pairwise(bounds), labels, strict=True)
        directory.alignments[key] = [(a, b, label) for (a, b), label in intervals]
    text = directory.write().make()
    assert summary in text
    assert any(word in text for word in ("silence:", "stress", "digits")) == bool(summary)
    assert " ".join(open_corpus(directory.out).phones) == phones
