"""What a study's methods cost and buy: measured increases of the error, modelled speed-ups."""

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
from gtcbmuf.studies.results import read_results

_HEADERS = ("method", "workers", "groups", "vs sgd %, measured", "speed-up, modelled")


@dataclass(frozen=True)
class Row:
    """A cell of an error table.

    Attributes:
        increase: of the FER over that of sgd, in per cent; not a number if the cell diverged.
        speed_up: over one worker, a mean over the seeds.
    """

    method: str
    workers: int
    groups: int
    increase: float
    speed_up: float


def reproduce_trade_off(
    chosen: Preset, compute: Compute, network: Network, cluster: str, folder: Path
) -> None:
    """Write trade_off.csv, .md and .png of a preset's error table, and print the table.

    Args:
        chosen: the preset.
        compute, network: of the cluster that the model is for.
        cluster: the files that they are from.
        folder: that has error_table.csv.

    Raises:
        UserError: there is no error table, or a file cannot be read or written.
    """
    everything = read_results(folder / "error_table.csv")
    runs = {
        (run.method, run.workers, run.seed): (job, run)
        for job in error_table_runs(chosen)
        for run in everything
        if job.made(run)
    }
    frame = frame_of(chosen)
    speeds: dict[paper.Cell, list[float]] = {}
    for job, run in runs.values():
        diverged = math.isnan(run.fer_test)
        speed = math.nan if diverged else speed_up(compute, network, job, run.density, *frame)
        speeds.setdefault((run.method, run.workers), []).append(speed)
    found = [
        Row(
            row.method,
            row.workers,
            row.groups,
            row.increase,
            fmean(speeds[row.method, row.workers]),
        )
        for row in error_rows([run for _, run in runs.values()])
        if row.method != "sgd"
    ]
    if not found:
        raise UserError(
            f"{folder / 'error_table.csv'}: no such file, or no run of sgd and another method of "
            "this preset in it; make it with `gtcbmuf reproduce error-table`"
        )
    origin = {"cluster": cluster, **provenance()}
    with writing(folder):
        lines = [{**asdict(row), **origin} for row in found]
        write_csv(folder / "trade_off.csv", lines)
        write_text(folder / "trade_off.md", format_trade_off(found) + "\n")
    plot_trade_off(found, folder / "trade_off.png", beside_paper=chosen.name in preset_names())
    print(
        f"{format_trade_off(found)}\n\n"
        f"Speed-ups are modelled, of {cluster}; nothing was measured for them."
    )


def frame_of(chosen: Preset) -> tuple[int, int]:
    """A frame's number of features, and the number of targets, of a preset's corpus.

    Raises:
        UserError: a corpus that was given cannot be read.
    """
    if chosen.source:
        return features.DIM, features.STATES * len(espeak.PHONES)
    given = open_corpus(chosen.corpus)
    return given.feature_dim, given.target_count


def speed_up(
    compute: Compute,
    network: Network,
    run: RunSpec,
    density: float,
    feature_dim: int,
    targets: int,
) -> float:
    """Of a run over one worker, on a cluster, with its own model, minibatch and settings.

    Args:
        compute, network: of the cluster.
        run: which.
        density: that it had.
        feature_dim, targets: as `frame_of` its corpus.
    """
    config, method = run.config, method_of(run, density)
    inputs = (2 * config.model.context + 1) * feature_dim
    shape = Architecture((inputs, *config.model.hidden, targets), config.model.activation)
    steps = [
        step_time(
            compute, network, one, parameters=shape.parameters, minibatch=config.train.minibatch
        ).sum
        for one in (Method(1, 1), method)
    ]
    return method.workers * steps[0] / steps[1]


def method_of(run: RunSpec, density: float) -> Method:
    """What a run does in a step: its own exchange, at the density that it had, and filter."""
    config = run.config
    return Method(
        workers=run.workers,
        group_size=resolve_group_size(config, run.workers),
        exchange=config.exchange.with_keys(density=density),
        block_filter=config.block_filter,
    )


def format_trade_off(found: Sequence[Row]) -> str:
    """As Markdown."""
    cells = [
        [
            row.method,
            str(row.workers),
            str(row.groups),
            "-" if math.isnan(row.increase) else tables.signed(row.increase),
            "-" if math.isnan(row.speed_up) else f"{row.speed_up:.3g}",
        ]
        for row in found
    ]
    return tables.markdown(_HEADERS, cells)


def plot_trade_off(found: Sequence[Row], path: Path, *, beside_paper: bool) -> None:
    """Increase of the error over speed-up, a curve for each method.

    Args:
        found: the table's rows.
        path: of the picture.
        beside_paper: show the paper's points too.

    Raises:
        UserError: it cannot be drawn to that place.
    """
    increases = {(row.method, row.workers): row.increase for row in found}
    speeds = {(row.method, row.workers): row.speed_up for row in found}
    methods = list(dict.fromkeys(row.method for row in found))
    sources: list[tuple[str, Mapping[paper.Cell, float], Mapping[paper.Cell, float]]] = [
        ("errors measured, speed-ups modelled", increases, speeds)
    ]
    if beside_paper:
        sources.append(("paper", paper.ERROR_INCREASES, paper.SPEED_UPS))
    with picture(path, 7, 4.5) as axes:
        for which, errors, fast in sources:
            for number, method in enumerate(methods):
                cells = sorted(
                    cell
                    for cell, value in errors.items()
                    if cell[0] == method and not math.isnan(value + fast[cell])
                )
                if not cells:
                    continue
                points = [fast[cell] for cell in cells], [errors[cell] for cell in cells]
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
