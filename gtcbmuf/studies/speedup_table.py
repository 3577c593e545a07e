"""The speed-up table: measured here, modelled for a cluster, and the paper's figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gtcbmuf.base import tables
from gtcbmuf.base.files import write_csv, write_text, writing
from gtcbmuf.base.plotting import picture
from gtcbmuf.base.provenance import provenance
from gtcbmuf.bench import methods
from gtcbmuf.cluster.plan import Plan
from gtcbmuf.cluster.profile import Compute, Network
from gtcbmuf.studies import paper
from gtcbmuf.studies.measured_speed_ups import MeasuredSpeedUp, measure_or_read
from gtcbmuf.studies.paper_tables import format_paper_fit

_HEADERS = ("method", "workers", "measured", "modelled", "paper", "fit to the paper", "off %")


@dataclass(frozen=True)
class SpeedUpRow:
    """A row of the table: a method at a number of workers.

    Attributes:
        method: name of the method.
        workers: number of workers, N.
        group_size: workers in a group of the modelled method, M.
        measured: measured speed-up; None without a measurement.
        modelled: speed-up by `gtcbmuf.cluster.costs` on the given cluster.
        paper: the paper's speed-up; None if the paper has none.
        fitted: speed-up by the best of `gtcbmuf.studies.paper.fit_models`; None if the paper has
            none.
    """

    method: str
    workers: int
    group_size: int
    measured: MeasuredSpeedUp | None
    modelled: float
    paper: float | None
    fitted: float | None


def reproduce_speedup_table(
    compute: Compute, network: Network, cluster_name: str, folder: Path
) -> None:
    """Measure and model speed-ups, and write and print their table.

    The measurement has up to as many workers as this machine has cores. An earlier measurement
    with the same model and settings is not repeated.

    Args:
        compute, network: profile of the modelled cluster.
        cluster_name: names of the profile's files.
        folder: folder of the table.

    Raises:
        UserError: a measurement failed, or a file cannot be read or written.
    """
    plan = Plan(
        compute,
        network,
        parameters=methods.SHAPES[0].parameters,
        minibatch=methods.MINIBATCH,
        density=methods.DENSITY,
        period=methods.PERIOD,
    )
    rows = speedup_rows(plan, measure_or_read(folder / "speedup_table.csv", plan))
    write_speedup_table(rows, model_origin(plan, cluster_name), folder)
    print(f"{format_speedup_table(rows)}\n\n{format_paper_fit()}")


def model_origin(plan: Plan, cluster_name: str) -> dict[str, str]:
    """Return the origin of the modelled figures, as columns of the table.

    Args:
        plan: the model and the settings.
        cluster_name: names of the files of the cluster's profile.
    """
    return {
        "parameters": str(plan.parameters),
        "minibatch": str(plan.minibatch),
        "density": f"{plan.density:g}",
        "period": str(plan.period),
        "cluster": cluster_name,
        **provenance(),
    }


def speedup_rows(plan: Plan, measured: Mapping[paper.CellKey, MeasuredSpeedUp]) -> list[SpeedUpRow]:
    """Return the rows for the measured numbers of workers and for the paper's.

    Args:
        plan: the cluster, the model and the settings of the modelled speed-ups.
        measured: measured speed-ups of the same model.
    """
    fit, rows = paper.fit_models()[0], []
    counts = sorted({workers for _, workers in (*measured, *paper.SPEED_UPS)})
    for name in ("sync-sgd", *dict.fromkeys(name for name, _ in paper.SPEED_UPS)):
        for workers in counts:
            method, cell = plan.methods(workers).get(name), (name, workers)
            if method is None:
                continue
            rows.append(
                SpeedUpRow(
                    method=name,
                    workers=workers,
                    group_size=method.group_size,
                    measured=measured.get(cell),
                    modelled=plan.speed_up(method),
                    paper=paper.SPEED_UPS.get(cell),
                    fitted=fit.speed_up(cell) if cell in paper.SPEED_UPS else None,
                )
            )
    return rows


def format_speedup_table(rows: Sequence[SpeedUpRow]) -> str:
    """Format the table as Markdown."""
    return tables.markdown(_HEADERS, [_table_cells(row) for row in rows])


def format_speedup_latex(rows: Sequence[SpeedUpRow]) -> str:
    """Format the table as a LaTeX tabular."""
    return tables.latex(_HEADERS, [_table_cells(row) for row in rows])


def _table_cells(row: SpeedUpRow) -> list[str]:
    measured = row.measured.speed_up if row.measured else None
    numbers = (measured, row.modelled, row.paper, row.fitted)
    texts = ["" if number is None else f"{number:.3g}" for number in numbers]
    error = f"{100 * (row.fitted / row.paper - 1):+.0f}" if row.paper and row.fitted else ""
    return [row.method, str(row.workers), *texts, error]


def plot_speedup_table(rows: Sequence[SpeedUpRow], path: Path) -> None:
    """Plot speed-ups over workers: modelled ones as lines, measured and published as points.

    Raises:
        UserError: the picture cannot be written.
    """
    with picture(path, 7, 4.5) as axes:
        for number, method in enumerate(dict.fromkeys(row.method for row in rows)):
            of_method = [row for row in rows if row.method == method]
            colour = {"color": f"C{number}"}
            series: Sequence[tuple[str, dict[int, float], dict[str, str]]] = (
                ("modelled", {r.workers: r.modelled for r in of_method}, {"linestyle": "-"}),
                (
                    "measured",
                    {r.workers: r.measured.speed_up for r in of_method if r.measured},
                    {"linestyle": "", "marker": "o"},
                ),
                (
                    "paper",
                    {r.workers: r.paper for r in of_method if r.paper},
                    {"linestyle": "", "marker": "s", "fillstyle": "none"},
                ),
            )
            for source, speed_ups, style in series:
                if speed_ups:
                    points = [*speed_ups], [*speed_ups.values()]
                    axes.plot(*points, **colour, **style, label=f"{method}, {source}")
        ends = [min(row.workers for row in rows), max(row.workers for row in rows)]
        axes.plot(ends, ends, color="gray", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="speed-up over one worker")
        ticks = sorted({row.workers for row in rows})
        axes.set_xticks(ticks, map(str, ticks))
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)


def write_speedup_table(
    rows: Sequence[SpeedUpRow], origin: Mapping[str, str], folder: Path
) -> None:
    """Write speedup_table.csv, .md, .tex and .png.

    Args:
        rows: rows of the table.
        origin: origin of the modelled figures, from `model_origin`.
        folder: folder of the files.

    Raises:
        UserError: a file cannot be written.
    """
    lines = []
    for row in rows:
        line = {**vars(row), "measured": row.measured and row.measured.speed_up, **origin}
        line["measured_on"] = row.measured and row.measured.where
        lines.append({key: "" if value is None else value for key, value in line.items()})
    with writing(folder):
        write_csv(folder / "speedup_table.csv", lines)
        write_text(
            folder / "speedup_table.md",
            f"{format_speedup_table(rows)}\n\n{_format_origin(rows, origin)}\n",
        )
        write_text(folder / "speedup_table.tex", format_speedup_latex(rows) + "\n")
    plot_speedup_table(rows, folder / "speedup_table.png")


def _format_origin(rows: Sequence[SpeedUpRow], origin: Mapping[str, str]) -> str:
    """Format the line below the table, which names the origin of its figures."""
    places = dict.fromkeys(row.measured.where for row in rows if row.measured)
    measured = f"; measured: {'; '.join(places)}" if places else ""
    return (
        "{parameters} parameters, {minibatch} frames a worker and step, density {density}, period "
        "{period}. Modelled: {cluster}; `{command}`, {commit}".format_map(origin)
        + measured
        + "."
    )
