"""The trade-off of a study: measured error increases beside modelled speed-ups."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from gtcbmuf.acoustic.mlp import Architecture
from gtcbmuf.base import tables
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_csv, write_text, writing
from gtcbmuf.base.plotting import picture
from gtcbmuf.base.provenance import provenance
from gtcbmuf.cluster.costs import Method, step_time
from gtcbmuf.cluster.profile import Compute, Network
from gtcbmuf.config.schema import resolve_group_size
from gtcbmuf.data import features
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.data.synth import espeak
from gtcbmuf.studies import paper
from gtcbmuf.studies.error_table import error_rows
from gtcbmuf.studies.presets import Preset, RunSpec, error_table_runs, preset_names
from gtcbmuf.studies.results import Result, read_results

_HEADERS = ("method", "workers", "groups", "vs sgd %, measured", "speed-up, modelled")


@dataclass(frozen=True)
class TradeOffRow:
    """A row of the table: a method at a number of workers.

    Attributes:
        method: its name.
        workers: N.
        groups: G.
        increase: of the FER over that of sgd, in per cent; NaN if a run diverged.
        speed_up: over one worker, mean over the seeds; NaN if a run diverged.
    """

    method: str
    workers: int
    groups: int
    increase: float
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
    pairs = _match(error_table_runs(preset), read_results(file))
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
    plot_trade_off(rows, folder / "trade_off.png", with_paper=preset.name in preset_names())
    print(
        f"{format_trade_off(rows)}\n\n"
        f"Speed-ups are modelled, of {cluster_name}; nothing was measured for them."
    )


def _match(runs: Sequence[RunSpec], results: Sequence[Result]) -> list[tuple[RunSpec, Result]]:
    """Each result of one of the runs with that run; of equal results, the last."""
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
        diverged = math.isnan(result.fer_test)
        speed = (
            math.nan if diverged else model_speed_up(compute, network, run, result.density, *frame)
        )
        speeds.setdefault((result.method, result.workers), []).append(speed)
    return [
        TradeOffRow(
            row.method,
            row.workers,
            row.groups,
            row.increase,
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


def model_speed_up(
    compute: Compute,
    network: Network,
    run: RunSpec,
    density: float,
    feature_dim: int,
    targets: int,
) -> float:
    """Return the modelled speed-up over one worker of a run, with its own model and settings.

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
    single, step = (
        step_time(
            compute,
            network,
            of_method,
            parameters=network_shape.parameters,
            minibatch=config.train.minibatch,
        ).sum
        for of_method in (Method(1, 1), method)
    )
    return method.workers * single / step


def method_of(run: RunSpec, density: float) -> Method:
    """Return the method of a run for the cost model, with the density that the run measured."""
    config = run.config
    return Method(
        workers=run.workers,
        group_size=resolve_group_size(config, run.workers),
        exchange=config.exchange.with_keys(density=density),
        block_filter=config.block_filter,
    )


def format_trade_off(rows: Sequence[TradeOffRow]) -> str:
    """Return the table as Markdown."""
    cells = [
        [
            row.method,
            str(row.workers),
            str(row.groups),
            "-" if math.isnan(row.increase) else tables.signed(row.increase),
            "-" if math.isnan(row.speed_up) else f"{row.speed_up:.3g}",
        ]
        for row in rows
    ]
    return tables.markdown(_HEADERS, cells)


def plot_trade_off(rows: Sequence[TradeOffRow], path: Path, *, with_paper: bool) -> None:
    """Plot the error increase over the speed-up, with one curve per method.

    Args:
        rows: of the table.
        path: of the picture.
        with_paper: plot the paper's points, too.

    Raises:
        UserError: the picture cannot be written.
    """
    increases = {(row.method, row.workers): row.increase for row in rows}
    speeds = {(row.method, row.workers): row.speed_up for row in rows}
    methods = list(dict.fromkeys(row.method for row in rows))
    sources: list[tuple[str, Mapping[paper.CellKey, float], Mapping[paper.CellKey, float]]] = [
        ("errors measured, speed-ups modelled", increases, speeds)
    ]
    if with_paper:
        sources.append(("paper", paper.ERROR_INCREASES, paper.SPEED_UPS))
    with picture(path, 7, 4.5) as axes:
        for source, errors, speed_ups in sources:
            for number, method in enumerate(methods):
                cells = sorted(
                    cell
                    for cell, error in errors.items()
                    if cell[0] == method and not math.isnan(error + speed_ups[cell])
                )
                if not cells:
                    continue
                points = [speed_ups[cell] for cell in cells], [errors[cell] for cell in cells]
                style = {"linestyle": ":", "marker": "s", "fillstyle": "none"}
                if source != "paper":
                    style = {"linestyle": "-", "marker": "o", "fillstyle": "full"}
                axes.plot(*points, color=f"C{number}", **style, label=f"{method}, {source}")
                for (_, workers), x, y in zip(cells, *points, strict=True):
                    axes.annotate(f" {workers}", (x, y), fontsize=8)
        axes.axhline(0, color="gray", linewidth=0.8)
        axes.set(xlabel="speed-up over one worker", ylabel="increase of the error (%)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
