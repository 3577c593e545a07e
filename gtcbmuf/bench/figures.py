"""Figures of a benchmark: how close a part of a step comes to the limits of the machine.

Most figures are ratios of two times. One run measures both in turns, so other load on the machine
affects both alike. Every other module of this package is a part of `gtcbmuf bench`. Its function
`measure` returns the figures.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_json, writing
from gtcbmuf.base.provenance import environment
from gtcbmuf.base.tables import markdown
from gtcbmuf.base.text import read_text


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        what: name of the quantity.
        value: median over the rounds.
        low, high: quartiles over the rounds.
        unit: unit of the value, such as "x residual += gradient".
        goal: value that the figure should not exceed; None without a goal.
        facts: settings of the measurement, for programs that read the JSON file.
    """

    what: str
    value: float
    low: float
    high: float
    unit: str
    goal: float | None = None
    facts: Mapping[str, Any] | None = None


def time_in_turns(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    prepare: Callable[[], object] = lambda: None,
) -> dict[str, NDArray[np.float64]]:
    """Time several functions in turns, after one warm-up round.

    Args:
        candidates: functions to call, by name.
        rounds: calls of each candidate.
        prepare: function to call before each candidate, outside the measured time.

    Returns:
        Seconds of each candidate, (rounds,) float64, by name.

    Examples:
        >>> time_in_turns({"sleep": lambda: time.sleep(1e-3)}, rounds=3)["sleep"].shape
        (3,)
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds + 1):
        for name, call in candidates.items():
            prepare()
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return {name: np.array(times[1:]) for name, times in seconds.items()}


def summarise(
    what: str,
    values: NDArray[np.float64],
    unit: str,
    goal: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Figure:
    """Summarise the values of all rounds as a figure.

    Args:
        what: name of the quantity.
        values: value of each round, (rounds,).
        unit: unit of the values.
        goal: as in `Figure`.
        facts: as in `Figure`.

    Examples:
        >>> summarise("step", np.array([1.0, 2.0, 4.0]), "s").value
        2.0
    """
    low, value, high = np.percentile(values, [25, 50, 75])
    return Figure(what, float(value), float(low), float(high), unit, goal, facts)


def format_figures(figures: Sequence[Figure]) -> str:
    """Format figures as a Markdown table, one row per figure."""
    rows = [
        (
            figure.what,
            f"{figure.value:.3g} {figure.unit}",
            f"{figure.low:.3g} to {figure.high:.3g}",
            "-" if figure.goal is None else f"{figure.goal:g}",
        )
        for figure in figures
    ]
    return markdown(("what", "median", "quartiles", "goal"), rows)


def write_figures(path: Path, figures: Sequence[Figure]) -> None:
    """Write figures and the environment of their measurement as JSON.

    Args:
        path: the JSON file.
        figures: the figures.

    Raises:
        UserError: the file cannot be written.
    """
    content = {
        "environment": environment(),
        "figures": [asdict(figure) for figure in figures],
    }
    with writing(path, "--json"):
        write_json(path, content)


def read_figures(path: Path) -> list[Figure]:
    """Read the figures that `write_figures` wrote.

    Raises:
        UserError: the file cannot be read, or is not a file of figures.
    """
    try:
        return [Figure(**fields) for fields in json.loads(read_text(path))["figures"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file of gtcbmuf bench --json: {error}") from None
