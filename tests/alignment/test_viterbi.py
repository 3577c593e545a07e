"""Graphs of words, their best paths, and the flat start."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gtcbmuf.alignment.flat_start import flat_start
from gtcbmuf.alignment.graph import BEGIN, Graph, build_graph
from gtcbmuf.alignment.viterbi import best_path

PRONUNCIATION = st.lists(st.integers(1, 3), min_size=1, max_size=2)
WORDS = st.lists(st.lists(PRONUNCIATION, min_size=1, max_size=2), min_size=1, max_size=2)


def sequences(words: list[list[list[int]]]) -> list[list[int]]:
    """All phone sequences of some words: a pronunciation of each, silence or none around them."""
    parts: list[list[list[int]]] = [[[], [0]]]
    for word in words:
        parts += [word, [[], [0]]]
    return [list(itertools.chain(*choice)) for choice in itertools.product(*parts)]


def best_score(scores: NDArray[np.float32], words: list[list[list[int]]]) -> float:
    """The best score over all phone sequences, each by a scalar loop over its chain of states."""
    totals = [-np.inf]
    for sequence in sequences(words):
        chain = [3 * phone + state for phone in sequence for state in range(3)]
        best = [-np.inf] * len(chain)
        for t in range(len(scores)):
            before = best
            best = []
            for s in range(len(chain)):
                entering = before[s - 1] if s else (0.0 if t == 0 else -np.inf)
                best.append(max(before[s], entering) + float(scores[t, chain[s]]))
        totals.append(best[-1])
    return max(totals)


@given(WORDS, st.integers(1, 24), st.integers(0, 2**32))
def test_the_best_path_is_that_of_all_phone_sequences(
    words: list[list[list[int]]], length: int, seed: int
) -> None:
    scores = np.random.default_rng(seed).integers(-8, 8, (length, 12)).astype(np.float32)
    graph = build_graph(words)
    path, score = best_path(graph, scores)
    assert score == best_score(scores, words)
    assert (len(path) == 0) == (length < graph.shortest)
    if len(path):
        assert float(scores[np.arange(length), graph.targets[path]].sum()) == score
        check_path(graph, path)


def check_path(graph: Graph, path: NDArray[np.int64]) -> None:
    """A path begins at the begin, ends at an end, and moves along the graph."""
    entries = [
        set(graph.before[a:b].tolist()) for a, b in itertools.pairwise(graph.starts.tolist())
    ]
    assert BEGIN in entries[path[0]]
    assert graph.is_end[path[-1]]
    for state, following in itertools.pairwise(path.tolist()):
        assert following == state or state in entries[following]


@given(WORDS)
def test_the_shortest_path_has_a_frame_for_each_state(words: list[list[list[int]]]) -> None:
    assert build_graph(words).shortest == 3 * min(map(len, sequences(words)))


def test_states_know_their_word() -> None:
    graph = build_graph([[[1], [2]], [[3]]])
    assert graph.word[::3].tolist() == [-1, 0, 0, -1, 1, -1]


@given(WORDS, st.integers(1, 60), st.integers(0, 2**32))
def test_a_flat_start_has_the_states_in_order(
    words: list[list[list[int]]], length: int, seed: int
) -> None:
    features = np.random.default_rng(seed).normal(size=(length, 4)).astype(np.float32)
    targets = flat_start(features, words)
    chain = [3 * phone + s for word in words for phone in word[0] for s in range(3)]
    states = [int(t) for t, _ in itertools.groupby(targets.tolist()) if t >= 3]
    assert len(targets) == length
    places = iter(chain)
    assert all(state in places for state in states)  # a subsequence, without repetitions
    if length >= 6 + len(chain):
        assert len(set(states)) == len(set(chain))


def test_a_flat_start_leaves_quiet_edges_to_silence() -> None:
    loudness = np.concatenate([np.zeros(10), np.full(30, 8.0), np.zeros(20)])[:, None]
    targets = flat_start(loudness, [[[1]], [[2], [3]]])
    assert (targets[:10] < 3).all()
    assert (targets[40:] < 3).all()
    assert targets[10:40:5].tolist() == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("length", [1, 5])
def test_an_utterance_that_is_too_short_has_no_path(length: int) -> None:
    path, score = best_path(build_graph([[[1, 2]]]), np.zeros((length, 9), np.float32))
    assert len(path) == 0
    assert score == -np.inf
