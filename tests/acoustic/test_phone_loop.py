"""The phone decoder and the edit distance, against exhaustive oracles."""

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gtcbmuf.acoustic.phone_loop import (
    LIDSTONE,
    PhoneLoop,
    collapse,
    edit_distance,
    without_silence,
)

THREE_STATES = np.repeat(np.arange(4), 3).astype(np.uint16)


@st.composite
def labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Draw targets, ends of utterances, the phone of each target (in any order), phone count."""
    phones = draw(st.integers(1, 4))
    target_phone = draw(st.lists(st.integers(0, phones - 1), min_size=1, max_size=6))
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    frames = sum(lengths)
    target = st.integers(0, len(target_phone) - 1)
    targets = draw(st.lists(target, min_size=frames, max_size=frames))
    return (
        np.array(targets, np.uint16),
        np.cumsum(lengths),
        np.array(target_phone, np.uint16),
        phones,
    )


def collapse_by_loop(
    targets: np.ndarray, ends: np.ndarray, target_phone: np.ndarray
) -> list[list[int]]:
    utterances, begin = [], 0
    for end in ends:
        sequence: list[int] = []
        before = None
        for target in targets[begin:end].tolist():
            phone = int(target_phone[target])
            if before is None or phone != target_phone[before] or target < before:
                sequence.append(phone)
            before = target
        utterances.append(sequence)
        begin = end
    return utterances


@given(labels())
def test_collapse_equals_a_loop(case: tuple[np.ndarray, np.ndarray, np.ndarray, int]) -> None:
    targets, ends, target_phone, _ = case
    phones, phone_ends = collapse(targets, ends, target_phone)
    expected = collapse_by_loop(targets, ends, target_phone)
    assert [part.tolist() for part in np.split(phones, phone_ends)[:-1]] == expected
    assert phone_ends[-1] == len(phones)


def test_equal_phones_in_a_row_count_twice_where_the_labels_show_it() -> None:
    targets = np.array([0, 1, 2, 2, 0, 1, 3, 3, 0], np.uint16)
    phones, ends = collapse(targets, np.array([8, 9]), np.array([5, 5, 5, 7], np.uint16))
    assert phones.tolist() == [5, 5, 7, 5]
    assert ends.tolist() == [3, 4]


@given(labels())
def test_bigram_and_prior_equal_the_counts(
    case: tuple[np.ndarray, np.ndarray, np.ndarray, int],
) -> None:
    targets, ends, target_phone, phones = case
    loop = PhoneLoop([(targets, ends)], target_phone, phones)
    counts = np.full((phones + 1, phones + 1), LIDSTONE)
    for sequence in collapse_by_loop(targets, ends, target_phone):
        for i, j in zip([phones, *sequence], [*sequence, phones], strict=True):
            counts[i, j] += 1
    # Nothing follows the end of an utterance, so row P holds the counts of the beginnings only.
    np.testing.assert_allclose(
        np.exp(loop.log_bigram), counts / counts.sum(axis=1, keepdims=True), rtol=1e-12
    )
    np.testing.assert_allclose(np.exp(loop.log_bigram).sum(axis=1), 1, rtol=1e-12)
    totals = [np.count_nonzero(targets == target) + 1 for target in range(len(target_phone))]
    np.testing.assert_allclose(np.exp(loop.log_prior), np.array(totals) / sum(totals), rtol=1e-5)


def all_paths(
    loop: PhoneLoop, scores: np.ndarray, target_phone: np.ndarray, weight: float, penalty: float
) -> Iterator[tuple[float, list[int]]]:
    """Yield score and phones of every path: all phone sequences, with all frame divisions."""
    length, boundary = len(scores), len(loop.log_bigram) - 1
    frames, bigram = (scores - loop.log_prior).tolist(), loop.log_bigram.tolist()
    chains = [np.flatnonzero(target_phone == phone).tolist() for phone in range(boundary)]
    used = [phone for phone in range(boundary) if chains[phone]]
    for count in range(1, length + 1):
        for sequence in product(used, repeat=count):
            states = [state for phone in sequence for state in chains[phone]]
            if len(states) > length:
                continue
            steps = zip((boundary, *sequence), (*sequence, boundary), strict=True)
            language = weight * sum(bigram[i][j] for i, j in steps) - penalty * count
            for cuts in combinations(range(1, length), len(states) - 1):
                parts = zip(states, (0, *cuts), (*cuts, length), strict=True)
                acoustic = sum(frames[t][state] for state, a, b in parts for t in range(a, b))
                yield language + acoustic, list(sequence)


@settings(max_examples=50, deadline=None)
@given(
    target_phone=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    length=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_decode_finds_the_best_of_all_paths(
    target_phone: list[int], length: int, seed: int
) -> None:
    stream = np.random.default_rng(seed)
    phone_of = np.array(target_phone, np.uint16)
    targets = stream.integers(0, len(phone_of), 40).astype(np.uint16)
    loop = PhoneLoop([(targets, np.array([9, 25, 40]))], phone_of, 3)
    scores = stream.normal(0, 2, (length, len(phone_of))).astype(np.float32)
    weight, penalty = stream.uniform(0.1, 3), stream.normal(0, 2)
    paths = all_paths(loop, scores, phone_of, weight, penalty)
    _, best = max(paths, default=(0.0, []))
    assert loop.decode(scores, weight, penalty).tolist() == best


def test_an_utterance_shorter_than_every_phone_has_no_phones() -> None:
    targets = np.zeros(1, np.uint16)
    loop = PhoneLoop([(targets, np.array([1]))], THREE_STATES, 4)
    assert loop.decode(np.zeros((2, 12), np.float32), 1, 0).tolist() == []
    assert len(loop.decode(np.zeros((3, 12), np.float32), 1, 0)) == 1


def test_scores_of_nan_give_no_phones() -> None:
    loop = PhoneLoop([(np.zeros(1, np.uint16), np.array([1]))], THREE_STATES, 4)
    assert loop.decode(np.full((9, 12), np.nan, np.float32), 1, 0).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_a_perfect_posterior_is_decoded_without_an_error(seed: int) -> None:
    stream = np.random.default_rng(seed)
    sequence = stream.integers(0, 4, 30)
    states = (3 * sequence[:, None] + np.arange(3)).ravel()
    targets = np.repeat(states, stream.integers(1, 6, len(states))).astype(np.uint16)
    ends = np.array([len(targets)])
    loop = PhoneLoop([(targets, ends)], THREE_STATES, 4)
    posteriors = np.where(np.arange(12) == targets[:, None], 0, -100).astype(np.float32)
    decoded = loop.decode(posteriors, 2, 1)
    assert decoded.tolist() == collapse(targets, ends, THREE_STATES)[0].tolist()
    # A constant added to all scores of a frame changes nothing.
    shifted = posteriors + stream.normal(0, 9, (len(targets), 1)).astype(np.float32)
    assert loop.decode(shifted, 2, 1).tolist() == decoded.tolist()


def test_silence_is_left_out() -> None:
    sequence = np.array([0, 1, 2, 0, 0, 1])
    assert without_silence(sequence, ("sil", "a", "b")).tolist() == [1, 2, 1]
    assert without_silence(sequence, ("a", "b", "pau")).tolist() == sequence.tolist()
    assert without_silence(sequence[:0], ("sil",)).tolist() == []


def distance_by_table(truth: list[int], decoded: list[int]) -> int:
    """Compute the edit distance by the method of Wagner and Fischer (1974)."""
    row = list(range(len(decoded) + 1))
    for i, true_phone in enumerate(truth, 1):
        diagonal, row[0] = row[0], i
        for j, decoded_phone in enumerate(decoded, 1):
            best = min(row[j] + 1, row[j - 1] + 1, diagonal + (true_phone != decoded_phone))
            diagonal, row[j] = row[j], best
    return row[-1]


phone_lists = st.lists(st.integers(0, 3), max_size=12)


@given(phone_lists, phone_lists)
def test_edit_distance_equals_the_table(truth: list[int], decoded: list[int]) -> None:
    edits = edit_distance(np.array(truth, np.int64), np.array(decoded, np.int64))
    assert sum(edits) == distance_by_table(truth, decoded)
    assert edits.insertions - edits.deletions == len(decoded) - len(truth)
    assert min(edits) >= 0


def test_edits_are_counted_by_kind() -> None:
    truth = np.array([1, 2, 3, 4])
    assert edit_distance(truth, np.array([1, 2, 3, 9, 4])) == (1, 0, 0)
    assert edit_distance(truth, np.array([1, 2, 4])) == (0, 1, 0)
    assert edit_distance(truth, np.array([1, 9, 3, 4])) == (0, 0, 1)
