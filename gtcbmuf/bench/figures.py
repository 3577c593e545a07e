"""How near each part of a step is to what the machine can do.

Figures are ratios of times that were measured in one run, turn by turn, so that whatever else the
machine does falls on both sides alike. Each module but this one is a subcommand of
`gtcbmuf bench`.
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
from gtcbmuf.base.files import write_json, write_text, writing
from gtcbmuf.base.provenance import environment
from gtcbmuf.base.tables import markdown


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        what: was measured.
        value: the median over the rounds.
        low, high: quartiles of the rounds.
        unit: of the value, such as "x residual += gradient".
        goal: the value that was aimed at, if there is one; less is better.
        facts: what it was measured of, for programs.
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
    """Seconds (rounds,) of each candidate, taken in turns, after a round that does not count.

    Args:
        candidates: what to call.
        rounds: how many calls of each.
        prepare: called before each, and not timed.
    """
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds + 1):
        for name, call in candidates.items():
            prepare()
            begin = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - begin)
    return {name: np.array(times[1:]) for name, times in taken.items()}


def figure(
    what: str,
    values: NDArray[np.float64],
    unit: str,
    goal: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Figure:
    """A figure from its value in each round."""
    low, value, high = np.percentile(values, [25, 50, 75])
    return Figure(what, float(value), float(low), float(high), unit, goal, facts)


def format_figures(figures: Sequence[Figure]) -> str:
    """A Markdown table of figures, with a row each."""
    rows = [
        (
            one.what,
            f"{one.value:.3g} {one.unit}",
            f"{one.low:.3g} to {one.high:.3g}",
            "-" if one.goal is None else f"{one.goal:g}",
        )
        for one in figures
    ]
    return markdown(("what", "median", "quartiles", "goal"), rows)


def write_figures(path: Path, figures: Sequence[Figure]) -> None:
    """Write figures, and the environment they were measured in, as JSON.

    Raises:
        UserError: the place cannot be written to.
    """
    whole = {"environment": environment(), "figures": [asdict(one) for one in figures]}
    with writing(path, "--json"):
        write_json(path, whole)


def insert_table(page: Path, part: str, figures: Sequence[Figure]) -> None:
    """Put the table of a part into a Markdown page, between its two marks, for the one before.

    Raises:
        UserError: the page cannot be read or written, or has no such marks.
    """
    first, last = f"<!-- bench {part} -->", f"<!-- end of bench {part} -->"
    with writing(page, "--page"):
        before, mark, rest = page.read_text(encoding="utf-8").partition(first)
        _, end, after = rest.partition(last)
        if not (mark and end):
            raise UserError(f"--page {page}: expected {first} and, later, {last}")
        write_text(page, f"{before}{first}\n{format_figures(figures)}\n{last}{after}")


def read_figures(path: Path) -> list[Figure]:
    """Read figures that `write` wrote.

    Raises:
        UserError: they cannot be read.
    """
    try:
        return [Figure(**one) for one in json.loads(path.read_text())["figures"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no figures of gtcbmuf bench: {error}") from None
