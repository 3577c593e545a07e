"""The best path of an utterance through its graph, found exactly."""

# mypy: disable-error-code="assignment"
# (Numba itself unifies the types that are assigned to a variable.)
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.alignment.graph import BEGIN, Graph
from gtcbmuf.base.jit import kernel


def best_path(graph: Graph, scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], float]:
    """Find the path with the highest sum of scores.

    Args:
        graph: states of the utterance.
        scores: score of each target at each frame, (T, C) float32: log posteriors minus log priors,
            up to a constant per frame.

    Returns:
        State of each frame, (T,) int64, and the sum of the scores. The path is empty if the
        utterance is shorter than every path.

    Examples:
        >>> from gtcbmuf.alignment.graph import build_graph
        >>> scores = np.zeros((4, 6), np.float32)
        >>> scores[[0, 1, 2, 3], [3, 4, 4, 5]] = 1
        >>> path, score = best_path(build_graph([[[1]]]), scores)
        >>> path.tolist(), score
        ([3, 4, 4, 5], 4.0)
    """
    path = np.empty(len(scores), np.int64)
    score = _viterbi(
        np.ascontiguousarray(scores), graph.targets, graph.starts, graph.before, graph.is_end, path
    )
    return (path, score) if np.isfinite(score) else (path[:0], score)


@kernel("(f4[:, ::1], i4[::1], i4[::1], i4[::1], u1[::1], i8[::1])")
def _viterbi(
    scores: NDArray[np.float32],
    targets: NDArray[np.int32],
    starts: NDArray[np.int32],
    before: NDArray[np.int32],
    is_end: NDArray[np.uint8],
    path: NDArray[np.int64],
) -> float:
    """Find the best path and return its score; -inf if there is none.

    Args:
        scores: (T, C) float32.
        targets, starts, before, is_end: as in `Graph`.
        path: output, (T,) int64.
    """
    length, states = scores.shape[0], targets.size
    # Moves of a block of frames at a time, computed again from the scores before it: the memory
    # grows with the root of the length.
    block = max(1, int(np.sqrt(length)))
    blocks = (length + block - 1) // block
    moves = np.empty((block, states), np.uint16)
    before_block = np.empty((blocks, states))
    best = np.full(states, -np.inf)
    for t in range(length):
        if t % block == 0:
            before_block[t // block] = best
        _advance(scores[t], t == 0, targets, starts, before, best, moves[t % block])
    state, total = 0, -np.inf
    for s in range(states):
        if is_end[s] and best[s] > total:
            state, total = s, best[s]
    if total == -np.inf:
        return total
    for number in range(blocks - 1, -1, -1):
        first, end = number * block, min((number + 1) * block, length)
        best[:] = before_block[number]
        for t in range(first, end):
            _advance(scores[t], t == 0, targets, starts, before, best, moves[t - first])
        for t in range(end - 1, first - 1, -1):
            path[t] = state
            if moves[t - first, state]:
                state = before[starts[state] + moves[t - first, state] - 1]
    return total


@kernel("(f4[::1], b1, i4[::1], i4[::1], i4[::1], f8[::1], u2[::1])")
def _advance(
    scores: NDArray[np.float32],
    is_first: bool,
    targets: NDArray[np.int32],
    starts: NDArray[np.int32],
    before: NDArray[np.int32],
    best: NDArray[np.float64],
    moves: NDArray[np.uint16],
) -> None:
    """Advance the best scores of all states by a frame.

    Args:
        scores: score of each target, (C,) float32.
        is_first: whether paths may begin here.
        targets, starts, before: as in `Graph`.
        best: score of the best path into each state, (S,) float64; changed in place.
        moves: output, (S,) uint16: the entry that this path took, counted from 1; 0 if it was in
            the state before.
    """
    for s in range(targets.size - 1, -1, -1):  # entries lie before s: they are still the old ones
        move, score = np.uint16(0), best[s]
        for e in range(starts[s], starts[s + 1]):
            first = 0.0 if is_first else -np.inf
            entering = first if before[e] == BEGIN else best[before[e]]
            if entering > score:
                move, score = np.uint16(e - starts[s] + 1), entering
        best[s] = score + scores[targets[s]]
        moves[s] = move
