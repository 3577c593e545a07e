"""Markdown tables of the studies tuning and choices, which compare settings."""

import math
from collections.abc import Sequence
from statistics import mean

from gtcbmuf.base.tables import markdown, signed
from gtcbmuf.studies.error_table import deviation_of
from gtcbmuf.studies.presets import Preset, tuning_runs_of
from gtcbmuf.studies.results import Result


def format_choices(preset: Preset, results: Sequence[Result]) -> str:
    """Format the choices with results, each compared with the first choice of its cell.

    The first row of a cell lists all settings. The other rows list only different settings.
    """
    rows = []
    for cell in preset.choices:
        runs = [preset.run_spec(cell, settings) for settings in cell.tried]
        rates = [[result.fer_valid for result in results if run.matches(result)] for run in runs]
        for settings, errors in zip(cell.tried, rates, strict=True):
            if not errors:
                continue
            first, diverged = mean(rates[0] or [0]), math.isnan(mean(errors))
            differences = [setting for setting in settings if setting not in cell.tried[0]]
            rows.append(
                [
                    ", ".join(differences or settings),
                    cell.name,
                    str(len(errors)),
                    "diverged" if diverged else _mean_error(errors),
                    "" if diverged or not first > 0 else signed(100 * (mean(errors) / first - 1)),
                ]
            )
    return markdown(("choice", "cell", "seeds", "valid FER %", "vs first %"), rows)


def _mean_error(errors: Sequence[float]) -> str:
    """Format the mean of several seeds, with the deviation between them."""
    deviation = deviation_of(errors)
    return f"{mean(errors):.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")


def format_tuning(preset: Preset, results: Sequence[Result]) -> str:
    """Format the tuning settings with results. The table marks the best one of each cell."""
    rows = []
    for cell in preset.cells:
        rates = {
            number: result.fer_valid
            for number, run in enumerate(tuning_runs_of(preset, cell))
            for result in results
            if result.identity == run.identity
        }
        best = min((rate for rate in rates.values() if not math.isnan(rate)), default=math.nan)
        for number, rate in rates.items():
            error = "diverged" if math.isnan(rate) else f"{rate:.2f}"
            mark = "best" if rate == best else ""
            rows.append([", ".join(cell.tried[number]), cell.name, str(number), error, mark])
    return markdown(("settings", "cell", "number", "valid FER %", ""), rows)
