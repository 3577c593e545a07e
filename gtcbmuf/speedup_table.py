"""The paper's speed-up table: what was measured here, what a model says, and what the paper has."""

import itertools
import math
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gtcbmuf import bench, config, error_table, launcher, paper, results, tables
from gtcbmuf.bench import Figure, methods
from gtcbmuf.cluster import Compute, Network
from gtcbmuf.costs import Method, message_bytes
from gtcbmuf.drawing import drawn
from gtcbmuf.errors import UserError
from gtcbmuf.plan import Plan
from gtcbmuf.results import Result
from gtcbmuf.storage import write_csv, write_text

_HEADERS = ("method", "workers", "measured", "modelled", "paper", "fit to the paper", "off %")


@dataclass(frozen=True)
class Row:
    """A method at a number of workers.

    Attributes:
        measured: speed-up over one worker on this machine, with a core for each worker.
        modelled: by `gtcbmuf.costs` on the given cluster.
        group_size: M of the modelled one.
        paper: what the paper has.
        fitted: by `gtcbmuf.paper.fit`.
    """

    method: str
    workers: int
    group_size: int
    measured: float | None
    modelled: float
    paper: float | None
    fitted: float | None


def reproduce(compute: Compute, network: Network, folder: Path) -> None:
    """Measure what this machine has cores for, model the rest, and write the table.

    Args:
        compute, network: of the cluster that the model is for.
        folder: for the table; its error_table.csv gives the errors of the trade-off.

    Raises:
        UserError: a measurement failed, or the table cannot be written.
    """
    plan = Plan(
        compute,
        network,
        parameters=methods.SHAPES[0].parameters,
        minibatch=methods.MINIBATCH,
        density=methods.DENSITY,
        period=methods.PERIOD,
    )
    found = rows(plan, measured(len(os.sched_getaffinity(0))))
    errors = results.read(folder / "error_table.csv")
    write(found, errors, {cell(one): plan.speed_up(method_of(one)) for one in errors}, folder)
    print(table(found))


def cell(result: Result) -> paper.Cell:
    """Of a table."""
    return result.method, result.workers


def method_of(result: Result) -> Method:
    """What a run did in a step: its own group size, density and period."""
    words = shlex.split(result.command)
    given = [value for word, value in itertools.pairwise(words) if word == "--set"]
    chosen = config.load(result.method, given)
    return Method(
        workers=result.workers,
        group_size=result.workers // result.groups,
        density=result.density if chosen.exchange.kind == "gtc" else None,
        period=None if chosen.block_filter.kind == "none" else chosen.block_filter.period,
    )


def measured(most: int) -> list[Figure]:
    """Steps of every method on this machine, with 1, 2, 4, ... workers.

    Args:
        most: workers; the cores that there are.

    Raises:
        UserError: a measurement failed.
    """
    figures, workers = [], 1
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "steps.json"
        while workers <= most:
            words = [*launcher.mpirun(workers), launcher.program(), "bench", "methods"]
            environment = {**launcher.settings(), **os.environ}
            done = subprocess.run(
                [*words, "--json", str(out)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
            )
            if done.returncode:
                raise UserError(f"{' '.join(words)}: ended with status {done.returncode}")
            figures += bench.read(out)
            workers *= 2
    return figures


def rows(plan: Plan, measured: Sequence[Figure]) -> list[Row]:
    """The table's rows: numbers of workers that were measured, and those of the paper.

    Args:
        plan: of the cluster and the model that "modelled" is of.
        measured: by `gtcbmuf bench methods` with one worker and more, of that model.
    """
    facts = [(one.facts or {}, one.value) for one in measured]
    of_model = [(fact, value) for fact, value in facts if fact.get("parameters") == plan.parameters]
    alone = [value for fact, value in of_model if fact["workers"] == 1]
    steps = {(fact["method"], fact["workers"]): value for fact, value in of_model}
    fit = paper.fit()
    found = []
    numbers = sorted({w for _, w in steps if w > 1} | {w for _, w in paper.SPEED_UPS})
    for name in ("sync-sgd", "gtc", "bmuf", "gtc-bmuf"):
        for workers in numbers:
            method, its_cell = plan.methods(workers).get(name), (name, workers)
            if method is None:
                continue
            there = bool(alone) and its_cell in steps
            its = workers * alone[0] / steps[its_cell] if there else None
            known = its_cell in paper.SPEED_UPS
            found.append(
                Row(
                    method=name,
                    workers=workers,
                    group_size=method.group_size,
                    measured=its,
                    modelled=plan.speed_up(method),
                    paper=paper.SPEED_UPS[its_cell] if known else None,
                    fitted=fit.speed_up(its_cell) if known else None,
                )
            )
    return found


def of_the_paper() -> str:
    """Markdown: the fit to the paper's speed-ups, and what ours would make of its hybrid at 128."""
    fit, ranges = paper.fit(), paper.ranges()
    cells = []
    for its_cell, speed_up in paper.SPEED_UPS.items():
        fitted, size = fit.speed_up(its_cell), paper.group_size(its_cell, fit.group_sizes)
        off = f"{100 * (fitted / speed_up - 1):+.0f}"
        method, workers = its_cell
        cells.append((method, str(workers), str(size), f"{speed_up:g}", f"{fitted:.1f}", off))
    costs = [
        (name, f"{getattr(fit, name):.2g}", f"{least:.2g} to {most:.2g}")
        for name, (least, most) in ranges.items()
    ]
    n, density = 10_000_000, 0.001
    bits = 8 * message_bytes(n, density) / n / density
    sizes = (32, 16, 8)
    changed = [paper.with_ours(fit, 128, size, bits) for size in sizes]
    changes = [(what, *(f"{one[what]:.0f}" for one in changed)) for what in changed[0]]
    groups = [f"groups of {size}" for size in sizes]
    return "\n\n".join(
        [
            tables.markdown(("method", "workers", "group", "paper", "fitted", "off %"), cells),
            tables.markdown(("cost", "fitted", "without one cell"), costs),
            tables.markdown(("hybrid, 128 workers", *groups), changes),
        ]
    )


def table(found: Sequence[Row]) -> str:
    """As Markdown."""
    return tables.markdown(_HEADERS, [_cells(row) for row in found])


def latex(found: Sequence[Row]) -> str:
    """As a LaTeX tabular."""
    return tables.latex(_HEADERS, [_cells(row) for row in found])


def _cells(row: Row) -> list[str]:
    numbers = (row.measured, row.modelled, row.paper, row.fitted)
    shown = ["" if number is None else f"{number:.3g}" for number in numbers]
    off = f"{100 * (row.fitted / row.paper - 1):+.0f}" if row.paper and row.fitted else ""
    return [row.method, str(row.workers), *shown, off]


def plot(found: Sequence[Row], path: Path) -> None:
    """Speed-ups over workers: modelled as lines, measured and the paper's as points.

    Raises:
        UserError: it cannot be drawn to that place.
    """
    with drawn(path, 7, 4.5) as axes:
        for number, method in enumerate(dict.fromkeys(row.method for row in found)):
            ours = [row for row in found if row.method == method]
            colour = {"color": f"C{number}"}
            for what, style in (
                ("modelled", {"linestyle": "-"}),
                ("measured", {"linestyle": "", "marker": "o"}),
                ("paper", {"linestyle": "", "marker": "s", "fillstyle": "none"}),
            ):
                chosen = [row for row in ours if getattr(row, what) is not None]
                workers, values = [r.workers for r in chosen], [getattr(r, what) for r in chosen]
                if chosen:
                    axes.plot(workers, values, **colour, **style, label=f"{method}, {what}")
        ends = [min(row.workers for row in found), max(row.workers for row in found)]
        axes.plot(ends, ends, color="gray", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="speed-up over one worker")
        ticks = sorted({row.workers for row in found})
        axes.set_xticks(ticks, map(str, ticks))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)


def trade_off(errors: Sequence[Result], speed_ups: Mapping[paper.Cell, float], path: Path) -> None:
    """Increase of the error over speed-up, a curve for each method; the paper's beside ours.

    Args:
        errors: measured.
        speed_ups: of the same cells, modelled.
        path: of the picture.

    Raises:
        UserError: it cannot be drawn to that place.
    """
    ours = {(row.method, row.workers): row.increase for row in error_table.rows(errors)}
    with drawn(path, 7, 4.5) as axes:
        sources: Sequence[tuple[str, Mapping[paper.Cell, float], Mapping[paper.Cell, float]]] = (
            ("errors measured, speed-ups modelled", ours, speed_ups),
            ("paper", paper.ERROR_INCREASES, paper.SPEED_UPS),
        )
        for which, increases, fast in sources:
            for number, method in enumerate(("sync-sgd", "gtc", "bmuf", "gtc-bmuf")):
                cells = sorted(
                    cell
                    for cell, value in increases.items()
                    if cell[0] == method and cell in fast and not math.isnan(value)
                )
                if not cells:
                    continue
                points = [fast[cell] for cell in cells], [increases[cell] for cell in cells]
                style = {"linestyle": ":", "marker": "s", "fillstyle": "none"}
                if which != "paper":
                    style = {"linestyle": "-", "marker": "o", "fillstyle": "full"}
                axes.plot(*points, color=f"C{number}", **style, label=f"{method}, {which}")
                for (_, workers), x, y in zip(cells, *points, strict=True):
                    axes.annotate(f" {workers}", (x, y), fontsize=8)
        axes.axhline(0, color="gray", linewidth=0.8)
        axes.set(xlabel="speed-up over one worker", ylabel="increase of the error (%)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)


def write(
    found: Sequence[Row],
    errors: Sequence[Result],
    speed_ups: Mapping[paper.Cell, float],
    folder: Path,
) -> None:
    """Write speedup_table.csv, .md, .tex and .png, and trade_off.png.

    Args:
        found: the table's rows.
        errors: runs of an error table.
        speed_ups: modelled ones of its cells.
        folder: to write to.

    Raises:
        UserError: they cannot be written.
    """
    lines = [
        {key: "" if value is None else value for key, value in vars(row).items()} for row in found
    ]
    try:
        write_csv(folder / "speedup_table.csv", lines)
        for name, text in (("md", table(found)), ("tex", latex(found))):
            write_text(folder / f"speedup_table.{name}", text + "\n")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to: {error.strerror}") from None
    plot(found, folder / "speedup_table.png")
    trade_off(errors, speed_ups, folder / "trade_off.png")
