"""The paper's error table from finished runs: CSV, Markdown, LaTeX and a plot."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import msgspec

from gtcbmuf.base import tables
from gtcbmuf.base.files import write_csv, write_text, writing
from gtcbmuf.base.plotting import picture
from gtcbmuf.studies.paper import ERROR_FELL, ERROR_INCREASES
from gtcbmuf.studies.results import Result, read_results

_HEADERS = ("method", "workers", "groups", "seeds", "FER %", "PER %", "vs sgd %", "paper %")


@dataclass(frozen=True)
class Row:
    """A cell of the table: a method at a number of workers, over its seeds.

    Attributes:
        fer, per: means over the seeds, on test, in per cent.
        increase: of the mean FER over that of sgd, relative, in per cent; 0 for sgd itself, and not
            a number if sgd diverged or made no error.
        deviation: standard deviation of `increase` as a difference of single runs, from the
            samples of both; None with one seed of either, or one that diverged.
        paper: what the paper has.
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


def error_rows(results: Sequence[Result]) -> list[Row]:
    """The table's rows, in the order in which methods come, and by workers; none without sgd."""
    cells: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        cells.setdefault((result.method, result.workers), []).append(result)
    reference = [result.fer_test for result in results if result.method == "sgd"]
    if not reference:
        return []
    methods = list(dict.fromkeys(method for method, _ in cells))
    return [
        _row(cells[method, workers], reference)
        for method, workers in sorted(cells, key=lambda cell: (methods.index(cell[0]), cell[1]))
    ]


def _row(runs: Sequence[Result], reference: Sequence[float]) -> Row:
    first, fers = runs[0], [run.fer_test for run in runs]
    of_sgd = mean(reference) or math.nan  # over no errors there is no increase
    ratio, deviation = mean(fers) / of_sgd, None
    ours, its = deviation_of(fers), deviation_of(reference)
    if ours is not None and its is not None and first.method != "sgd":
        deviation = 100 * math.hypot(ours / of_sgd, ratio * its / of_sgd)
    cell = first.method, first.workers
    return Row(
        method=first.method,
        workers=first.workers,
        groups=first.groups,
        seeds=len(runs),
        fer=mean(fers),
        per=mean(run.per_test for run in runs),
        increase=100 * (ratio - 1),
        deviation=deviation,
        paper="fell"
        if cell == ERROR_FELL
        else tables.signed(ERROR_INCREASES[cell])
        if cell in ERROR_INCREASES
        else "",
    )


def deviation_of(rates: Sequence[float]) -> float | None:
    """Sample standard deviation of error rates; None of a single one, or if a run diverged."""
    return stdev(rates) if len(rates) > 1 and not any(map(math.isnan, rates)) else None


def format_error_table(table_rows: Iterable[Row]) -> str:
    """As Markdown."""
    return tables.markdown(_HEADERS, [_cells(row, "±") for row in table_rows])


def format_latex(table_rows: Iterable[Row]) -> str:
    """As a LaTeX tabular."""
    return tables.latex(_HEADERS, [_cells(row, r"$\pm$") for row in table_rows])


def _cells(row: Row, plus_minus: str) -> list[str]:
    increase = tables.signed(row.increase)
    if row.deviation is not None:
        increase += f" {plus_minus} {row.deviation:.1f}"
    if math.isnan(row.fer):
        increase = "diverged"
    elif row.method == "sgd" or math.isnan(row.increase):
        increase = ""
    numbers = [str(number) for number in (row.workers, row.groups, row.seeds)]
    per = "-" if math.isnan(row.per) else f"{row.per:.2f}"  # no phones are known of pdf-ids
    return [row.method, *numbers, f"{row.fer:.2f}", per, increase, row.paper]


def plot_error_table(table_rows: Sequence[Row], path: Path) -> None:
    """Relative error increase over workers, a line a method, the paper's points beside them.

    Raises:
        UserError: it cannot be drawn to that place.
    """
    with picture(path, 7, 4.5) as axes:
        methods = [m for m in dict.fromkeys(row.method for row in table_rows) if m != "sgd"]
        for number, (method, marker) in enumerate(zip(methods, "osD^vP", strict=False)):
            ours = [row for row in table_rows if row.method == method]
            axes.errorbar(
                [row.workers for row in ours],
                [row.increase for row in ours],
                [row.deviation or 0 for row in ours],
                color=f"C{number}",
                marker=marker,
                capsize=3,
                label=method,
            )
            theirs = [
                (workers, value)
                for (name, workers), value in ERROR_INCREASES.items()
                if name == method
            ]
            if theirs:
                axes.plot(
                    *zip(*theirs, strict=True),
                    color=f"C{number}",
                    marker=marker,
                    markerfacecolor="none",
                    linestyle=":",
                    label=f"{method}, paper",
                )
        axes.axhline(0, color="gray", linewidth=0.8)
        axes.set(xscale="log", xlabel="workers", ylabel="increase of the error over one worker (%)")
        axes.minorticks_off()
        workers = sorted({row.workers for row in table_rows if row.method != "sgd"} | {32, 64, 128})
        axes.set_xticks(workers, map(str, workers))
        axes.grid(alpha=0.3)
        axes.legend()


def write_error_table(results: Sequence[Result], folder: Path) -> str:
    """Write error_table.csv (a row a run), .md, .tex and .png; nothing without a run of sgd.

    Rows of other runs stay in the CSV file.

    Returns:
        The table as Markdown.

    Raises:
        UserError: they cannot be written.
    """
    table_rows = error_rows(results)
    if not table_rows:
        return format_error_table(table_rows)
    by_cell = {(row.method, row.workers): row for row in table_rows}
    lines = []
    for result in results:
        row = by_cell[result.method, result.workers]
        added = {
            "increase_mean": round(row.increase, 3),
            "increase_sd": "" if row.deviation is None else round(row.deviation, 3),
            "increase_paper": row.paper,
        }
        lines.append({**msgspec.structs.asdict(result), **added})
    shown = {result.run for result in results}
    nothing = dict.fromkeys(("increase_mean", "increase_sd", "increase_paper"), "")
    for result in read_results(folder / "error_table.csv"):
        if result.run not in shown:
            lines.append({**msgspec.structs.asdict(result), **nothing})
    with writing(folder):
        write_csv(folder / "error_table.csv", lines)
        for name, text in (
            ("md", format_error_table(table_rows)),
            ("tex", format_latex(table_rows)),
        ):
            write_text(folder / f"error_table.{name}", text + "\n")
    if any(row.method != "sgd" for row in table_rows):
        plot_error_table(table_rows, folder / "error_table.png")
    return format_error_table(table_rows)
