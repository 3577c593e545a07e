"""A table and a picture of finished runs, from their run directories alone.

`gtcbmuf.studies.report_page` has an HTML page of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from gtcbmuf.base.files import reading
from gtcbmuf.base.plotting import picture
from gtcbmuf.base.tables import markdown, signed
from gtcbmuf.training.directory_claim import was_moved_aside
from gtcbmuf.training.run_files import Run, is_there, read_run, require

#: Columns of the table.
HEADERS = (
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


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read finished runs.

    Args:
        paths: of run directories, or of folders of run directories, such as a study's. A folder
            stands for the finished runs in it: those of sgd first, then by method and workers. Runs
            that a later run in their place moved aside are left out.

    Raises:
        UserError: a path is neither, or a run is unfinished or damaged.
    """
    return [run for path in paths for run in _runs_at(path)]


def _runs_at(path: Path) -> list[Run]:
    with reading(path):
        finished = sorted(file.parent for file in path.glob("*/summary.json"))
    finished = [run for run in finished if not was_moved_aside(run)]
    if not finished or is_there(path / "config.toml"):
        return [read_run(path)]

    def order(run: Run) -> tuple[bool, str, int]:
        facts = require(run.path / "summary.json", run.summary, ("method", "workers"))
        return facts["method"] != "sgd", facts["method"], facts["workers"]

    return sorted(map(read_run, finished), key=order)


def format_report(runs: Sequence[Run]) -> str:
    """Return a Markdown table with one row per run, and a note if workers shared cores.

    Raises:
        UserError: a run directory is damaged.
    """
    lines = [markdown(HEADERS, report_rows(runs))]
    note = oversubscription_note(runs)
    return "\n".join([*lines, "", note] if note else lines)


def report_rows(runs: Sequence[Run]) -> list[list[str]]:
    """Return the cells of each run, in the columns of `HEADERS`.

    The error increase is relative to the mean test FER of those sgd runs that used the same
    corpus. Bytes are what a worker passes to MPI for other workers in a step: the mean over
    workers and steps.

    Raises:
        UserError: a run directory is damaged.
    """
    summaries = [require_facts(run) for run in runs]
    corpora = [
        require(run.path / "environment.json", run.environment, ("corpus",))["corpus"]
        for run in runs
    ]
    sgd_fers: dict[str, list[float]] = {}
    for summary, corpus in zip(summaries, corpora, strict=True):
        if summary["method"] == "sgd" and summary["fer_test"] is not None:
            sgd_fers.setdefault(corpus, []).append(summary["fer_test"])
    return [
        _row(summary, mean(sgd_fers[corpus]) if corpus in sgd_fers else None)
        for summary, corpus in zip(summaries, corpora, strict=True)
    ]


def require_facts(run: Run) -> dict[str, Any]:
    """Return the values of a summary that the table shows.

    Raises:
        UserError: one is missing.
    """
    return require(run.path / "summary.json", run.summary, _FACTS)


def require_epochs(run: Run) -> list[dict[str, Any]]:
    """Return the metrics of a run: all lines, with the keys that every line must have.

    Raises:
        UserError: one is missing.
    """
    file, keys = run.path / "metrics.jsonl", ("epoch", "fer_valid")
    return [require(file, line, keys) | line for line in run.metrics]


def _row(summary: dict[str, Any], fer_sgd: float | None) -> list[str]:
    fer = summary["fer_test"]  # None after --no-test
    increase = "-" if not fer_sgd or fer is None else signed(100 * (fer / fer_sgd - 1))
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


def oversubscription_note(runs: Sequence[Run]) -> str:
    """Return a note if a host of one of the runs had more ranks than cores; empty otherwise."""
    worst = (1, 1)
    for run in runs:
        file, keys = run.path / "environment.json", ("host_of_rank", "hosts")
        environment = require(file, run.environment, keys)
        for host, facts in environment["hosts"].items():
            ranks = environment["host_of_rank"].count(host)
            load = ranks, facts.get("cores") or ranks or 1  # the number of cores may be unknown
            worst = max(worst, load, key=lambda pair: pair[0] / pair[1])
    if worst[0] <= worst[1]:
        return ""
    return f"Up to {worst[0]} workers shared {worst[1]} cores, so frames/s measures no speed-up."


def method_and_workers(summary: Mapping[str, Any]) -> str:
    """Name a run for a legend.

    Examples:
        >>> method_and_workers({"method": "gtc", "workers": 8})
        'gtc (8 workers)'
    """
    return f"{summary['method']} ({count(summary['workers'], 'worker')})"


def count(number: int, noun: str) -> str:
    """Format a number of things.

    Examples:
        >>> count(1, "run"), count(1024, "run")
        ('1 run', '1,024 runs')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plot_report(runs: Sequence[Run], path: Path) -> None:
    """Plot the valid FER over epochs, with one line per run.

    Args:
        runs: to plot.
        path: of the picture. Its suffix selects the format.

    Raises:
        UserError: matplotlib does not know the suffix, the picture cannot be written, or a run
            directory is damaged.
    """
    with picture(path, 7, 4.5, "--plot") as axes:
        for run, marker in zip(runs, "osD^vP*X<>" * len(runs), strict=False):
            summary, epochs = require_facts(run), require_epochs(run)
            axes.plot(
                [line["epoch"] for line in epochs],
                [line["fer_valid"] for line in epochs],
                marker=marker,
                markersize=5,
                label=method_and_workers(summary),
            )
        axes.set(xlabel="epoch", ylabel="frame error rate on valid (%)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
