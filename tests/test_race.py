"""scripts/race: its goals, its tuning and its table, with heats that are made up."""

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.corpora import write_corpus
from support.scripts import load_script

from gtcbmuf.cluster.costs import StepTime


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return load_script("race")


@pytest.fixture
def trained(module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Heats that were trained. Each epoch halves an error that is lowest at the rate 2.4e-3.

    A calibration gives the name of the link, and a prediction a step of 0.5 s.
    """
    trained: list[Any] = []

    def train(heat: Any, epochs: int) -> tuple[list[dict[str, Any]], int]:
        trained.append(heat)
        if heat.runner == "PyTorch PowerSGD":
            return [], 0
        start = 64 + abs(math.log2(heat.rate / 2.4e-3))
        seconds = {"none": 1, "1gbit": 2, "100mbit": 3}[heat.link] + heat.run
        lines = [
            {"epoch": epoch, "seconds": seconds, "fer_valid": start / 2**epoch, "density": 0.01}
            for epoch in range(1, epochs + 1)
        ]
        return lines, 5_000_000

    def predict_step(link: str, method: Any, hosts: int, *_: Any) -> StepTime:
        assert (method.workers, hosts) == (4, 4)
        assert method.exchange.kind != "gtc" or method.exchange.density == 0.01
        return StepTime(0.25, 0, 0, 0.25, 0, 0)

    monkeypatch.setattr(module.Heat, "train", train)
    monkeypatch.setattr(module, "calibrate", lambda out: None)
    monkeypatch.setattr(module, "calibrate_link", lambda out, link, alone: link)
    monkeypatch.setattr(module, "predict_step", predict_step)
    write_corpus(tmp_path / "corpus.h5")
    monkeypatch.setattr(module, "CORPUS", tmp_path / "corpus.h5")
    return trained


def test_seconds_to_a_goal_are_those_of_a_line_between_two_epochs(module: ModuleType) -> None:
    epochs = [{"seconds": 8, "fer_valid": 60}, {"seconds": 16, "fer_valid": 50}]
    assert module.seconds_to(55, epochs) == 12
    assert module.seconds_to(70, epochs) == 8  # nothing is known of the time before
    assert math.isnan(module.seconds_to(49, epochs))


def test_a_race_is_tuned_run_and_tabulated_once(
    module: ModuleType, trained: list[Any], tmp_path: Path
) -> None:
    race = module.Race(tmp_path)
    race.race(1, ["none", "1gbit"])
    rates = [heat.rate for heat in trained if heat.runner == "gtc" and heat.run == 0]
    assert rates == [1.2e-3, 2.4e-3, 3.6e-3]
    rates = [heat.rate for heat in trained if heat.runner == "sync-sgd" and heat.run == 0]
    assert rates == [0.8e-3, 1.6e-3, 2.4e-3]
    # A runner that cannot be tuned does not race. The others stop with the last goal.
    assert not [heat for heat in trained if heat.runner == "PyTorch PowerSGD" and heat.run]
    gtc = [
        row for row in race.rows if (row["runner"], row["run"], row["link"]) == ("gtc", 2, "1gbit")
    ]
    assert [row["epoch"] for row in gtc] == [1, 2, 3, 4, 5]
    assert [row["seconds"] for row in gtc] == [4, 8, 12, 16, 20]

    number = len(trained)
    again = module.Race(tmp_path)
    again.race(1, ["none", "1gbit"])
    assert len(trained) == number
    assert str(again.rows) == str(race.rows)
    [row] = [
        line for line in module.tabulate(again).splitlines() if "gtc " in line and "1gbit" in line
    ]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # Medians of three runs, with epochs of 4 s and 1 MB. 1 % more is reached 0.04 s earlier.
    assert cells == ["gtc", "1", "1gbit", "3", "4", "4", "12", "12", "20", "20", "1"]
    [row] = [
        line
        for line in module.tabulate_predictions(again).splitlines()
        if "gtc " in line and "1gbit" in line
    ]
    # An epoch of 4 s has 12 steps: 3,000 frames, 64 for each of four workers in a step.
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["gtc", "1", "1gbit", "333", "500", "+50"]
    module.plot(again, tmp_path / "race.png")
    assert (tmp_path / "race.png").stat().st_size > 1000


def test_a_heat_that_takes_too_long_is_stopped(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_corpus(tmp_path / "corpus.h5")
    monkeypatch.setattr(module, "CORPUS", tmp_path / "corpus.h5")
    monkeypatch.setattr(module, "LIMIT", 0.2)
    assert module.Heat("one worker", 0, "none", 1e-3, 1).train(1) == ([], 0)
