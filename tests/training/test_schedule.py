"""Learning rates against their definitions."""

from typing import Any

import pytest

from gtcbmuf.config.schema import TrainConfig
from gtcbmuf.training.schedule import Schedule


def rates(fers: list[float], **keys: Any) -> list[float]:
    """Return the rate of the first epoch and the rate after each valid FER."""
    schedule = Schedule(TrainConfig(**keys))
    result = [schedule.rate]
    for fer in fers:
        schedule.end_epoch(fer)
        result.append(schedule.rate)
    return result


def test_a_constant_rate_stays() -> None:
    assert rates([50, 60, 70], schedule="constant", learning_rate=0.25) == [0.25] * 4


def test_exponential_decays_after_every_epoch() -> None:
    actual = rates([50, 10, 60], schedule="exponential", learning_rate=8, decay=0.5)
    assert actual == [8, 4, 2, 1]


@pytest.mark.parametrize(
    ("fers", "expected"),
    [
        ([90, 80, 70, 60], [8, 8, 8, 8, 8]),  # a sufficient fall: no decay
        ([50, 50], [8, 8, 4]),  # no fall
        ([50, 60, 55], [8, 8, 4, 2]),  # a rise
        ([100, 99, 98.5], [8, 8, 8, 4]),  # 1 % is enough, 0.5 % is not
        ([50, 50, 20, 10, 5], [8, 8, 4, 2, 1, 0.5]),  # once started, the decay continues
        ([50, 40, 45, 30], [8, 8, 8, 4, 2]),  # a rise after a fall
        ([0, 0], [8, 8, 8]),
    ],
)
def test_newbob_decays_from_the_first_small_improvement(
    fers: list[float], expected: list[float]
) -> None:
    assert rates(fers, schedule="newbob", learning_rate=8, decay=0.5) == expected


@pytest.mark.parametrize("schedule", ["constant", "exponential", "newbob"])
def test_without_warm_up_an_epoch_has_one_rate(schedule: Any) -> None:
    of_step = Schedule(TrainConfig(schedule=schedule, learning_rate=0.125)).of_epoch(0, 10)
    assert [of_step(step) for step in range(10)] == [0.125] * 10


@pytest.mark.parametrize("warmup", [0.3, 1.0, 2.5])
def test_warm_up_rises_linearly_over_its_epochs(warmup: float) -> None:
    steps, rate = 10, 0.5
    schedule = Schedule(TrainConfig(schedule="constant", learning_rate=rate, warmup=warmup))
    actual = []
    for epoch in range(4):
        of_step = schedule.of_epoch(epoch, steps)
        actual += [of_step(step) for step in range(steps)]
        schedule.end_epoch(50)
    ramp = int(warmup * steps)
    expected = [rate * min(1, (k + 1) / ramp) for k in range(4 * steps)]
    assert actual == pytest.approx(expected, rel=1e-12)
    assert actual[ramp - 1 :] == [rate] * (4 * steps - ramp + 1)


def test_warm_up_and_decay_multiply() -> None:
    config = TrainConfig(schedule="exponential", learning_rate=1, decay=0.5, warmup=2)
    schedule = Schedule(config)
    assert [schedule.of_epoch(0, 4)(step) for step in range(4)] == [1 / 8, 2 / 8, 3 / 8, 4 / 8]
    schedule.end_epoch(50)
    assert [schedule.of_epoch(1, 4)(step) for step in range(4)] == [5 / 16, 6 / 16, 7 / 16, 8 / 16]


def test_the_rates_of_an_epoch_are_fixed_at_its_start() -> None:
    schedule = Schedule(TrainConfig(schedule="exponential", learning_rate=1, decay=0.5))
    of_step = schedule.of_epoch(0, 4)
    schedule.end_epoch(50)
    assert of_step(3) == 1
