"""The states that an utterance may pass through: pronunciations of words, and optional silence."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.data.features import STATES

#: The place before the first state of an utterance.
BEGIN = -1
#: Pronunciations of a word, each a sequence of phone indices.
Word = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Graph:
    """The states of an utterance, in an order in which paths ascend.

    Attributes:
        targets: target of each state, (S,) int32.
        starts: bounds of each state's part of `before`, (S + 1,) int32.
        before: states, or BEGIN, from which a state may be entered, (E,) int32.
        is_end: whether an utterance may end in a state, (S,) uint8.
        word: number of each state's word, (S,) int32; -1 for silence.
    """

    targets: NDArray[np.int32]
    starts: NDArray[np.int32]
    before: NDArray[np.int32]
    is_end: NDArray[np.uint8]
    word: NDArray[np.int32]

    @property
    def shortest(self) -> int:
        """Number of frames of the shortest path."""
        length = np.zeros(len(self.targets), np.int64)
        for state, (first, end) in enumerate(pairwise(self.starts)):
            entries = self.before[first:end]
            length[state] = 1 + min(0 if entry == BEGIN else length[entry] for entry in entries)
        return int(length[self.is_end.astype(bool)].min())


def build_graph(words: Sequence[Word], silence: int = 0) -> Graph:
    """Build the states of a sequence of words.

    A phone is a chain of `features.STATES` states. Silence is optional before, between and after
    the words.

    Args:
        words: the words, at least one.
        silence: index of the phone of silence.

    Examples:
        >>> graph = build_graph([[[1]], [[2], [3]]])
        >>> graph.targets[::3].tolist()  # silence, 1, silence, 2, 3, silence
        [0, 3, 0, 6, 9, 0]
        >>> graph.shortest
        6
    """
    targets: list[int] = []
    entries: list[list[int]] = []
    word_of: list[int] = []

    def add(phones: Sequence[int], before: list[int], word: int) -> int:
        """Add a chain of phones, and return its last state."""
        for phone in phones:
            for state in range(STATES):
                entries.append(before)
                targets.append(STATES * phone + state)
                word_of.append(word)
                before = [len(targets) - 1]
        return before[0]

    ends = [BEGIN]
    ends = [*ends, add([silence], ends, -1)]
    for number, pronunciations in enumerate(words):
        ends = [add(phones, ends, number) for phones in pronunciations]
        ends = [*ends, add([silence], ends, -1)]
    is_end = np.zeros(len(targets), np.uint8)
    is_end[ends] = 1
    return Graph(
        np.array(targets, np.int32),
        np.cumsum([0, *map(len, entries)]).astype(np.int32),
        np.array([entry for before in entries for entry in before], np.int32),
        is_end,
        np.array(word_of, np.int32),
    )
