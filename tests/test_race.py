"""scripts/race: its goals, its tuning and its table, with heats that are made up."""

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.scripts import load_script


@pytest.fixture(scope="module")
def module() -> ModuleType:
    return load_script("race")


@pytest.fixture
def trained(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Heats that were trained. Each epoch halves an error that is lowest at the rate 2.4e-3."""
    trained: list[Any] = []

    def train(heat: Any, epochs: int) -> tuple[list[dict[str, Any]], int]:
        trained.append(heat)
        if heat.runner == "PyTorch PowerSGD":
            return [], 0
        start = 64 + abs(math.log2(heat.rate / 2.4e-3))
        seconds = {"none": 1, "1gbit": 2, "100mbit": 3}[heat.link] + heat.run
        lines = [
            {"epoch": epoch, "seconds": seconds, "fer_valid": start / 2**epoch, "more": 0}
            for epoch in range(1, epochs + 1)
        ]
        return lines, 5_000_000

    monkeypatch.setattr(module.Heat, "train", train)
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
    module.plot(again, tmp_path / "race.png")
    assert (tmp_path / "race.png").stat().st_size > 1000
