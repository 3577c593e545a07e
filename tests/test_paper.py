"""The model of the paper's cluster: the best there is, and sure of what it says it is sure of."""

from dataclasses import replace

import pytest

from gtcbmuf import paper

CELLS = tuple(paper.SPEED_UPS)


def test_no_other_costs_fit_better() -> None:
    best = paper.fit()
    least = best.off(CELLS)
    assert least < 0.1
    for name in ("compute", "link", "shared", "leader"):
        for factor in (0.98, 1.02):
            changed = replace(best, **{name: getattr(best, name) * factor})
            assert changed.off(CELLS) >= least
    for workers in best.group_sizes:
        for size in (2, 4, 8, 16, 32, 64):
            if size <= workers // 2:
                changed = replace(best, group_sizes={**best.group_sizes, workers: size})
                assert changed.off(CELLS) >= least - 1e-12


def test_costs_are_found_again_from_speed_ups_that_they_make(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true = paper.Fit(0.9, 0.002, 4e-4, 0.005, {32: 4, 64: 8, 128: 16})
    made = {cell: true.speed_up(cell) for cell in CELLS}
    monkeypatch.setattr(paper, "SPEED_UPS", made)
    found = paper.fit(CELLS)
    assert found.group_sizes == true.group_sizes
    for name in ("compute", "link", "shared", "leader"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=1e-6)


def test_a_step_is_the_sum_of_its_costs() -> None:
    one = paper.Fit(0.5, 0.01, 0.001, 0.02, {})
    assert one.step(64, 64) == pytest.approx(0.5 + 0.01 * 63 + 0.001 * 64 * 63)
    assert one.step(64, 1) == pytest.approx(0.5 + 0.02 * 63)
    assert one.step(64, 16) == pytest.approx(0.5 + 0.01 * 15 + 0.001 * 240 + 0.02 * 3)


def test_each_change_of_ours_is_no_slower_than_those_before() -> None:
    reached = [speed for _, speed in paper.with_ours(paper.fit(), 128, 12.4).values()]
    assert reached == sorted(reached)
    same = paper.with_ours(paper.fit(), 128, 32)
    assert same["the paper's"] == same["with our messages"]


def test_the_ranges_hold_the_fit() -> None:
    best = paper.fit()
    for name, (least, most) in paper.ranges().items():
        assert least <= getattr(best, name) <= most
