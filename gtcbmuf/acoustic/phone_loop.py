"""Decodes phones from frames: a phone loop with a bigram, and the edit distance to the truth.

    best path = argmax sum over frames   log P(target | frame) - log P(target)
                     + sum over phones   language_weight * log P(phone | phone before)
                                         - insertion_penalty

A posterior divided by its prior is a scaled likelihood (Bourlard and Morgan 1994, chapter 7). A
phone is the chain of its targets in ascending order. Each target lasts at least one frame.
`PhoneLoop.decode` finds the best path exactly.
"""

# mypy: disable-error-code="assignment"
# (Numba itself unifies the types that are assigned to a variable.)
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.jit import kernel
from gtcbmuf.data.corpus import SILENCE

Phones = NDArray[np.int64]

#: Constant added to every bigram count (Lidstone's law; Manning and Schuetze 1999, section 6.2.2).
LIDSTONE = 0.5


def collapse(
    targets: NDArray[np.uint16], ends: NDArray[np.int64], target_phone: NDArray[np.uint16]
) -> tuple[Phones, NDArray[np.int64]]:
    """Return the phone sequence of labelled frames.

    A phone begins at the start of an utterance and where the phone of the target changes. It also
    begins where the target decreases within a phone, because the same phone then occurs again. The
    labels cannot show such a repetition for a phone with a single target.

    Args:
        targets: target of each frame, (T,).
        ends: index after the last frame of each utterance, (U,).
        target_phone: phone of each target, (C,).

    Returns:
        Indices of the phones, (N,), and the index after the last phone of each utterance, (U,).
    """
    phones = target_phone[targets]
    begins = np.ones(len(targets), bool)
    begins[1:] = (phones[1:] != phones[:-1]) | (targets[1:] < targets[:-1])
    begins[ends[:-1]] = True
    return phones[begins].astype(np.int64), np.cumsum(begins)[ends - 1]


def log_prior(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the log prior (C,) of each target from the targets' counts (C,) in a training set.

    Every count is increased by one, so that a target that does not occur has a prior, too.
    """
    prior: NDArray[np.float32] = np.log((counts + 1) / (counts + 1).sum()).astype(np.float32)
    return prior


class PhoneLoop:
    """A phone decoder with priors and a bigram that are estimated on a training set.

    A phone without targets is never decoded.

    Args:
        pieces: targets (T,) and ends (U,) of the training set's utterances, in the format of
            `collapse`. Each piece holds some of the utterances.
        target_phone: phone of each target, (C,).
        phones: number of phones P.

    Attributes:
        log_prior: log priors of the targets, (C,) float32. See `log_prior`.
        log_bigram: log probabilities, (P + 1, P + 1) float64. Entry [i, j] is that of phone j
            after phone i. Row P is the beginning of an utterance and column P its end. The
            probabilities of each row sum to one.
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
            # Index P stands before, between and after utterances: it ends one and begins the next.
            bounded = np.append(phones, np.insert(sequence, sequence_ends, phones))
            np.add.at(bigrams, (bounded[:-1], bounded[1:]), 1)
        self.log_prior = log_prior(counts)
        self.log_bigram = np.log(bigrams / bigrams.sum(axis=1, keepdims=True))

        self._chains = np.argsort(target_phone, kind="stable")  # targets, phone by phone
        self._chain_ends = np.cumsum(np.bincount(target_phone, minlength=phones))

    def decode(
        self, scores: NDArray[np.float32], language_weight: float, insertion_penalty: float
    ) -> Phones:
        """Return the phones of the best path through one utterance.

        Args:
            scores: (T, C), log posteriors or the scores before the softmax. The two differ by a
                constant per frame, which is the same for every path.
            language_weight: factor of the bigram's log probabilities.
            insertion_penalty: number subtracted from the score for every phone, in nats. A higher
                penalty gives fewer phones.

        Returns:
            Indices of the phones, (N,). Empty if the utterance is shorter than every phone's chain.
        """
        language = language_weight * self.log_bigram
        language[:, :-1] -= insertion_penalty
        frames = np.ascontiguousarray((scores - self.log_prior)[:, self._chains])
        path = np.empty(len(scores), np.int64)
        count = _viterbi(frames, self._chain_ends, language, path)
        return path[len(path) - count :]


# How a path reaches a state: from the same state, from the previous state of the chain, or from the
# last state of phone q, coded as _ENTER + q. q = P stands for the beginning of the utterance.
_STAY, _ADVANCE, _ENTER = 0, 1, 2


@kernel("(f4[:, ::1], i8[::1], f8[:, ::1], i8[::1])")
def _viterbi(
    scores: NDArray[np.float32],
    ends: NDArray[np.int64],
    language: NDArray[np.float64],
    path: Phones,
) -> int:
    """Find the best path through a loop of phones. Each phone is a chain of states.

    Args:
        scores: score of each state at each frame, (T, C) float32, C-contiguous. The states are
            ordered phone by phone.
        ends: index after the last state of each phone, (P,).
        language: (P + 1, P + 1). Entry [i, j] is added where phone j follows phone i. Index P
            stands for the boundary of the utterance.
        path: output, (T,). The phones of the path are written to the end of this array.

    Returns:
        The number of phones; 0 if no path fits into T frames.
    """
    length, states = scores.shape
    phones = ends.size
    moves = np.empty((length, states), np.uint16)
    best = np.full(states, -np.inf)  # score of the best path that ends in each state
    entry = np.empty(phones)  # score of the best path that is about to enter each phone
    before = np.empty(phones, np.int64)  # phone that this path leaves

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
            for s in range(ends[p] - 1, begin - 1, -1):  # backwards: best[s - 1] is that of t - 1
                move = _STAY
                score = best[s]
                if s > begin:
                    if best[s - 1] > score:
                        move = _ADVANCE
                        score = best[s - 1]
                elif entry[p] > score:
                    move = _ENTER + before[p]
                    score = entry[p]
                best[s] = score + scores[t, s]
                moves[t, s] = move
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
        move = moves[t, state]
        if move == _ADVANCE:
            state -= 1
        elif move != _STAY:
            count += 1
            path[length - count] = phone
            phone = move - _ENTER
            if t > 0:
                state = ends[phone] - 1
    return count


def without_silence(sequence: Phones, phones: Sequence[str]) -> Phones:
    """Return the sequence without the phone named "sil".

    Apply this to the true and to the decoded phones before you compare them. A missed or an extra
    pause is then no phone error. Phones with other names count, even if they stand for pauses.
    """
    silent = np.array([name == SILENCE for name in phones])
    phones_left: Phones = sequence[~silent[sequence]]
    return phones_left


class Edits(NamedTuple):
    """Number of errors in an alignment, by kind."""

    insertions: int
    deletions: int
    substitutions: int


def edit_distance(truth: Phones, decoded: Phones) -> Edits:
    """Return the fewest edits that turn `truth` (N,) into `decoded` (M,).

    Each edit counts 1 (Levenshtein distance). If several alignments have the fewest edits,
    kaldialign chooses the one that is counted.
    """
    import kaldialign

    edits = kaldialign.edit_distance(truth.tolist(), decoded.tolist())
    return Edits(edits["ins"], edits["del"], edits["sub"])
