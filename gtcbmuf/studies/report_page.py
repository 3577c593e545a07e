"""A comparison of finished runs as one HTML page: no script, and nothing from elsewhere."""

import errno
import os
import shlex
import tempfile
import tomllib
from collections import Counter
from collections.abc import Sequence
from html import escape
from json import dumps
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import reason, write_text, writing
from gtcbmuf.base.provenance import short_commit
from gtcbmuf.base.text import read_text
from gtcbmuf.studies.report import (
    HEADERS,
    count,
    method_and_workers,
    oversubscription_note,
    report_rows,
)
from gtcbmuf.studies.report_curves import LineStyle, draw_panels, is_crowded, line_styles
from gtcbmuf.studies.report_html import code, details, document, facts_table, table
from gtcbmuf.training.run_files import Run

#: Colours of the parts of a step: lighter than those of the runs.
_PART_COLORS = ("#bbbbbb", "#77aadd", "#eedd88", "#ee8866", "#aaaa00", "#99ddff", "#ffaabb")
_COLUMNS = (
    "<b>vs sgd</b>: increase of the test FER over the mean of the sgd runs on the same corpus. "
    "<b>bytes/step</b>: what a worker sends to other hosts, mean over workers and steps. "
    "<b>density</b>: share of the parameters whose update is sent in a step."
)


def check_page(path: Path) -> None:
    """Make the folder of a page, and check that a file can be written there.

    Raises:
        UserError: it cannot.
    """
    with writing(path, "--html"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def write_page(runs: Sequence[Run], path: Path) -> None:
    """Write the page.

    Args:
        runs: to compare.
        path: of the HTML file.

    Raises:
        UserError: a run directory is damaged, or the file cannot be written.
    """
    page = format_page(runs)
    with writing(path, "--html"):
        write_text(path, page)


def format_page(runs: Sequence[Run]) -> str:
    """Return the page: table, curves, seconds by part, differing keys, environments.

    Raises:
        UserError: a run directory is damaged.
    """
    rows = report_rows(runs)
    labels, styles = _labels(runs), line_styles(runs)
    heads = [
        _line_sample(style) + escape(label) for style, label in zip(styles, labels, strict=True)
    ]
    title = f"gtcbmuf report: {count(len(runs), 'run')}"
    parts = [
        f"<h1>{title}</h1>\n<p>{escape(_subject(runs))}</p>",
        _results(runs, heads, rows),
        _curves(runs, labels, styles),
        _seconds(runs, heads),
        _configurations(runs, labels),
        _environments(runs, labels),
    ]
    body = "\n".join(part for part in parts if part)
    return document(title, body)


def _labels(runs: Sequence[Run]) -> list[str]:
    """The names of the run directories; their paths if two have the same name."""
    names = [run.path.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _subject(runs: Sequence[Run]) -> str:
    """One line on what is compared."""
    methods = list(dict.fromkeys(str(run.summary["method"]) for run in runs))
    names = " and ".join([", ".join(methods[:-1]), methods[-1]] if methods[1:] else methods)
    numbers = sorted({run.summary["workers"] for run in runs})
    workers = count(numbers[-1], "worker")
    if numbers[1:]:
        workers = f"{numbers[0]} to {workers}"
    corpora = len({str(run.environment["corpus"]) for run in runs})
    corpus = "one corpus" if corpora == 1 else f"{corpora} different corpora"
    return f"{names} with {workers}, trained on {corpus}."


def _results(runs: Sequence[Run], heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[escape(cell) for cell in row] for row in rows]
    note = oversubscription_note(runs)
    return "\n".join(
        (
            "<h2>Results</h2>",
            table(("run", *HEADERS), heads, cells, "results"),
            f'<p class="note">{_COLUMNS}</p>',
            f'<p class="note">{escape(note)}</p>' if note else "",
        )
    )


def _curves(runs: Sequence[Run], labels: Sequence[str], styles: Sequence[LineStyle]) -> str:
    panels = [
        f"<figure><figcaption>{title}</figcaption>\n{svg}</figure>"
        for title, svg in draw_panels(runs, styles)
    ]
    if not panels:
        return ""
    entries = Counter(
        (style, method_and_workers(run.summary) if is_crowded(runs) else label)
        for run, label, style in zip(runs, labels, styles, strict=True)
    )
    legend = "\n".join(
        f"<li>{_line_sample(style)}{escape(text)}{f': {number} runs' if number > 1 else ''}</li>"
        for (style, text), number in entries.items()
    )
    return "\n".join(
        (
            f'<h2>Curves</h2>\n<ul class="legend">\n{legend}\n</ul>',
            '<div class="panels">',
            *panels,
            "</div>",
        )
    )


def _line_sample(style: LineStyle) -> str:
    """A short line in the style of a run."""
    dashes = " ".join(f"{3 * length:g}" for length in style.dashes)
    return (
        '<svg class="key" viewBox="0 0 28 10" aria-hidden="true"><path d="M0 5H28" fill="none" '
        f'stroke="{style.color}" stroke-width="3" stroke-dasharray="{dashes or "none"}"/></svg>'
    )


def _seconds(runs: Sequence[Run], heads: Sequence[str]) -> str:
    """A table with a stacked bar for each run that has its seconds by part."""
    seconds = [_seconds_by_part(run) for run in runs]
    parts = list(dict.fromkeys(part for of_run in seconds for part in of_run))
    longest = max((sum(of_run.values()) for of_run in seconds), default=0)
    if not longest:
        return ""
    colors = {part: _PART_COLORS[i % len(_PART_COLORS)] for i, part in enumerate(parts)}
    rows = []
    for of_run in seconds:
        pieces = "".join(
            f'<span style="width:{100 * value / longest:.2f}%;background:{colors[part]}" '
            f'title="{escape(part)}: {value:,.2f} s"></span>'
            for part, value in of_run.items()
        )
        numbers = [f"{of_run[part]:,.2f}" if part in of_run else "-" for part in parts]
        rows.append([f'<div class="bar">{pieces}</div>', f"{sum(of_run.values()):,.2f}", *numbers])
    squares = [
        f'<span class="square" style="background:{colors[part]}"></span>{escape(part)}'
        for part in parts
    ]
    return "\n".join(
        (
            "<h2>Time by part</h2>",
            '<p class="note">Seconds of training, all epochs, mean over the workers.</p>',
            table(("run", "", "total s", *squares), heads, rows),
        )
    )


def _seconds_by_part(run: Run) -> dict[str, float]:
    """The seconds of a run by part, over all epochs: means over the workers."""
    seconds: dict[str, float] = {}
    for line in run.metrics:
        for part, over_workers in line.get("seconds_by_part", {}).items():
            seconds[part] = seconds.get(part, 0) + over_workers.get("mean", 0)
    return seconds


def _configurations(runs: Sequence[Run], labels: Sequence[str]) -> str:
    """A table of the keys that differ, and, folded, one of the others."""
    configs = [_config(run) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: [config.get(key, "-") for config in configs] for key in keys}
    differing = [key for key, of_key in values.items() if len(set(of_key)) > 1]
    common = {key: of_key[0] for key, of_key in values.items() if key not in differing}
    shared = table(("key", "value"), map(code, common), [[escape(v)] for v in common.values()])
    differences = "<p>All keys are equal.</p>"
    if differing:
        cells = [[escape(value) for value in values[key]] for key in differing]
        differences = table(("key", *map(escape, labels)), map(code, differing), cells, "values")
    summary = count(len(common), "key")
    if not runs[1:]:
        return f"<h2>Configuration</h2>\n{details(summary, shared)}"
    folded = details(f"{summary} that all runs share", shared)
    return f"<h2>Configuration</h2>\n{differences}\n{folded}"


def _config(run: Run) -> dict[str, str]:
    """The keys of a run's config.toml, with their values as text."""
    file = run.path / "config.toml"
    try:
        tables = tomllib.loads(read_text(file))
        config = {}
        for section, keys in tables.items():
            if not isinstance(keys, dict):
                raise UserError(f"{file}: damaged: {section}: expected a table")
            for key, value in keys.items():
                text = value if isinstance(value, str) else dumps(value, default=str)
                config[f"{section}.{key}"] = text
        return config
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: damaged: {error}") from None


def _environments(runs: Sequence[Run], labels: Sequence[str]) -> str:
    blocks = [
        details(escape(label), facts_table(_environment(run)))
        for run, label in zip(runs, labels, strict=True)
    ]
    return "\n".join(("<h2>Environment of each run</h2>", *blocks))


def _environment(run: Run) -> list[tuple[str, str]]:
    """What environment.json tells of a run: names and values, without those it does not have."""
    facts, workers = run.environment, Counter(run.environment["host_of_rank"])
    hosts = [
        f"{host}: {count(workers[host], 'worker')}, {count(of_host.get('cores') or 0, 'core')}"
        for host, of_host in facts["hosts"].items()
    ]
    threads = [
        f"{pool.get('internal_api')} {pool.get('version')}: "
        f"{count(pool.get('num_threads') or 0, 'thread')}"
        for pool in facts.get("threads", ())
    ]
    resumed = [
        f"{one.get('started')}, at step {one.get('step')} of epoch {one.get('epoch')}"
        for one in facts.get("resumed", ())
    ]
    commit = short_commit(facts) if facts.get("commit") else ""
    rows = {
        "command": _command(run),
        "run directory": str(run.path),
        "started": facts.get("started"),
        "resumed": "; ".join(resumed),
        "commit": commit.replace("+", " with uncommitted changes"),
        "Python": facts.get("python"),
        "packages": ", ".join(f"{name} {v}" for name, v in facts.get("packages", {}).items()),
        "MPI": " ".join(str(facts.get("mpi", "")).partition("\n")[0].split()),
        "launcher": facts.get("launcher"),
        "hosts": "; ".join(hosts),
        "threads": "; ".join(threads),
        "processor": facts.get("processor"),
        "platform": facts.get("platform"),
        "corpus": " ".join(str(facts["corpus"]).split()),
    }
    return [(name, str(value)) for name, value in rows.items() if value]


def _command(run: Run) -> str:
    """The command that repeats a run; empty if its directory does not hold it."""
    words = [str(word) for word in run.environment.get("command", ())]
    ranks = run.environment.get("ranks", run.summary["workers"])
    return shlex.join(["mpirun", "-n", str(ranks), *words] if words and ranks > 1 else words)
