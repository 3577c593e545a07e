"""Frame errors against a loop over frames."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.corpora import write_corpus

from gtcbmuf.acoustic.mlp import MLP, Architecture, initial_parameters
from gtcbmuf.acoustic.posteriors import BATCH, FrameErrors
from gtcbmuf.data.corpus import Split, open_corpus
from gtcbmuf.data.minibatches import FrameReader

CONTEXT = 2
SHAPE = Architecture(((2 * CONTEXT + 1) * 8, 10, 12), "relu")


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """A split of 3,000 frames: more than BATCH, and not a multiple of it."""
    write_corpus(tmp_path / "corpus.h5")
    return open_corpus(tmp_path / "corpus.h5").train


def errors_one_by_one(split: Split, parameters: NDArray[np.float32]) -> list[bool]:
    reader, mlp = FrameReader(split, CONTEXT, 1), MLP(SHAPE, 1)
    wrong = []
    for frame in range(len(split)):
        inputs, targets = reader.gather(np.array([frame]))
        wrong.append(int(np.argmax(mlp.scores(parameters, inputs)[0])) != targets[0])
    return wrong


def test_every_worker_counts_the_errors_of_its_share(split: Split) -> None:
    parameters = initial_parameters(SHAPE, np.random.default_rng(0))
    wrong = errors_one_by_one(split, parameters)
    assert 0 < sum(wrong) < len(split)
    mlp = MLP(SHAPE, BATCH)
    for workers in (1, 2, 7):
        counts = [
            FrameErrors(split, CONTEXT, workers, rank).count(mlp, parameters)
            for rank in range(workers)
        ]
        ends = [len(split) * rank // workers for rank in range(workers + 1)]
        assert counts == [sum(wrong[a:b]) for a, b in pairwise(ends)]


def test_a_model_with_a_constant_output_is_wrong_on_all_other_targets(split: Split) -> None:
    parameters = np.zeros(SHAPE.parameters, np.float32)
    parameters[-12 + 5] = 1  # the bias of target 5
    errors = FrameErrors(split, CONTEXT, 1, 0).count(MLP(SHAPE, BATCH), parameters)
    assert errors == np.count_nonzero(split.targets != 5)


def test_more_workers_than_frames() -> None:
    split = Split(
        np.zeros((2, 8), np.float16), np.full(2, 11, np.uint16), np.array([2]), ("u",), ("s",)
    )
    # All scores are equal, so target 0 is taken.
    parameters = np.zeros(SHAPE.parameters, np.float32)
    mlp = MLP(SHAPE, BATCH)
    counts = [FrameErrors(split, CONTEXT, 5, rank).count(mlp, parameters) for rank in range(5)]
    assert sorted(counts) == [0, 0, 0, 1, 1]
