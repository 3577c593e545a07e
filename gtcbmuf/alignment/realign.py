"""Aligns the utterances of a corpus with a model, on all ranks of a job."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.acoustic.model_file import load_model
from gtcbmuf.acoustic.phone_loop import log_prior
from gtcbmuf.acoustic.posteriors import BATCH, UtteranceScores
from gtcbmuf.alignment.preparation import Text
from gtcbmuf.alignment.viterbi import best_path
from gtcbmuf.data.corpus import SPLITS, Corpus, Split
from gtcbmuf.mpi.job import agree


@dataclass(frozen=True)
class Aligned:
    """An aligned utterance.

    Attributes:
        name: its name.
        path: state of each frame, (T,).
        targets: target of each frame, (T,) uint16.
        score: mean over the frames of the score of the path, less that of the best target.
    """

    name: str
    path: NDArray[np.int64]
    targets: NDArray[np.uint16]
    score: float


def realign(
    world: MPI.Comm, model: Path, corpus: Corpus, texts: Mapping[str, Text]
) -> list[Aligned]:
    """Align all utterances of a corpus. Collective.

    Returns:
        The utterances in the order of the corpus on rank 0, and nothing on the others.

    Raises:
        CollectiveError: the model cannot be read. Raised on all ranks alike.
    """
    saved = agree(world, lambda: load_model(model))
    network, prior = saved.build(BATCH), log_prior(saved.target_counts)
    mine: list[tuple[int, Aligned]] = []
    splits = {name: corpus.split(name) for name in SPLITS}
    scorers = {
        name: UtteranceScores(network, saved.vector, split, corpus.target_count)
        for name, split in splits.items()
    }
    for position, (name, number) in enumerate(_utterances(splits)):
        if position % world.size != world.rank:
            continue
        utterance = splits[name].names[number]
        scores = scorers[name].scores(number) - prior
        graph = texts[utterance].graph
        path, total = best_path(graph, scores)
        score = (total - float(scores.max(axis=1).sum())) / len(scores)
        targets = graph.targets[path].astype(np.uint16)
        mine.append((position, Aligned(utterance, path, targets, score)))
    parts = world.gather(mine) or []
    return [aligned for _, aligned in sorted((pair for part in parts for pair in part), key=_first)]


def _utterances(splits: Mapping[str, Split]) -> Iterator[tuple[str, int]]:
    for name, split in splits.items():
        for number in range(len(split.ends)):
            yield name, number


def _first(pair: tuple[int, Aligned]) -> int:
    return pair[0]
