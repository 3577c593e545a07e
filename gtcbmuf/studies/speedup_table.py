"""The paper's speed-up table: what was measured here, what a model says, and what the paper has."""

import csv
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gtcbmuf.base import tables
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_csv, write_text, writing
from gtcbmuf.base.plotting import picture
from gtcbmuf.base.provenance import environment, provenance, short_commit
from gtcbmuf.bench import methods
from gtcbmuf.bench.figures import Figure, read_figures
from gtcbmuf.cluster.plan import Plan, pays_until
from gtcbmuf.cluster.profile import Compute, Network
from gtcbmuf.core.wire import expected_bytes
from gtcbmuf.methods.gtc import SLOT
from gtcbmuf.mpi import launcher
from gtcbmuf.studies import paper

_HEADERS = ("method", "workers", "measured", "modelled", "paper", "fit to the paper", "off %")


@dataclass(frozen=True)
class Measured:
    """A speed-up over one worker, on a machine with a core for each worker.

    Attributes:
        speed_up: of the median steps.
        where: the machine's kind of processor, and the commit.
    """

    speed_up: float
    where: str


@dataclass(frozen=True)
class Row:
    """A method at a number of workers.

    Attributes:
        measured: if it was.
        modelled: by `gtcbmuf.cluster.costs` on the given cluster.
        group_size: M of the modelled one.
        paper: what the paper has.
        fitted: by the best of `gtcbmuf.studies.paper.fits`.
    """

    method: str
    workers: int
    group_size: int
    measured: Measured | None
    modelled: float
    paper: float | None
    fitted: float | None


def reproduce_speedup_table(compute: Compute, network: Network, cluster: str, folder: Path) -> None:
    """Measure what this machine has cores for, model the rest, and write the table.

    What is in the table already, measured with the same model and settings, is not measured again.

    Args:
        compute, network: of the cluster that the model is for.
        cluster: the files that they are from.
        folder: for the table.

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
    cores, before = len(os.sched_getaffinity(0)), read_measured(folder / "speedup_table.csv", plan)
    if 2 * max((workers for _, workers in before), default=1) <= cores:
        before = speed_ups(measure(cores), plan.parameters, _here())
    found = speedup_rows(plan, before)
    write_speedup_table(found, origin(plan, cluster), folder)
    print(f"{format_speedup_table(found)}\n\n{format_paper_fit()}")


def origin(plan: Plan, cluster: str) -> dict[str, str]:
    """What the modelled figures are of, and how to make them again: columns of the table.

    Args:
        plan: that they are of.
        cluster: the files that it is from.
    """
    return {
        "parameters": str(plan.parameters),
        "minibatch": str(plan.minibatch),
        "density": f"{plan.density:g}",
        "period": str(plan.period),
        "cluster": cluster,
        **provenance(),
    }


def _here() -> str:
    """The processor and the commit of what is measured now."""
    here = environment()
    return f"{here['processor']}, {short_commit(here)}"


def read_measured(file: Path, plan: Plan) -> dict[paper.Cell, Measured]:
    """What a table that was written before has of measured speed-ups; none if there is no file.

    Args:
        file: speedup_table.csv.
        plan: of what they must have been measured with: model, minibatch, density and period.

    Raises:
        UserError: it is none of ours.
    """
    wanted = {key: f"{getattr(plan, key):g}" for key in ("minibatch", "density", "period")}
    wanted["parameters"] = str(plan.parameters)
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            return {
                (line["method"], int(line["workers"])): Measured(
                    float(line["measured"]), line["measured_on"]
                )
                for line in csv.DictReader(opened)
                if line["measured"] and all(line[key] == wanted[key] for key in wanted)
            }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(
            f"{file}: no speed-up table of ours: {error}; remove it to measure anew"
        ) from None


def measure(most: int) -> list[Figure]:
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
            figures += read_figures(out)
            workers *= 2
    return figures


def speed_ups(figures: Sequence[Figure], parameters: int, where: str) -> dict[paper.Cell, Measured]:
    """Measured speed-ups over one worker.

    Args:
        figures: of `gtcbmuf bench methods` with one worker and more.
        parameters: of the model that is wanted.
        where: they were measured.
    """
    facts = [(one.facts or {}, one.value) for one in figures]
    steps = {
        (fact["method"], fact["workers"]): value
        for fact, value in facts
        if fact.get("parameters") == parameters
    }
    return {
        its_cell: Measured(its_cell[1] * steps["sgd", 1] / value, where)
        for its_cell, value in steps.items()
        if its_cell[1] > 1
    }


def speedup_rows(plan: Plan, measured: Mapping[paper.Cell, Measured]) -> list[Row]:
    """The table's rows: numbers of workers that were measured, and those of the paper.

    Args:
        plan: of the cluster and the model that "modelled" is of.
        measured: of that model.
    """
    fit, found = paper.fit_models()[0], []
    numbers = sorted({workers for _, workers in (*measured, *paper.SPEED_UPS)})
    for name in ("sync-sgd", *dict.fromkeys(name for name, _ in paper.SPEED_UPS)):
        for workers in numbers:
            method, its_cell = plan.methods(workers).get(name), (name, workers)
            if method is None:
                continue
            known = its_cell in paper.SPEED_UPS
            found.append(
                Row(
                    method=name,
                    workers=workers,
                    group_size=method.group_size,
                    measured=measured.get(its_cell),
                    modelled=plan.speed_up(method),
                    paper=paper.SPEED_UPS[its_cell] if known else None,
                    fitted=fit.speed_up(its_cell) if known else None,
                )
            )
    return found


def format_paper_fit() -> str:
    """Markdown: fits to the paper's speed-ups, and what they would make of more, or of ours."""
    fits, others = paper.fit_models(), paper.without_one()
    fit = fits[0]
    cells = []
    for its_cell, theirs in paper.SPEED_UPS.items():
        fitted, size = fit.speed_up(its_cell), paper.group_size(its_cell, fit.group_sizes)
        off = f"{100 * (fitted / theirs - 1):+.0f}"
        method, workers = its_cell
        cells.append((method, str(workers), str(size), f"{theirs:g}", f"{fitted:.1f}", off))
    costs = []
    for name in ("compute", "link", "shared", "leader"):
        values = [getattr(one, name) for one in others]
        costs.append((name, f"{getattr(fit, name):.2g}", f"{min(values):.2g} to {max(values):.2g}"))
    choices = [
        (
            ", ".join(map(str, one.group_sizes.values())),
            f"{100 * one.off(list(paper.SPEED_UPS)):.1f}",
        )
        for one in fits[:4]
    ]
    n, density = 10_000_000, 0.001
    bits = 8 * SLOT * expected_bytes(n, density) / n / density
    sizes = (32, 16, 8)
    changed = [[paper.with_ours(one, 128, size, bits) for one in (fit, *others)] for size in sizes]
    changes = []
    for what in changed[0][0]:
        reached = [[one[what] for one in of_size] for of_size in changed]
        changes.append((what, *(f"{r[0]:.0f} ({min(r):.0f} to {max(r):.0f})" for r in reached)))
    groups = [f"groups of {size}" for size in sizes]
    numbers = [*(2**power for power in range(5, 14)), 10_000]
    further = {number: paper.beyond(fit, number, bits) for number in numbers}
    names = list(further[32])
    beyond = [(str(n), *(f"{by[name]:.3g}" for name in names)) for n, by in further.items()]
    paying = [str(pays_until({n: by[name] for n, by in further.items()})) for name in names]
    return "\n\n".join(
        [
            tables.markdown(("method", "workers", "group", "paper", "fitted", "off %"), cells),
            tables.markdown(("cost", "fitted", "without one cell"), costs),
            tables.markdown(
                ("hybrid's groups at 32, 64, 128", "off % (root of mean square)"), choices
            ),
            tables.markdown(("hybrid, 128 workers", *groups), changes),
            tables.markdown(("workers", *names), [*beyond, ("pays until", *paying)]),
        ]
    )


def format_speedup_table(found: Sequence[Row]) -> str:
    """As Markdown."""
    return tables.markdown(_HEADERS, [_cells(row) for row in found])


def format_latex(found: Sequence[Row]) -> str:
    """As a LaTeX tabular."""
    return tables.latex(_HEADERS, [_cells(row) for row in found])


def _cells(row: Row) -> list[str]:
    measured = row.measured.speed_up if row.measured else None
    numbers = (measured, row.modelled, row.paper, row.fitted)
    shown = ["" if number is None else f"{number:.3g}" for number in numbers]
    off = f"{100 * (row.fitted / row.paper - 1):+.0f}" if row.paper and row.fitted else ""
    return [row.method, str(row.workers), *shown, off]


def plot_speedup_table(found: Sequence[Row], path: Path) -> None:
    """Speed-ups over workers: modelled as lines, measured and the paper's as points.

    Raises:
        UserError: it cannot be drawn to that place.
    """
    with picture(path, 7, 4.5) as axes:
        for number, method in enumerate(dict.fromkeys(row.method for row in found)):
            ours = [row for row in found if row.method == method]
            colour = {"color": f"C{number}"}
            series: Sequence[tuple[str, dict[int, float], dict[str, str]]] = (
                ("modelled", {r.workers: r.modelled for r in ours}, {"linestyle": "-"}),
                (
                    "measured",
                    {r.workers: r.measured.speed_up for r in ours if r.measured},
                    {"linestyle": "", "marker": "o"},
                ),
                (
                    "paper",
                    {r.workers: r.paper for r in ours if r.paper},
                    {"linestyle": "", "marker": "s", "fillstyle": "none"},
                ),
            )
            for what, by, style in series:
                if by:
                    axes.plot([*by], [*by.values()], **colour, **style, label=f"{method}, {what}")
        ends = [min(row.workers for row in found), max(row.workers for row in found)]
        axes.plot(ends, ends, color="gray", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="speed-up over one worker")
        ticks = sorted({row.workers for row in found})
        axes.set_xticks(ticks, map(str, ticks))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)


def write_speedup_table(found: Sequence[Row], origin: Mapping[str, str], folder: Path) -> None:
    """Write speedup_table.csv, .md, .tex and .png.

    Args:
        found: the table's rows.
        origin: of what is modelled.
        folder: to write to.

    Raises:
        UserError: they cannot be written.
    """
    lines = []
    for row in found:
        line = {**vars(row), "measured": row.measured and row.measured.speed_up, **origin}
        line["measured_on"] = row.measured and row.measured.where
        lines.append({key: "" if value is None else value for key, value in line.items()})
    with writing(folder):
        write_csv(folder / "speedup_table.csv", lines)
        write_text(
            folder / "speedup_table.md",
            f"{format_speedup_table(found)}\n\n{format_origin(found, origin)}\n",
        )
        write_text(folder / "speedup_table.tex", format_latex(found) + "\n")
    plot_speedup_table(found, folder / "speedup_table.png")


def format_origin(found: Sequence[Row], origin: Mapping[str, str]) -> str:
    """A line below the table: where its figures come from."""
    places = dict.fromkeys(row.measured.where for row in found if row.measured)
    measured = f"; measured: {'; '.join(places)}" if places else ""
    return (
        "{parameters} parameters, {minibatch} frames a worker and step, density {density}, period "
        "{period}. Modelled: {cluster}; `{command}`, {commit}".format_map(origin)
        + measured
        + "."
    )
