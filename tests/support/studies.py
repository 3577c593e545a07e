"""A preset and results of runs, for tests of the studies."""

from pathlib import Path

from gtcbmuf.studies.presets import Cell, Preset
from gtcbmuf.studies.results import Result
from gtcbmuf.studies.synthesis import Synthesis

PRESET = Preset(
    name="small",
    corpus=Path("corpus/small.h5"),
    synthesis=Synthesis("tiny", 0.1),
    digest="",
    common=["train.epochs=3"],
    tuning=["train.epochs=1"],
    cells=[
        Cell("sgd", 1, [["train.learning_rate=1e-3"], ["train.learning_rate=2e-3"]], 1, seeds=3),
        Cell("gtc", 8, [["exchange.tau=1"]], 0),
        Cell("bmuf", 8, [["block_filter.period=5"]]),  # not tuned yet
    ],
    choices=[Cell("gtc", 8, [["exchange.tau=1"], ["exchange.tau=1", "train.momentum=0.5"]])],
)


def result(
    method: str, workers: int, seed: int, fer: float, groups: int = 1, config: str = "0123abcd"
) -> Result:
    return Result(
        method=method,
        workers=workers,
        groups=groups,
        seed=seed,
        fer_valid=fer + 1,
        fer_test=fer,
        per_test=fer / 2,
        density=0.01,
        steps=100,
        seconds=12.5,
        config=config,
        commit="c0ffee",
        command=f"mpirun -n {workers} gtcbmuf train {method} --set 'model.hidden=[3, 4]'",
    )
