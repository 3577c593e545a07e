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
    # Entry that the best path into a state took, counted from 1; 0 if it was in the state before.
    moves = np.zeros((length, states), np.uint16)
    best = np.full(states, -np.inf)
    for t in range(length):
        for s in range(states - 1, -1, -1):  # entries lie before s: they are still those of t - 1
            move, score = np.uint16(0), best[s]
            for e in range(starts[s], starts[s + 1]):
                first = 0.0 if t == 0 else -np.inf
                entering = first if before[e] == BEGIN else best[before[e]]
                if entering > score:
                    move, score = np.uint16(e - starts[s] + 1), entering
            best[s] = score + scores[t, targets[s]]
            moves[t, s] = move
    state, total = 0, -np.inf
    for s in range(states):
        if is_end[s] and best[s] > total:
            state, total = s, best[s]
    if total == -np.inf:
        return total
    for t in range(length - 1, -1, -1):
        path[t] = state
        if moves[t, state]:
            state = before[starts[state] + moves[t, state] - 1]
    return total
