"""Markdown tables of the studies tuning and choices."""

import math
from collections.abc import Sequence
from statistics import mean

from gtcbmuf.base.tables import markdown, signed
from gtcbmuf.studies.error_table import deviation_of
from gtcbmuf.studies.presets import Preset, tuning_runs_of
from gtcbmuf.studies.results import Result


def format_choices(chosen: Preset, found: Sequence[Result]) -> str:
    """A Markdown table of the choices that have results: valid FERs, and against the first.

    The first of a cell is shown with all its settings, the others with what they have instead.
    """
    rows = []
    for cell in chosen.choices:
        jobs = [chosen.job(cell, settings) for settings in cell.tried]
        rates = [[result.fer_valid for result in found if job.made(result)] for job in jobs]
        for settings, errors in zip(cell.tried, rates, strict=True):
            if not errors:
                continue
            deviation, first = deviation_of(errors), mean(rates[0] or [0])
            different = [word for word in settings if word not in cell.tried[0]]
            rows.append(
                [
                    ", ".join(different or settings),
                    cell.name,
                    str(len(errors)),
                    f"{mean(errors):.2f}" + ("" if deviation is None else f" ± {deviation:.2f}"),
                    signed(100 * (mean(errors) / first - 1)) if first else "",
                ]
            )
    return markdown(("choice", "cell", "seeds", "valid FER %", "vs first %"), rows)


def format_tuning(chosen: Preset, found: Sequence[Result]) -> str:
    """A Markdown table of the settings that have results: valid FERs, and the best of a cell."""
    rows = []
    for cell in chosen.cells:
        rates = {
            number: result.fer_valid
            for number, job in enumerate(tuning_runs_of(chosen, cell))
            for result in found
            if job.made(result)
        }
        best = min((rate for rate in rates.values() if not math.isnan(rate)), default=math.nan)
        for number, rate in rates.items():
            shown = "diverged" if math.isnan(rate) else f"{rate:.2f}"
            mark = "best" if rate == best else ""
            rows.append([", ".join(cell.tried[number]), cell.name, str(number), shown, mark])
    return markdown(("settings", "cell", "number", "valid FER %", ""), rows)
