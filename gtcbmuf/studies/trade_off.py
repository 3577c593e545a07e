"""The trade-off of a study: measured error increases beside modelled speed-ups."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gtcbmuf.acoustic.mlp import Architecture
from gtcbmuf.base import tables
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_csv, write_text, writing
from gtcbmuf.base.plotting import pictures
from gtcbmuf.base.provenance import provenance
from gtcbmuf.cluster.costs import Method, link_bytes, step_time
from gtcbmuf.cluster.profile import Compute, Network
from gtcbmuf.config.schema import resolve_group_size
from gtcbmuf.data import features
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.data.synth import espeak
from gtcbmuf.studies import paper
from gtcbmuf.studies.error_table import error_rows, format_increase
from gtcbmuf.studies.presets import Preset, RunSpec, error_table_runs
from gtcbmuf.studies.results import Result, read_results

_HEADERS = ("method", "workers", "groups", "vs sgd %, measured", "speed-up, modelled")


@dataclass(frozen=True)
class TradeOffRow:
    """A row of the table: a method at a number of workers.

    Attributes:
        method: its name.
        workers: N.
        groups: G.
        seeds: number of runs.
        increase: of the FER over that of sgd, in per cent; NaN if a run diverged.
        deviation: standard deviation of `increase` between single runs, as in `ErrorRow`.
        speed_up: over one worker, mean over the seeds; NaN if a run diverged.
    """

    method: str
    workers: int
    groups: int
    seeds: int
    increase: float
    deviation: float | None
    speed_up: float


def reproduce_trade_off(
    preset: Preset, compute: Compute, network: Network, cluster_name: str, folder: Path
) -> None:
    """Write trade_off.csv, .md and .png from an error table, and print the table.

    Args:
        preset: of the error table.
        compute, network: the cluster of the model.
        cluster_name: its files.
        folder: of error_table.csv.

    Raises:
        UserError: there is no error table, or a file cannot be read or written.
    """
    file = folder / "error_table.csv"
    pairs = match(error_table_runs(preset), read_results(file))
    rows = _trade_off_rows(pairs, compute, network, frame_sizes(preset))
    if not rows:
        raise UserError(
            f"{file}: no such file, or no run of sgd and another method of "
            "this preset in it; make it with `gtcbmuf reproduce error-table`"
        )
    origin = {"cluster": cluster_name, **provenance()}
    with writing(folder):
        lines = [{**asdict(row), **origin} for row in rows]
        write_csv(folder / "trade_off.csv", lines)
        write_text(folder / "trade_off.md", format_trade_off(rows) + "\n")
    plot_trade_off(rows, folder / "trade_off.png", with_paper=preset.is_shipped)
    print(
        f"{format_trade_off(rows)}\n\n"
        f"Speed-ups are modelled, of {cluster_name}; nothing was measured for them."
    )


def match(runs: Sequence[RunSpec], results: Sequence[Result]) -> list[tuple[RunSpec, Result]]:
    """Return each result of one of the runs with that run; of equal results, the last."""
    pairs = {
        (result.method, result.workers, result.seed): (run, result)
        for run in runs
        for result in results
        if run.matches(result)
    }
    return list(pairs.values())


def _trade_off_rows(
    pairs: Sequence[tuple[RunSpec, Result]],
    compute: Compute,
    network: Network,
    frame: tuple[int, int],
) -> list[TradeOffRow]:
    """The rows of the table, without sgd's."""
    speeds: dict[paper.CellKey, list[float]] = {}
    for run, result in pairs:
        costs = result_costs(compute, network, run, result, frame)
        speeds.setdefault((result.method, result.workers), []).append(costs.speed_up)
    return [
        TradeOffRow(
            row.method,
            row.workers,
            row.groups,
            row.seeds,
            row.increase,
            row.deviation,
            fmean(speeds[row.method, row.workers]),
        )
        for row in error_rows([result for _, result in pairs])
        if row.method != "sgd"
    ]


def frame_sizes(preset: Preset) -> tuple[int, int]:
    """Return the features of a frame and the number of targets of a preset's corpus.

    Raises:
        UserError: the corpus file cannot be read.
    """
    if preset.synthesis:
        return features.DIM, features.STATES * len(espeak.PHONES)
    corpus = open_corpus(preset.corpus)
    return corpus.feature_dim, corpus.target_count


@dataclass(frozen=True)
class RunCosts:
    """What the steps of a run cost, by the cost model.

    Attributes:
        speed_up: over one worker.
        step_seconds: mean seconds of a step, over all epochs.
        worker_bytes: mean bytes of a worker that leave its host in a step.
    """

    speed_up: float
    step_seconds: float
    worker_bytes: float


def result_costs(
    compute: Compute, network: Network, run: RunSpec, result: Result, frame: tuple[int, int]
) -> RunCosts:
    """Return the modelled costs of a run with this result; NaN if it diverged.

    Args:
        compute, network, run: as in `run_costs`.
        result: of the run.
        frame: features of a frame, and number of targets.
    """
    if math.isnan(result.fer_test):
        return RunCosts(math.nan, math.nan, math.nan)
    return run_costs(compute, network, run, result.density, *frame)


def run_costs(
    compute: Compute,
    network: Network,
    run: RunSpec,
    density: float,
    feature_dim: int,
    targets: int,
) -> RunCosts:
    """Return the modelled costs of a run, with its own model and settings.

    Args:
        compute, network: the cluster.
        run: the run.
        density: that it measured.
        feature_dim: features of a frame.
        targets: number of targets.
    """
    config, method = run.config, method_of(run, density)
    inputs = (2 * config.model.context + 1) * feature_dim
    network_shape = Architecture((inputs, *config.model.hidden, targets), config.model.activation)
    shapes, minibatch = network_shape.shapes, config.train.minibatch
    block_filter, per_host = config.block_filter, network.workers_per_host

    def seconds(of_method: Method) -> float:
        return step_time(compute, network, of_method, shapes=shapes, minibatch=minibatch).sum

    periods = [block_filter.period_of(epoch) for epoch in range(config.train.epochs)]
    methods = [
        replace(method, block_filter=block_filter.with_keys(period=period)) for period in periods
    ]
    step = fmean(map(seconds, methods))
    of_host = fmean(link_bytes(of_epoch, shapes, per_host) for of_epoch in methods)
    return RunCosts(
        speed_up=method.workers * seconds(Method(1, 1)) / step,
        step_seconds=step,
        worker_bytes=of_host / min(method.workers, per_host),
    )


def method_of(run: RunSpec, density: float) -> Method:
    """Return the method of a run for the cost model, with the density that the run measured."""
    config = run.config
    return Method(
        workers=run.workers,
        group_size=resolve_group_size(config, run.workers),
        exchange=config.exchange.with_keys(density=density),
        block_filter=config.block_filter,
        optimizer_passes=config.train.optimizer_passes,
    )


def format_trade_off(rows: Sequence[TradeOffRow]) -> str:
    """Return the table as Markdown."""
    cells = [
        [
            row.method,
            str(row.workers),
            str(row.groups),
            "-"
            if math.isnan(row.increase)
            else format_increase(row.increase, row.deviation, row.seeds),
            "-" if math.isnan(row.speed_up) else f"{row.speed_up:.3g}",
        ]
        for row in rows
    ]
    return tables.markdown(_HEADERS, cells)


def plot_trade_off(rows: Sequence[TradeOffRow], path: Path, *, with_paper: bool) -> None:
    """Plot the error increase over the speed-up: a panel for our rows, one for the paper's.

    A marker holds the number of workers. It is hollow where a cell has one seed. Bars are standard
    deviations between single runs.

    Args:
        rows: of the table.
        path: of the picture.
        with_paper: draw the paper's panel, too.

    Raises:
        UserError: the picture cannot be written.
    """
    ours = [
        _Point(row.method, row.workers, row.speed_up, row.increase, row.seeds == 1, row.deviation)
        for row in rows
        if not math.isnan(row.increase + row.speed_up)
    ]
    panels = [("measured errors, modelled speed-ups", ours)]
    if with_paper:
        cells = paper.ERROR_INCREASES.items()
        points = [_Point(*cell, paper.SPEED_UPS[cell], error) for cell, error in cells]
        panels.append(("the paper, both measured (LSTMs, 2,000 hours)", points))
    methods = list(dict.fromkeys(row.method for row in rows))
    with pictures(path, 5 * len(panels), 4.5, len(panels)) as all_axes:
        for axes, (title, points) in zip(all_axes, panels, strict=True):
            for number, method in enumerate(methods):
                _draw_curve(axes, [point for point in points if point.method == method], number)
            axes.axhline(0, color="gray", linewidth=0.8, zorder=0)
            axes.set_title(title, fontsize=10)
            axes.set(xlabel="speed-up over one worker")
            axes.grid(alpha=0.25)
        all_axes[0].set_xscale("log", base=2)
        if any(points for _, points in panels):
            low, high = all_axes[0].get_xlim()
            all_axes[0].set_xlim(low, 2 * high)  # room for the names
        all_axes[0].xaxis.set_major_formatter("{x:g}")
        all_axes[0].set_ylabel("increase of the error over one worker (%)")


@dataclass(frozen=True)
class _Point:
    """A marker of the picture; fields as in `TradeOffRow`."""

    method: str
    workers: int
    speed_up: float
    increase: float
    hollow: bool = False
    deviation: float | None = None


def _draw_curve(axes: Any, points: Sequence[_Point], number: int) -> None:
    """Draw a method's markers, its curve and, at the last marker, its name."""
    color = f"C{number}"
    axes.plot(
        [point.speed_up for point in points],
        [point.increase for point in points],
        color=color,
        linewidth=1,
        alpha=0.6,
    )
    for point in points:
        axes.errorbar(
            point.speed_up,
            point.increase,
            point.deviation,
            color=color,
            capsize=3,
            marker="o",
            markersize=14,
            markerfacecolor="white" if point.hollow else color,
        )
        axes.annotate(
            str(point.workers),
            (point.speed_up, point.increase),
            ha="center",
            va="center",
            fontsize=6.5,
            color=color if point.hollow else "white",
        )
    if points:
        axes.annotate(
            points[-1].method,
            (points[-1].speed_up, points[-1].increase),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            color=color,
            weight="bold",
            fontsize=9,
        )
