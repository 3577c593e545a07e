"""The paper's error table from results: CSV, Markdown, LaTeX and a picture."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import mean, stdev

import msgspec

from gtcbmuf.base import tables
from gtcbmuf.base.files import write_csv, write_text, writing
from gtcbmuf.base.plotting import picture
from gtcbmuf.studies.paper import ERROR_FELL, ERROR_INCREASES, CellKey
from gtcbmuf.studies.results import Result, read_results

_HEADERS = ("method", "workers", "groups", "seeds", "FER %", "PER %", "vs sgd %")


@dataclass(frozen=True)
class ErrorRow:
    """A row of the table: a method at a number of workers, over its seeds.

    Attributes:
        method: its name.
        workers: N.
        groups: G.
        seeds: number of runs.
        fer, per: means over the seeds on the test set, in per cent; NaN if a run diverged.
        increase: of the mean FER, relative to that of sgd, in per cent. It is 0 for sgd, and NaN
            if sgd diverged or has no errors.
        deviation: standard deviation of `increase` between single runs, from the samples of the
            method and of sgd. None if either has a single seed or a diverged run.
        paper: the paper's increase as text; empty if the paper has none, or for other runs than
            those after the paper.
    """

    method: str
    workers: int
    groups: int
    seeds: int
    fer: float
    per: float
    increase: float
    deviation: float | None
    paper: str


def error_rows(results: Sequence[Result], *, with_paper: bool = True) -> list[ErrorRow]:
    """Return the rows by first occurrence of the method, then by workers; none without sgd.

    Args:
        results: the runs.
        with_paper: set the paper's increases beside ours.
    """
    cells: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        cells.setdefault((result.method, result.workers), []).append(result)
    reference = [result.fer_test for result in results if result.method == "sgd"]
    if not reference:
        return []
    methods = list(dict.fromkeys(method for method, _ in cells))
    return [
        _row(cells[method, workers], reference, with_paper)
        for method, workers in sorted(cells, key=lambda cell: (methods.index(cell[0]), cell[1]))
    ]


def _row(results: Sequence[Result], reference: Sequence[float], with_paper: bool) -> ErrorRow:
    """The row of a cell's results; `reference` has the FERs of sgd."""
    first, fers = results[0], [result.fer_test for result in results]
    fer_sgd = mean(reference) or math.nan  # no increase relative to an FER of 0
    ratio, deviation = mean(fers) / fer_sgd, None
    fer_deviation, sgd_deviation = deviation_of(fers), deviation_of(reference)
    if fer_deviation is not None and sgd_deviation is not None and first.method != "sgd":
        deviation = 100 * math.hypot(fer_deviation / fer_sgd, ratio * sgd_deviation / fer_sgd)
    return ErrorRow(
        method=first.method,
        workers=first.workers,
        groups=first.groups,
        seeds=len(results),
        fer=mean(fers),
        per=mean(result.per_test for result in results),
        increase=100 * (ratio - 1),
        deviation=deviation,
        paper=_paper_increase((first.method, first.workers)) if with_paper else "",
    )


def _paper_increase(cell: CellKey) -> str:
    if cell == ERROR_FELL:
        return "fell"
    return tables.signed(ERROR_INCREASES[cell]) if cell in ERROR_INCREASES else ""


def deviation_of(rates: Sequence[float]) -> float | None:
    """Return the sample standard deviation; None for a single rate, or if a run diverged."""
    return stdev(rates) if len(rates) > 1 and not any(map(math.isnan, rates)) else None


def format_increase(
    increase: float, deviation: float | None, seeds: int, plus_minus: str = "±"
) -> str:
    """Format an error increase with its deviation. A cell of one seed says so.

    Examples:
        >>> format_increase(-0.56, 0.59, seeds=3), format_increase(0.7, None, seeds=1)
        ('-0.6 ± 0.6', '+0.7 (1 seed)')
    """
    text = tables.signed(increase)
    if deviation is not None:
        return f"{text} {plus_minus} {deviation:.1f}"
    return f"{text} (1 seed)" if seeds == 1 else text


def format_error_table(rows: Sequence[ErrorRow]) -> str:
    """Return the table as Markdown. It has the paper's column if a row has the paper's increase."""
    return tables.markdown(*_table(rows, "±"))


def format_error_latex(rows: Sequence[ErrorRow]) -> str:
    """Return the same table as a LaTeX tabular."""
    return tables.latex(*_table(rows, r"$\pm$"))


def _table(rows: Sequence[ErrorRow], plus_minus: str) -> tuple[Sequence[str], list[list[str]]]:
    """The headers and the cells."""
    cells = [_table_cells(row, plus_minus) for row in rows]
    if not has_paper(rows):
        return _HEADERS, cells
    columns = zip(cells, rows, strict=True)
    return (*_HEADERS, "paper %"), [[*of_row, row.paper] for of_row, row in columns]


def has_paper(rows: Iterable[ErrorRow]) -> bool:
    """Whether a row has the paper's increase."""
    return any(row.paper for row in rows)


def _table_cells(row: ErrorRow, plus_minus: str) -> list[str]:
    increase = format_increase(row.increase, row.deviation, row.seeds, plus_minus)
    if math.isnan(row.fer):
        increase = "diverged"
    elif row.method == "sgd" or math.isnan(row.increase):
        increase = ""
    numbers = [str(number) for number in (row.workers, row.groups, row.seeds)]
    per = "-" if math.isnan(row.per) else f"{row.per:.2f}"  # a corpus of pdf-ids has no phones
    return [row.method, *numbers, f"{row.fer:.2f}", per, increase]


def plot_error_table(rows: Sequence[ErrorRow], path: Path) -> None:
    """Plot the error increase over workers, with one line per method.

    The paper's points are beside them if a row has the paper's increase.

    Raises:
        UserError: the picture cannot be written.
    """
    with_paper = has_paper(rows)
    with picture(path, 7, 4.5) as axes:
        methods = [m for m in dict.fromkeys(row.method for row in rows) if m != "sgd"]
        for number, (method, marker) in enumerate(zip(methods, cycle("osD^vP"), strict=False)):
            of_method = [row for row in rows if row.method == method]
            axes.errorbar(
                [row.workers for row in of_method],
                [row.increase for row in of_method],
                [row.deviation or 0 for row in of_method],
                color=f"C{number}",
                marker=marker,
                capsize=3,
                label=method,
            )
            paper_points = [
                (workers, increase)
                for (name, workers), increase in ERROR_INCREASES.items()
                if name == method and with_paper
            ]
            if paper_points:
                axes.plot(
                    *zip(*paper_points, strict=True),
                    color=f"C{number}",
                    marker=marker,
                    markerfacecolor="none",
                    linestyle=":",
                    label=f"{method}, paper",
                )
        axes.axhline(0, color="gray", linewidth=0.8)
        axes.set(xscale="log", xlabel="workers", ylabel="increase of the error over one worker (%)")
        axes.minorticks_off()
        workers = {row.workers for row in rows if row.method != "sgd"}
        ticks = sorted(workers | {workers for _, workers in ERROR_INCREASES if with_paper})
        axes.set_xticks(ticks, map(str, ticks))
        axes.grid(alpha=0.3)
        if len(methods) > 6:  # a list of many would cover the lines
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=7)
        else:
            axes.legend()


def write_error_table(results: Sequence[Result], folder: Path, *, with_paper: bool = True) -> str:
    """Write error_table.csv (one row per run), .md, .tex and .png; no file without sgd.

    Rows of other runs stay in the CSV file.

    Args:
        results: the runs.
        folder: of the files.
        with_paper: set the paper's increases beside ours.

    Returns:
        The table as Markdown.

    Raises:
        UserError: a file cannot be read or written.
    """
    rows = error_rows(results, with_paper=with_paper)
    if not rows:
        return format_error_table(rows)
    columns = {(row.method, row.workers): _columns(row, with_paper) for row in rows}
    lines = [
        {**msgspec.structs.asdict(result), **columns[result.method, result.workers]}
        for result in results
    ]
    runs = {result.identity for result in results}
    empty = dict.fromkeys(_columns(rows[0], with_paper), "")
    for result in read_results(folder / "error_table.csv"):
        if result.identity not in runs:
            lines.append({**msgspec.structs.asdict(result), **empty})
    with writing(folder):
        write_csv(folder / "error_table.csv", lines)
        for name, text in (
            ("md", format_error_table(rows)),
            ("tex", format_error_latex(rows)),
        ):
            write_text(folder / f"error_table.{name}", text + "\n")
    if any(row.method != "sgd" for row in rows):
        plot_error_table(rows, folder / "error_table.png")
    return format_error_table(rows)


def _columns(row: ErrorRow, with_paper: bool) -> dict[str, object]:
    """The columns of the CSV file that a cell's runs share."""
    deviation = "" if row.deviation is None else round(row.deviation, 3)
    ours = {"increase_mean": round(row.increase, 3), "increase_sd": deviation}
    return {**ours, **({"increase_paper": row.paper} if with_paper else {})}
