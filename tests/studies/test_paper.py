"""The model of the paper's cluster: the fit is optimal, and the predictions follow from it."""

from dataclasses import replace

import pytest

from gtcbmuf.cluster.coded_sums import message_size
from gtcbmuf.methods.declaration import Rounded
from gtcbmuf.studies import paper

CELLS = tuple(paper.SPEED_UPS)


def test_no_other_costs_fit_better() -> None:
    best = paper.fit_models()[0]
    least = best.rms_error(CELLS)
    assert least < 0.1
    for name in ("compute", "link", "shared", "leader"):
        for factor in (0.98, 1.02):
            changed = replace(best, **{name: getattr(best, name) * factor})
            assert changed.rms_error(CELLS) >= least
    for workers in best.group_sizes:
        for size in (2, 4, 8, 16, 32, 64):
            if size <= workers // 2:
                changed = replace(best, group_sizes={**best.group_sizes, workers: size})
                assert changed.rms_error(CELLS) >= least - 1e-12


def test_the_fit_recovers_costs_from_modelled_speed_ups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = paper.Fit(0.9, 0.002, 4e-4, 0.005, {32: 4, 64: 8, 128: 16})
    speed_ups = {cell: model.speed_up(cell) for cell in CELLS}
    monkeypatch.setattr(paper, "SPEED_UPS", speed_ups)
    fit = paper.fit_models(CELLS)[0]
    assert fit.group_sizes == model.group_sizes
    for name in ("compute", "link", "shared", "leader"):
        assert getattr(fit, name) == pytest.approx(getattr(model, name), rel=1e-6)


def test_a_step_is_the_sum_of_its_costs() -> None:
    fit = paper.Fit(0.5, 0.01, 0.001, 0.02, {})
    assert fit.step(64, 64) == pytest.approx(0.5 + 0.01 * 63 + 0.001 * 64 * 63)
    assert fit.step(64, 1) == pytest.approx(0.5 + 0.02 * 63)
    assert fit.step(64, 16) == pytest.approx(0.5 + 0.01 * 15 + 0.001 * 240 + 0.02 * 3)


@pytest.mark.parametrize("group_size", [2, 8, 32, 64])
def test_each_change_of_this_package_is_no_slower_than_those_before(group_size: int) -> None:
    best = paper.fit_models()[0]
    speed_ups = list(paper.improved_speed_ups(best, 128, group_size, 12.4).values())
    assert speed_ups == sorted(speed_ups)
    assert speed_ups[0] == pytest.approx(128 / best.step(128, group_size))
    with_long_messages = paper.improved_speed_ups(best, 128, group_size, 32)
    assert with_long_messages["the paper's"] == with_long_messages["with our messages"]


def test_the_costs_of_the_best_fit_are_in_the_range_of_the_partial_fits() -> None:
    fits, partial_fits = paper.fit_models(), paper.fit_without_each_cell()
    errors = [fit.rms_error(CELLS) for fit in fits]
    assert errors == sorted(errors)
    assert len(partial_fits) == len(CELLS)
    for name in ("compute", "link", "shared", "leader"):
        values = [getattr(fit, name) for fit in partial_fits]
        assert min(values) <= getattr(fits[0], name) <= max(values)


def test_an_extrapolated_hybrid_has_its_fastest_group_size() -> None:
    fit = paper.Fit(0.9, 0.002, 4e-4, 0.005, {})
    speed_ups = paper.extrapolate(fit, 100, bits=16)
    assert speed_ups["gtc"] == pytest.approx(100 / fit.step(100, 100))
    assert speed_ups["bmuf"] == pytest.approx(100 / fit.step(100, 1))
    sizes = (2, 4, 5, 10, 20, 25, 50)
    assert speed_ups["gtc-bmuf"] == pytest.approx(max(100 / fit.step(100, m) for m in sizes))
    steps = [0.9 + fit.exchange(m) / 2 + 0.005 * (100 / m - 1) for m in sizes]
    assert speed_ups["with our messages"] == pytest.approx(100 / min(steps))
    # A float has 32 bits. A change rounded to two deviations has 1.25, and a sum of all more.
    bits = {
        g: 8 * message_size(Rounded(0.5), g, paper.MODEL).bytes / paper.MODEL
        for g in (1, *(100 // m for m in sizes))
    }
    assert bits[1] == pytest.approx(1.25, abs=0.02)
    changes = {m: 0.005 * (1 - m / 100) * (bits[1] + bits[100 // m]) / 32 for m in sizes}
    steps = [0.9 + fit.exchange(m) / 2 + changes[m] for m in sizes]
    assert speed_ups["and coded block changes"] == pytest.approx(100 / min(steps))
