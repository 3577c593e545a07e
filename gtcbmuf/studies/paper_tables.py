"""Markdown tables of the model of the paper's cluster: its fit and its predictions."""

from collections.abc import Sequence

from gtcbmuf.base.tables import markdown
from gtcbmuf.cluster.coded_sums import message_size
from gtcbmuf.cluster.plan import pays_until
from gtcbmuf.methods.declaration import Signs
from gtcbmuf.studies import paper

_COSTS = ("compute", "link", "shared", "leader")
#: Density of the messages, for the predictions.
_DENSITY = 0.001
#: Group sizes of the hybrid with 128 workers, for the predictions.
_GROUP_SIZES = (32, 16, 8)


def format_paper_fit() -> str:
    """Format the tables of the fit to the paper's speed-ups, and of its predictions."""
    fits, partial_fits = paper.fit_models(), paper.fit_without_each_cell()
    message = message_size(Signs(_DENSITY), rows=1, length=paper.MODEL)
    bits = 8 * message.bytes / paper.MODEL / _DENSITY
    return "\n\n".join(
        [
            _format_cells(fits[0]),
            _format_costs(fits[0], partial_fits),
            _format_group_sizes(fits[:4]),
            _format_improvements([fits[0], *partial_fits], bits),
            _format_extrapolation(fits[0], bits),
        ]
    )


def _format_cells(fit: paper.Fit) -> str:
    """Format the paper's speed-ups beside the fitted ones."""
    rows = []
    for cell, speed_up in paper.SPEED_UPS.items():
        fitted, size = fit.speed_up(cell), paper.group_size(cell, fit.group_sizes)
        error = f"{100 * (fitted / speed_up - 1):+.0f}"
        method, workers = cell
        rows.append((method, str(workers), str(size), f"{speed_up:g}", f"{fitted:.1f}", error))
    return markdown(("method", "workers", "group", "paper", "fitted", "off %"), rows)


def _format_costs(fit: paper.Fit, partial_fits: Sequence[paper.Fit]) -> str:
    """Format the fitted costs, and their range over the fits without one cell."""
    rows = []
    for name in _COSTS:
        values = [getattr(partial, name) for partial in partial_fits]
        rows.append((name, f"{getattr(fit, name):.2g}", f"{min(values):.2g} to {max(values):.2g}"))
    return markdown(("cost", "fitted", "without one cell"), rows)


def _format_group_sizes(fits: Sequence[paper.Fit]) -> str:
    """Format the errors of the fits by their group sizes."""
    rows = [
        (
            ", ".join(map(str, fit.group_sizes.values())),
            f"{100 * fit.rms_error(list(paper.SPEED_UPS)):.1f}",
        )
        for fit in fits
    ]
    return markdown(("hybrid's groups at 32, 64, 128", "off % (root of mean square)"), rows)


def _format_improvements(fits: Sequence[paper.Fit], bits: float) -> str:
    """Format the hybrid's speed-ups with each change: the first fit, and the range of all."""
    by_size = [
        [paper.improved_speed_ups(fit, 128, size, bits) for fit in fits] for size in _GROUP_SIZES
    ]
    rows = []
    for change in by_size[0][0]:
        speed_ups = [[of_fit[change] for of_fit in of_size] for of_size in by_size]
        rows.append((change, *(f"{s[0]:.0f} ({min(s):.0f} to {max(s):.0f})" for s in speed_ups)))
    groups = [f"groups of {size}" for size in _GROUP_SIZES]
    return markdown(("hybrid, 128 workers", *groups), rows)


def _format_extrapolation(fit: paper.Fit, bits: float) -> str:
    """Format the speed-ups at more workers than the paper has."""
    counts = [*(2**power for power in range(5, 14)), 10_000]
    speed_ups = {workers: paper.extrapolate(fit, workers, bits) for workers in counts}
    names = list(speed_ups[32])
    rows = [
        (str(workers), *(f"{by_name[name]:.3g}" for name in names))
        for workers, by_name in speed_ups.items()
    ]
    limits = [
        str(pays_until({workers: by_name[name] for workers, by_name in speed_ups.items()}))
        for name in names
    ]
    return markdown(("workers", *names), [*rows, ("pays until", *limits)])
