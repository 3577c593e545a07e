"""From frames to phones: a phone loop with a bigram, and the edit distance to the truth.

    best path = argmax sum over frames   log P(target | frame) - log P(target)
                     + sum over phones   language_weight * log P(phone | phone before)
                                         - insertion_penalty

(Bourlard and Morgan 1994, chapter 7: a posterior over its prior is a scaled likelihood.) A phone
is the chain of its targets in ascending order, each at least a frame long. `PhoneLoop.decode`
finds the best path exactly.
"""

# mypy: disable-error-code="assignment"
# (Numba unifies the types of a variable's assignments by itself.)
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.jit import kernel
from gtcbmuf.data.corpus import SILENCE

Phones = NDArray[np.int64]

#: Added to every count of a bigram (Lidstone's law; Manning and Schuetze 1999, section 6.2.2).
LIDSTONE = 0.5


def collapse(
    targets: NDArray[np.uint16], ends: NDArray[np.int64], target_phone: NDArray[np.uint16]
) -> tuple[Phones, NDArray[np.int64]]:
    """The phones that frames are labelled with.

    A phone begins with its utterance, where the phone changes, and where the target falls within
    a phone: the same phone once more. Of a phone with a single target the labels cannot show that.

    Args:
        targets: (T,) of the frames.
        ends: (U,) the frame after the last one of each utterance.
        target_phone: (C,) the phone of each target.

    Returns:
        (N,) indices of phones, and (U,) the phone after the last one of each utterance.
    """
    phones = target_phone[targets]
    begins = np.ones(len(targets), bool)
    begins[1:] = (phones[1:] != phones[:-1]) | (targets[1:] < targets[:-1])
    begins[ends[:-1]] = True
    return phones[begins].astype(np.int64), np.cumsum(begins)[ends - 1]


def log_prior(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log prior of each target: (C,), from how often each occurs in a training set: (C,).

    Each counts once more than it occurs, so that one that does not occur has a prior.
    """
    prior: NDArray[np.float32] = np.log((counts + 1) / (counts + 1).sum()).astype(np.float32)
    return prior


class PhoneLoop:
    """What the targets of a training set tell of phones, and the decoder that uses it.

    A phone without targets is never decoded.

    Args:
        pieces: targets (T,) and ends (U,) of the training set's utterances, some at a time, as
            `collapse` takes them.
        target_phone: (C,) the phone of each target.
        phones: P, the number of phones.

    Attributes:
        log_prior: (C,) float32, see `log_prior`.
        log_bigram: (P + 1, P + 1) float64: of phone j after phone i at [i, j]. Row P is an
            utterance's begin, column P its end; every row's probabilities sum to one.
    """

    def __init__(
        self,
        pieces: Iterable[tuple[NDArray[np.uint16], NDArray[np.int64]]],
        target_phone: NDArray[np.uint16],
        phones: int,
    ) -> None:
        counts = np.zeros(len(target_phone), np.int64)
        bigrams = np.full((phones + 1, phones + 1), LIDSTONE)
        for targets, ends in pieces:
            counts += np.bincount(targets, minlength=len(counts))
            sequence, sequence_ends = collapse(targets, ends, target_phone)
            # The boundary P before, between and after utterances: it ends one and begins the next.
            bounded = np.append(phones, np.insert(sequence, sequence_ends, phones))
            np.add.at(bigrams, (bounded[:-1], bounded[1:]), 1)
        self.log_prior = log_prior(counts)
        self.log_bigram = np.log(bigrams / bigrams.sum(axis=1, keepdims=True))

        self._chains = np.argsort(target_phone, kind="stable")  # targets, phone after phone
        self._chain_ends = np.cumsum(np.bincount(target_phone, minlength=phones))

    def decode(
        self, scores: NDArray[np.float32], language_weight: float, insertion_penalty: float
    ) -> Phones:
        """The phones of the best path through one utterance.

        Args:
            scores: (T, C), log posteriors or the scores before the softmax: what a frame's differ
                by is the same for every path.
            language_weight: of the bigram's log probabilities.
            insertion_penalty: taken off the score for every phone, so that a higher one gives
                fewer phones; in nats.

        Returns:
            (N,) indices of phones; none if the utterance is shorter than every phone's chain.
        """
        language = language_weight * self.log_bigram
        language[:, :-1] -= insertion_penalty
        frames = np.ascontiguousarray((scores - self.log_prior)[:, self._chains])
        path = np.empty(len(scores), np.int64)
        count = _viterbi(frames, self._chain_ends, language, path)
        return path[len(path) - count :]


# How a path came to a state: from itself, from the state before it in its chain, or, as _ENTER + q,
# from the last state of phone q; q = P stands for the utterance's begin.
_STAY, _ADVANCE, _ENTER = 0, 1, 2


@kernel("(f4[:, ::1], i8[::1], f8[:, ::1], i8[::1])")
def _viterbi(
    scores: NDArray[np.float32],
    ends: NDArray[np.int64],
    language: NDArray[np.float64],
    path: Phones,
) -> int:
    """The best path through a loop of phones, each a chain of states.

    Args:
        scores: (T, C) float32, C-contiguous: of each state at each frame, phone after phone.
        ends: (P,) the state after the last one of each phone.
        language: (P + 1, P + 1): added where phone j follows phone i, at [i, j]; P is no phone.
        path: (T,) out: the phones of the path, at its end.

    Returns:
        The number of phones; 0 if no path fits into T frames.
    """
    length, states = scores.shape
    phones = ends.size
    came = np.empty((length, states), np.uint16)
    best = np.full(states, -np.inf)  # of the paths that end in each state
    entry = np.empty(phones)  # of the paths that are about to enter each phone
    before = np.empty(phones, np.int64)  # the phone that such a path leaves

    for t in range(length):
        if t == 0:
            entry[:] = language[phones, :phones]
            before[:] = phones
        else:
            entry[:] = -np.inf
            before[:] = 0
            begin = 0
            for q in range(phones):
                if ends[q] > begin:
                    leaving = best[ends[q] - 1]
                    for p in range(phones):
                        score = leaving + language[q, p]
                        better = score > entry[p]
                        entry[p] = score if better else entry[p]
                        before[p] = q if better else before[p]
                begin = ends[q]
        begin = 0
        for p in range(phones):
            for s in range(ends[p] - 1, begin - 1, -1):  # from its end: best[s - 1] is the old one
                way = _STAY
                score = best[s]
                if s > begin:
                    if best[s - 1] > score:
                        way = _ADVANCE
                        score = best[s - 1]
                elif entry[p] > score:
                    way = _ENTER + before[p]
                    score = entry[p]
                best[s] = score + scores[t, s]
                came[t, s] = way
            begin = ends[p]

    phone = phones
    total = -np.inf
    begin = 0
    for p in range(phones):
        if ends[p] > begin and best[ends[p] - 1] + language[p, phones] > total:
            phone = p
            total = best[ends[p] - 1] + language[p, phones]
        begin = ends[p]
    if phone == phones:
        return 0

    count = 0
    state = ends[phone] - 1
    for t in range(length - 1, -1, -1):
        way = came[t, state]
        if way == _ADVANCE:
            state -= 1
        elif way != _STAY:
            count += 1
            path[length - count] = phone
            phone = way - _ENTER
            if t > 0:
                state = ends[phone] - 1
    return count


def without_silence(sequence: Phones, phones: Sequence[str]) -> Phones:
    """The sequence without the phone that is named "sil".

    It is taken from the truth and from what was decoded before they are compared: a pause that
    is heard or not is no phone error. Other names of pauses are phones like all others.
    """
    silent = np.array([name == SILENCE for name in phones])
    kept: Phones = sequence[~silent[sequence]]
    return kept


class Edits(NamedTuple):
    """The errors of an alignment."""

    insertions: int
    deletions: int
    substitutions: int


def edit_distance(truth: Phones, decoded: Phones) -> Edits:
    """The fewest edits that make `decoded` (M,) of `truth` (N,); each counts 1 (Levenshtein).

    Where several alignments have the fewest edits, kaldialign chooses which of them is counted.
    """
    import kaldialign

    edits = kaldialign.edit_distance(truth.tolist(), decoded.tolist())
    return Edits(edits["ins"], edits["del"], edits["sub"])
