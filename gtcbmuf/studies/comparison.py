"""The comparison of all methods at one number of workers: errors, bytes, speed-ups, time.

Errors are measured. Bytes, speed-ups and times come from the cost model, for each network.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gtcbmuf.base import tables
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_csv, write_text, writing
from gtcbmuf.base.plotting import pictures
from gtcbmuf.base.provenance import provenance
from gtcbmuf.cluster.profile import Compute, Network
from gtcbmuf.studies.error_table import error_rows, format_increase
from gtcbmuf.studies.presets import Preset, RunSpec, error_table_runs
from gtcbmuf.studies.results import Result, read_results
from gtcbmuf.studies.trade_off import RunCosts, frame_sizes, match, result_costs

#: Relative increase of the error, in per cent, up to which a method has reached that of one worker.
REACHED = 1.0


@dataclass(frozen=True)
class ComparisonRow:
    """A row of the comparison: a method on a network.

    Attributes:
        method: its name.
        workers, groups: N and G.
        seeds: number of runs.
        network: name of the network.
        fer, per: means over the seeds on the test set, in per cent.
        increase: of the mean FER over that of sgd, in per cent.
        deviation: standard deviation of `increase` between single runs, as in `ErrorRow`.
        bytes: bytes of a worker that leave its host in a step, modelled.
        speed_up: over one worker, modelled.
        seconds: of the whole training, modelled.
        on_front: whether no other method has at most its error in at most its seconds.
    """

    method: str
    workers: int
    groups: int
    seeds: int
    network: str
    fer: float
    per: float
    increase: float
    deviation: float | None
    bytes: float
    speed_up: float
    seconds: float
    on_front: bool


def reproduce_comparison(
    preset: Preset,
    compute: Compute,
    networks: Mapping[str, Network],
    cluster_name: str,
    folder: Path,
) -> None:
    """Write comparison.csv, .md, .tex and .png from an error table, and print the table.

    Args:
        preset: of the error table.
        compute: processor of the model.
        networks: networks of the model, by name.
        cluster_name: files of the model.
        folder: of error_table.csv.

    Raises:
        UserError: there is no error table, or a file cannot be read or written.
    """
    file = folder / "error_table.csv"
    pairs = match(error_table_runs(preset), read_results(file))
    frame = frame_sizes(preset)
    rows = [
        row
        for name, network in networks.items()
        for row in _rows_of(pairs, name, compute, network, frame)
    ]
    if not any(row.method != "sgd" for row in rows):
        raise UserError(
            f"{file}: no such file, or no run of sgd and another method of "
            "this preset in it; make it with `gtcbmuf reproduce error-table`"
        )
    origin = {"cluster": cluster_name, **provenance()}
    table = _table(rows)
    with writing(folder):
        write_csv(folder / "comparison.csv", [{**asdict(row), **origin} for row in rows])
        write_text(folder / "comparison.md", tables.markdown(*table) + "\n")
        write_text(folder / "comparison.tex", tables.latex(*table) + "\n")
    plot_comparison(rows, folder / "comparison.png")
    print(
        f"{tables.markdown(*table)}\n\n"
        "* no method has a lower error in less time\n"
        f"Bytes, speed-ups and seconds are modelled, of {cluster_name}; nothing was measured for "
        "them."
    )


def _rows_of(
    pairs: Sequence[tuple[RunSpec, Result]],
    name: str,
    compute: Compute,
    network: Network,
    frame: tuple[int, int],
) -> list[ComparisonRow]:
    """The rows of a network, in the order of their errors."""
    costs: dict[tuple[str, int], list[RunCosts]] = {}
    seconds: dict[tuple[str, int], list[float]] = {}
    for run, result in pairs:
        cell = result.method, result.workers
        costs_of_run = result_costs(compute, network, run, result, frame)
        costs.setdefault(cell, []).append(costs_of_run)
        seconds.setdefault(cell, []).append(result.steps * costs_of_run.step_seconds)
    rows = [
        ComparisonRow(
            method=row.method,
            workers=row.workers,
            groups=row.groups,
            seeds=row.seeds,
            network=name,
            fer=row.fer,
            per=row.per,
            increase=row.increase,
            deviation=row.deviation,
            bytes=fmean(cost.worker_bytes for cost in costs[row.method, row.workers]),
            speed_up=fmean(cost.speed_up for cost in costs[row.method, row.workers]),
            seconds=fmean(seconds[row.method, row.workers]),
            on_front=False,
        )
        for row in error_rows([result for _, result in pairs], with_paper=False)
    ]
    rows.sort(key=lambda row: (math.isnan(row.fer), row.fer))
    front = pareto_front([(row.seconds, row.fer) for row in rows])
    return [replace(row, on_front=is_best) for row, is_best in zip(rows, front, strict=True)]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return for each point whether no other is at most as large in both numbers, and not equal.

    Examples:
        >>> pareto_front([(1, 5), (2, 4), (3, 4), (9, 1)])
        [True, True, False, True]
    """
    return [
        not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points if not math.isnan(b))
        and not math.isnan(y)
        for x, y in points
    ]


def _table(rows: Sequence[ComparisonRow]) -> tuple[Sequence[str], list[list[str]]]:
    """The headers and the cells: a row of each method, with columns of each network."""
    networks = list(dict.fromkeys(row.network for row in rows))
    by_cell = {(row.method, row.workers, row.network): row for row in rows}
    headers = ["method", "workers", "groups", "seeds", "FER %", "PER %", "vs sgd %"]
    headers.append("kB a worker and step")
    for name in networks:
        headers += [f"speed-up, {name}", f"s to sgd's error, {name}"]
    lines = []
    for row in rows:
        if row.network != networks[0]:
            continue
        has_diverged = math.isnan(row.fer)
        per = "-" if math.isnan(row.per) else f"{row.per:.2f}"
        increase = format_increase(row.increase, row.deviation, row.seeds)
        cells = [row.method, *map(str, (row.workers, row.groups, row.seeds))]
        cells += [
            "diverged" if has_diverged else f"{row.fer:.2f}",
            per,
            "" if row.method == "sgd" else "-" if math.isnan(row.increase) else increase,
            "-" if has_diverged else f"{row.bytes / 1e3:.3g}",
        ]
        for name in networks:
            there = by_cell[row.method, row.workers, name]
            seconds = f"{there.seconds:.3g}" if row.increase <= REACHED else "-"
            mark = " *" if there.on_front else ""
            speed_up = "-" if has_diverged else f"{there.speed_up:.3g}"
            cells += [speed_up, seconds + mark]
        lines.append(cells)
    return headers, lines


def plot_comparison(rows: Sequence[ComparisonRow], path: Path) -> None:
    """Plot the error increase over the speed-up, a panel for each network, with the front.

    Raises:
        UserError: the picture cannot be written.
    """
    networks = list(dict.fromkeys(row.network for row in rows))
    methods = sorted({row.method for row in rows} - {"sgd"})
    largest = 2 * max((row.increase for row in rows if not math.isnan(row.increase)), default=0)
    with pictures(path, 5.5 * len(networks), 5, len(networks)) as all_axes:
        names = []
        for axes, name in zip(all_axes, networks, strict=True):
            here = [row for row in rows if row.network == name and row.method != "sgd"]
            texts = []
            for row in here:
                color = f"C{methods.index(row.method) % 10}"
                axes.errorbar(
                    row.speed_up,
                    row.increase,
                    row.deviation,
                    color=color,
                    capsize=3,
                    marker="o",
                    markerfacecolor="white" if row.seeds == 1 else color,
                )
                texts.append(_write_name(axes, row, color))
            names.append(texts)
            front = sorted((row.speed_up, row.increase) for row in here if row.on_front)
            axes.plot(*zip(*front, strict=True), color="gray", linewidth=0.8, zorder=0)
            axes.axhline(0, color="gray", linewidth=0.8, linestyle=":", zorder=0)
            axes.set_title(f"{name}: measured errors, modelled speed-ups", fontsize=10)
            axes.set(xlabel="speed-up over one worker")
            axes.grid(alpha=0.25)
        _leave_room(all_axes)
        # Most methods are near one worker, and some are far away.
        all_axes[0].set_yscale("symlog", linthresh=2)
        all_axes[0].set_ylim(top=max(largest, 1))
        ticks = [tick for tick in (-5, -2, -1, 0, 1, 2, 5, 10, 20, 50, 100) if tick <= largest]
        all_axes[0].set_yticks(ticks, map(str, ticks))
        all_axes[0].set_ylabel("increase of the error over one worker (%)")
        all_axes[0].figure.draw_without_rendering()  # to know where the names are
        for texts in names:
            _move_apart(texts)


def _write_name(axes: Any, row: ComparisonRow, color: str) -> Any:
    """Write the name of a method beside its marker, with a line to it."""
    return axes.annotate(
        row.method,
        (row.speed_up, row.increase),
        xytext=(6, 3),
        textcoords="offset points",
        fontsize=7,
        color=color,
        arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.4},
    )


def _move_apart(texts: Sequence[Any]) -> None:
    """Move each name up until it covers no marker, and no name that begins lower."""
    from matplotlib.transforms import Bbox

    placed = []
    for text in texts:
        x, y = text.axes.transData.transform(text.xy)
        placed.append(Bbox.from_extents(x - 6, y - 6, x + 6, y + 6))
    for text in sorted(texts, key=lambda text: text.xy[1]):
        while any(_box(text).overlaps(box) for box in placed):
            right, up = text.xyann
            text.xyann = right, up + 1
        placed.append(_box(text))


def _box(annotation: Any) -> Any:
    """The box around the text of an annotation, without its line."""
    from matplotlib.text import Text

    return Text.get_window_extent(annotation)


def _leave_room(all_axes: Sequence[Any]) -> None:
    """Widen the axes for the names at their right."""
    low, high = all_axes[0].get_xlim()
    all_axes[0].set_xlim(low, high + 0.2 * (high - low))
