"""The estimate of the memory of workers that share ranks."""

from types import SimpleNamespace
from typing import Any

import pytest

from gtcbmuf.config.schema import Config, TrainConfig
from gtcbmuf.training.construction import RunPlan
from gtcbmuf.training.memory import bytes_of_workers

PARAMETERS = 1_000_000


def estimate(optimizer: Any, workers: int, ranks: int, group_size: int) -> float:
    comm: Any = SimpleNamespace(size=ranks)
    corpus: Any = SimpleNamespace(train=range(6400), feature_dim=40)
    config = Config(train=TrainConfig(optimizer=optimizer))
    return bytes_of_workers(RunPlan(comm, workers, "", config, group_size), PARAMETERS, corpus)


@pytest.mark.parametrize(
    ("workers", "ranks", "group_size"), [(8, 1, 8), (8, 2, 8), (8, 1, 2), (8, 2, 4), (6, 2, 2)]
)
def test_the_workers_of_a_group_on_a_rank_share_the_moments(
    workers: int, ranks: int, group_size: int
) -> None:
    places = {(w * ranks // workers, w // group_size) for w in range(workers)}
    sgd, adamw = (estimate(name, workers, ranks, group_size) for name in ("sgd", "adamw"))
    assert adamw - sgd == pytest.approx(2 * 4 * PARAMETERS * len(places))
