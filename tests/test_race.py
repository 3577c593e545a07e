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
    assert math.isinf(module.seconds_to(49, epochs))


def test_a_race_is_tuned_run_and_tabulated_once(
    module: ModuleType, trained: list[Any], tmp_path: Path
) -> None:
    race = module.Race(tmp_path)
    race.race("small-1", ["none", "1gbit"])
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
    again.race("small-1", ["none", "1gbit"])
    assert len(trained) == number
    assert str(again.rows) == str(race.rows)
    again.report("small-1")
    # Medians of three runs, with epochs of 4 s and 1 MB. 1 % more is reached 0.04 s earlier.
    here = module.machine()
    cells = cells_of(tmp_path / "small-1.md", here, "1gbit", "gtc")
    assert cells == ["0.0024", "3", "4", "4", "12", "12", "20", "20", "1"]
    # An epoch of 4 s has 12 steps: 3,000 frames, 64 for each of four workers in a step.
    assert cells_of(tmp_path / "small-1-steps.md", here, "1gbit", "gtc") == ["333", "500", "+50"]
    ratios = cells_of(tmp_path / "small-1-ratios.md", "1gbit", "our best / best rival")
    assert ratios == ["1.00 (1.00 to 1.00)"] * 6
    assert (tmp_path / "small-1.png").stat().st_size > 1000


def cells_of(file: Path, *first: str) -> list[str]:
    """Return the cells of a table's row after the first ones, which name it."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in file.read_text().splitlines()
    ]
    [cells] = [cells for cells in rows if cells[: len(first)] == list(first)]
    return cells[len(first) :]


def test_a_goal_that_one_side_misses_makes_a_bound(module: ModuleType) -> None:
    def run(seconds: float, fer: float) -> list[list[dict[str, float]]]:
        return [[{"seconds": seconds, "fer_valid": fer}]]

    runs = {
        ("1gbit", "gtc"): run(10, 50),
        ("1gbit", "gtc-bmuf"): run(12, 50),
        ("1gbit", "sync-sgd"): run(30, 70),
        ("1gbit", "PyTorch DDP"): run(40, 70),
    }

    def ratios(*rounds: Any) -> dict[str, str]:
        lines = module.tabulate_ratios({"a": 60}, rounds).splitlines()[2:]
        return {line.split("|")[2].strip(): line.split("|")[3].strip() for line in lines}

    assert ratios(runs) == {
        "our best / best rival": "< 0.25",
        "gtc-bmuf / our best": "1.20",
        "gtc-bmuf / best rival": "< 0.30",
        "sync-sgd / PyTorch DDP": "-",
        "the same, 16 bits": "-",
    }
    # Another round, on a machine of half the speed, in which the rival reaches the goal.
    slow = {("1gbit", "gtc"): run(20, 50), ("1gbit", "PyTorch DDP"): run(60, 50)}
    assert ratios(runs, slow)["our best / best rival"] == "< 0.29 (0.25 to 0.33)"
    assert ratios(runs, slow)["gtc-bmuf / our best"] == "1.20"  # the second has no gtc-bmuf
    # A bound from above, and one from below.
    late = {("1gbit", "gtc"): run(90, 70), ("1gbit", "PyTorch DDP"): run(60, 50)}
    assert ratios(runs, late)["our best / best rival"] == "-"
    assert str(module.time_to(60, runs["1gbit", "sync-sgd"])) == "> 30"


def test_a_stopped_run_bounds_the_time_and_has_no_bytes(module: ModuleType) -> None:
    def run(link_bytes: int, *epochs: tuple[float, float]) -> list[dict[str, float]]:
        return [
            {"seconds": seconds, "fer_valid": fer, "link_bytes": link_bytes, "rate": 1e-3}
            for seconds, fer in epochs
        ]

    counted = [(30, 55), (60, 50)]
    runs = {("1gbit", "gtc"): [run(200_000_000, *counted), run(0, (300, 70))]}
    # One run took 30 s, the other more than 300.
    assert str(module.time_to(55, runs["1gbit", "gtc"])) == "> 165"
    table = module.tabulate({"a": 55}, {("here",): runs})
    assert table.splitlines()[-1].split("|")[-2].strip() == "100"


def test_only_heats_that_are_compared_need_one_processor(
    module: ModuleType, trained: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.Race(tmp_path).tune("small-1", "gtc")
    module.Race(tmp_path).run(module.Heat("small-1", "gtc", "none", 1e-3, 1), 1)
    monkeypatch.setattr(module, "machine", lambda: "another")
    race = module.Race(tmp_path)
    assert race.tune("small-1", "gtc")  # needs no further heat
    for number in (0, 1):
        heat = module.Heat("small-1", "bmuf", "none", 1e-3, number)
        with pytest.raises(module.UserError, match=f"run {number} was raced on .*; expected anoth"):
            race.run(heat, 1)
    assert race.run(module.Heat("small-1", "bmuf", "none", 1e-3, 2), 1)
    assert race.run(module.Heat("small-1", "bmuf", "1gbit", 1e-3, 1), 1)
    assert race.run(module.Heat("small-2", "bmuf", "none", 1e-3, 1), 1)


def test_each_processor_has_its_seconds_and_every_round_its_ratios(
    module: ModuleType, trained: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = module.Heat.train

    def train_slowly(heat: Any, epochs: int) -> tuple[list[dict[str, Any]], int]:
        lines, link_bytes = train(heat, epochs)
        return [line | {"seconds": 3 * line["seconds"]} for line in lines], link_bytes

    monkeypatch.setattr(module, "RUNS", 1)
    module.Race(tmp_path).race("small-1", ["none"])
    monkeypatch.setattr(module, "RUNS", 2)
    monkeypatch.setattr(module, "machine", lambda: "another")
    monkeypatch.setattr(module.Heat, "train", train_slowly)
    race = module.Race(tmp_path)
    race.race("small-1", ["none"])
    race.report("small-1")
    seconds = {heat.run: 1 + heat.run for heat in trained if heat.run}
    assert seconds == {1: 2, 2: 3}
    monkeypatch.undo()
    here = module.machine()
    assert cells_of(tmp_path / "small-1.md", here, "none", "gtc")[1:3] == ["1", "2"]
    assert cells_of(tmp_path / "small-1.md", "another", "none", "gtc")[1:3] == ["1", "9"]
    summary = tmp_path / "small-1-summary.md"
    assert cells_of(summary, "none", here)[0] == "10"
    assert cells_of(summary, "none", "another")[0] == "45"
    ratios = cells_of(tmp_path / "small-1-ratios.md", "none", "our best / best rival")
    assert ratios == ["1.00 (1.00 to 1.00)"] * 6
    steps = tmp_path / "small-1-steps.md"
    assert cells_of(steps, here, "none", "gtc")[:2] == ["167", "500"]
    assert cells_of(steps, "another", "none", "gtc")[:2] == ["750", "500"]


@pytest.mark.parametrize("script", ["exit 2", "nosuchprogram"])
def test_a_heat_that_cannot_start_is_no_result(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    command = ["bash", "-c", f"echo why >&2; {script}"]
    monkeypatch.setattr(module.Runner, "command", lambda *_: command)
    race = module.Race(tmp_path)
    with pytest.raises(module.UserError, match="one worker: "):
        race.tune("small-1", "one worker")
    assert not race.rows
    assert not (tmp_path / "race.csv").exists()


def test_without_one_worker_there_are_no_goals(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module.Runner, "command", lambda *_: ["false"])
    with pytest.raises(module.UserError, match="so there are no goals"):
        module.Race(tmp_path).goals("small-1")


def test_a_heat_that_takes_too_long_is_stopped(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_corpus(tmp_path / "corpus.h5")
    monkeypatch.setattr(module, "CORPUS", tmp_path / "corpus.h5")
    monkeypatch.setattr(module, "LIMIT", 0.2)
    assert module.Heat("small-1", "one worker", "none", 1e-3, 1).train(1) == ([], 0)
