"""The curves of a report page: a panel for each quantity, over the epochs of all runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gtcbmuf.base.plotting import svg_element
from gtcbmuf.studies.report import require_epochs
from gtcbmuf.training.run_files import Run

#: Colours of lines (Okabe and Ito): they differ for colour-blind readers, too.
_COLORS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b"),
)
#: Dash patterns of lines, in multiples of the line width. There are as many as colours.
_DASHES = (
    *((), (4.0, 2.0), (1.0, 1.5), (6.0, 1.5, 1.0, 1.5)),
    *((2.5, 2.5), (9.0, 2.5), (5.0, 1.5, 1.0, 1.5, 1.0, 1.5), (1.0, 3.0)),
)
#: Curves of more points than that have no markers. In a crowded panel, only single points have.
_MARKED_POINTS = 12
#: A panel has a logarithmic axis if its largest value is so many times the smallest.
_LOGARITHMIC = 20
_INCHES = (5.2, 3.1)

_Points = list[tuple[float, float]]


@dataclass(frozen=True)
class LineStyle:
    """The line of a run in every panel."""

    color: str
    dashes: tuple[float, ...] = ()


def is_crowded(runs: Sequence[object]) -> bool:
    """Return whether there are more runs, or curves, than colours."""
    return len(runs) > len(_COLORS)


def line_styles(runs: Sequence[Run]) -> list[LineStyle]:
    """Return the style of each run.

    Every run has colour and dashes of its own: lines that cover each other all stay visible. If
    there are too many, colours tell the method, and dashes the number of workers.
    """
    if not is_crowded(runs):
        return list(map(LineStyle, _COLORS, _DASHES))[: len(runs)]
    methods = list(dict.fromkeys(run.summary["method"] for run in runs))
    workers = sorted({run.summary["workers"] for run in runs})
    return [
        LineStyle(
            _COLORS[methods.index(run.summary["method"]) % len(_COLORS)],
            _DASHES[workers.index(run.summary["workers"]) % len(_DASHES)],
        )
        for run in runs
    ]


@dataclass(frozen=True)
class _Panel:
    """A quantity of the metrics.

    Attributes:
        name: of the picture.
        title: above it.
        label: of the vertical axis, with the unit.
        points: epoch and value of the points in a line of the metrics.
        unit: of large numbers at the ticks, which get a prefix such as k.
    """

    name: str
    title: str
    label: str
    points: Callable[[Mapping[str, Any]], _Points]
    unit: str = ""


def _value(key: str) -> Callable[[Mapping[str, Any]], _Points]:
    """Read the value of an epoch, if the run has it."""
    return lambda line: [(line["epoch"], line[key])] if key in line else []


def _sent(key: str, factor: float = 1) -> Callable[[Mapping[str, Any]], _Points]:
    """Read an epoch's value of what is sent, if anything is."""
    return lambda line: [(line["epoch"], factor * line[key])] if line.get(key) else []


def _taus(line: Mapping[str, Any]) -> _Points:
    taus = line.get("tau", ())
    return [(line["epoch"] - 1 + (i + 1) / len(taus), tau) for i, tau in enumerate(taus)]


_PANELS = (
    _Panel("fer", "Frame error rate on the valid set", "valid FER (%)", _value("fer_valid")),
    _Panel("loss", "Training loss", "cross-entropy (nats per frame)", _value("loss")),
    _Panel("tau", "Threshold tau", "tau of the first group (gradient units)", _taus),
    _Panel(
        "density",
        "Density",
        "parameters sent in a step (%)",
        _sent("density", 100),
    ),
    _Panel(
        "bytes",
        "Bytes to other hosts",
        "bytes per worker and step",
        _sent("bytes_sent_per_step"),
        unit="B",
    ),
)


def draw_panels(runs: Sequence[Run], styles: Sequence[LineStyle]) -> list[tuple[str, str]]:
    """Draw the panels for which a run has data.

    Returns:
        Title and SVG element of each panel.

    Raises:
        UserError: a run directory is damaged.
    """
    panels = []
    for panel in _PANELS:
        curves = []
        for run, style in zip(runs, styles, strict=True):
            if points := [point for line in require_epochs(run) for point in panel.points(line)]:
                curves.append((points, style))
        if curves:
            panels.append((panel.title, _draw(panel, curves)))
    return panels


def _draw(panel: _Panel, curves: Sequence[tuple[_Points, LineStyle]]) -> str:
    values = [value for points, _ in curves for _, value in points]

    def draw(axes: Any) -> None:
        from matplotlib import ticker

        if max(values) > _LOGARITHMIC * min(values) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 3)))
            axes.yaxis.set_minor_locator(ticker.NullLocator())
        if max(values) == min(values):
            axes.set_ylim(0, 2 * values[0] or 1)
        most = 1 if is_crowded(curves) else _MARKED_POINTS
        for points, style in curves:
            axes.plot(
                *zip(*points, strict=True),
                color=style.color,
                linewidth=1.4 if is_crowded(curves) else 1.8,
                linestyle=(0, style.dashes) if style.dashes else "-",
                marker="o" if len(points) <= most else "",
                markersize=4,
            )
        axes.yaxis.set_major_formatter(
            ticker.EngFormatter(panel.unit) if panel.unit else ticker.FormatStrFormatter("%g")
        )
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axes.set(xlabel="epoch", ylabel=panel.label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)

    return svg_element(panel.name, *_INCHES, draw)
