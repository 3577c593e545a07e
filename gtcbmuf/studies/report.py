"""Tables and plots, from run directories alone."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.plotting import picture
from gtcbmuf.base.tables import markdown, signed
from gtcbmuf.training.run_directory import Run

_HEADERS = (
    "method",
    "workers",
    "groups",
    "test FER %",
    "vs sgd %",
    "test PER %",
    "frames/s",
    "bytes/step",
    "density %",
)
_FACTS = (
    "method",
    "workers",
    "groups",
    "fer_test",
    "per_test",
    "frames_per_second",
    "bytes_sent_per_step",
    "density",
)


def format_report(runs: Sequence[Run]) -> str:
    """A Markdown table with a row a run, and what must be said with it.

    The error increase is relative to the mean test FER of the sgd runs on the same corpus among
    them. Bytes are what a worker hands to MPI for others at a step, as a mean over workers and
    steps.
    """
    summaries = [_part(run.path, run.summary, _FACTS) for run in runs]
    corpora = [str(_part(run.path, run.environment, ("corpus",))["corpus"]) for run in runs]
    sgd: dict[str, list[float]] = {}
    for summary, corpus in zip(summaries, corpora, strict=True):
        if summary["method"] == "sgd" and summary["fer_test"] is not None:
            sgd.setdefault(corpus, []).append(summary["fer_test"])
    rows = [
        _row(summary, mean(sgd[corpus]) if corpus in sgd else None)
        for summary, corpus in zip(summaries, corpora, strict=True)
    ]
    lines = [markdown(_HEADERS, rows)]
    note = _oversubscribed(runs)
    return "\n".join([*lines, "", note] if note else lines)


def _part(path: Path, whole: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Some keys of what a run directory holds."""
    missing = [key for key in keys if key not in whole]
    if missing:
        raise UserError(f"{path}: damaged run directory: no {missing[0]} where one should be")
    return {key: whole[key] for key in keys}


def _row(summary: dict[str, Any], sgd: float | None) -> list[str]:
    fer = summary["fer_test"]  # none of a run that was not to look at the test set
    increase = "-" if not sgd or fer is None else signed(100 * (fer / sgd - 1))
    return [
        summary["method"],
        str(summary["workers"]),
        str(summary["groups"]),
        "-" if fer is None else f"{fer:.2f}",
        increase if summary["method"] != "sgd" else "-",
        "-" if summary["per_test"] is None else f"{summary['per_test']:.2f}",
        f"{summary['frames_per_second']:,.0f}",
        f"{summary['bytes_sent_per_step']:,.0f}",
        f"{100 * summary['density']:.3g}" if summary["density"] else "-",
    ]


def _oversubscribed(runs: Sequence[Run]) -> str:
    """A warning if a host had more ranks than cores in one of the runs."""
    worst = (1, 1)
    for run in runs:
        environment = _part(run.path, run.environment, ("host_of_rank", "hosts"))
        for host, facts in environment["hosts"].items():
            here = environment["host_of_rank"].count(host), facts["cores"]
            worst = max(worst, here, key=lambda pair: pair[0] / pair[1])
    if worst[0] <= worst[1]:
        return ""
    return (
        f"Up to {worst[0]} workers shared {worst[1]} cores here: frames/s says what this machine "
        "managed, and is no measurement of a speed-up."
    )


def plot_report(runs: Sequence[Run], path: Path) -> None:
    """Draw valid FER over epochs, a line a run, as PNG (or what the name's ending says).

    Raises:
        UserError: an ending that matplotlib does not know, a place that cannot be written to, or
            a damaged run directory.
    """
    with picture(path, 7, 4.5) as axes:
        for run, marker in zip(runs, "osD^vP*X<>" * len(runs), strict=False):
            summary = _part(run.path, run.summary, _FACTS)
            epochs = [_part(run.path, line, ("epoch", "fer_valid")) for line in run.metrics]
            workers = summary["workers"]
            axes.plot(
                [line["epoch"] for line in epochs],
                [line["fer_valid"] for line in epochs],
                marker=marker,
                markersize=5,
                label=f"{summary['method']} ({workers} worker{'s' if workers > 1 else ''})",
            )
        axes.set(xlabel="epoch", ylabel="frame error rate on valid (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
