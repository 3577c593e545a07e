"""Tables and plots from run directories that are written by hand."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from matplotlib import pyplot
from support.corpora import write_corpus
from support.launch import gtcbmuf

from gtcbmuf.base.errors import UserError
from gtcbmuf.studies.report import format_report, plot_report, read_runs
from gtcbmuf.training.run_files import Run, read_run


def make_run(
    path: Path,
    method: str,
    *,
    workers: int = 1,
    fer_test: float | None = 40.0,
    density: float = 0.0,
    valid: tuple[float, ...] = (60.0, 50.0),
    cores: int = 64,
    hosts: int = 1,
    corpus: str = "sha256 of one",
) -> Run:
    """Write a run directory, and read it."""
    path.mkdir()
    host_of_rank = [f"host{rank * hosts // workers}" for rank in range(workers)]
    files: dict[str, Any] = {
        "environment.json": {
            "hosts": {host: {"cores": cores} for host in host_of_rank},
            "host_of_rank": host_of_rank,
            "corpus": corpus,
        },
        "summary.json": {
            "method": method,
            "workers": workers,
            "groups": 2 if workers > 1 else 1,
            "fer_test": fer_test,
            "per_test": None if fer_test is None else fer_test / 2,
            "frames_per_second": 12345.6,
            "bytes_sent_per_step": 67890.1 if workers > 1 else 0.0,
            "density": density,
        },
    }
    for name, content in files.items():
        (path / name).write_text(json.dumps(content))
    lines = [{"epoch": number + 1, "fer_valid": fer} for number, fer in enumerate(valid)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_run(path)


def cells(table: str) -> list[list[str]]:
    """The cells of a Markdown table, without its ruler."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert set(lines[1]) <= set("|-: ")
    assert len({len(line) for line in lines}) == 1  # it is aligned
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:1] + lines[2:]]


def test_a_row_has_the_numbers_of_its_run(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", "sgd"),
        make_run(tmp_path / "b", "gtc-bmuf", workers=8, fer_test=41.5, density=0.00456),
    ]
    assert cells(format_report(runs)) == [
        [
            "method",
            "workers",
            "groups",
            "test FER %",
            "vs sgd %",
            "test PER %",
            "frames/s",
            "bytes/step",
            "density %",
        ],
        ["sgd", "1", "1", "40.00", "-", "20.00", "12,346", "0", "-"],
        ["gtc-bmuf", "8", "2", "41.50", "+3.8", "20.75", "12,346", "67,890", "0.456"],
    ]


def test_the_increase_is_relative_to_the_mean_of_the_sgd_runs(tmp_path: Path) -> None:
    fers = {"a": 38.0, "b": 42.0, "c": 44.0, "d": 39.0}
    methods = {"a": "sgd", "b": "sgd", "c": "gtc", "d": "bmuf"}
    runs = [make_run(tmp_path / n, methods[n], fer_test=fers[n]) for n in fers]
    assert [row[4] for row in cells(format_report(runs))[1:]] == ["-", "-", "+10.0", "-2.5"]


def test_errors_on_another_corpus_are_not_compared(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", "sgd"),
        make_run(tmp_path / "b", "gtc", fer_test=44.0),
        make_run(tmp_path / "c", "gtc", fer_test=44.0, corpus="sha256 of another"),
    ]
    assert [row[4] for row in cells(format_report(runs))[1:]] == ["-", "+10.0", "-"]


@pytest.mark.parametrize("fer_sgd", [None, 0.0])
def test_without_an_error_to_compare_with_there_is_no_increase(
    tmp_path: Path, fer_sgd: float | None
) -> None:
    runs = [make_run(tmp_path / "a", "gtc", workers=2)]
    if fer_sgd is not None:
        runs.append(make_run(tmp_path / "b", "sgd", fer_test=fer_sgd))
    assert {row[4] for row in cells(format_report(runs))[1:]} == {"-"}


def test_a_run_that_was_not_to_test_has_no_errors(tmp_path: Path) -> None:
    fers = {"sgd": None, "gtc": 40.0, "bmuf": None}
    runs = [make_run(tmp_path / method, method, fer_test=fer) for method, fer in fers.items()]
    assert [row[3:6] for row in cells(format_report(runs))[1:]] == [
        ["-", "-", "-"],
        ["40.00", "-", "20.00"],
        ["-", "-", "-"],
    ]


def test_oversubscription_is_said(tmp_path: Path) -> None:
    fits = make_run(tmp_path / "a", "gtc", workers=4, cores=4)
    one = make_run(tmp_path / "b", "gtc", workers=5, cores=4)
    more = make_run(tmp_path / "c", "gtc", workers=16, cores=2)
    spread = make_run(tmp_path / "d", "gtc", workers=16, cores=4, hosts=4)
    assert "shared" not in format_report([fits, spread])
    assert "Up to 5 workers shared 4 cores" in format_report([fits, one, spread])
    assert "Up to 16 workers shared 2 cores" in format_report([one, more, fits])


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "plot.png"
    plot_report([make_run(tmp_path / "a", "sgd")], path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert width > height > 300


def test_the_plot_has_a_line_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    valid = {f"run{number}": (60.0 - number, 50.0, 45.5)[: 1 + number % 3] for number in range(12)}
    runs = [
        make_run(tmp_path / name, "gtc", workers=1 + (name != "run0"), valid=fers)
        for name, fers in valid.items()
    ]
    figures: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(pyplot, "close", figures.append)  # to look at it before it is gone
        plot_report(runs, tmp_path / "plot.png")
    (axes,) = figures[0].axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    assert lines == [(list(range(1, len(f) + 1)), list(f)) for f in valid.values()]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["gtc (1 worker)"] + ["gtc (2 workers)"] * 11
    pyplot.close(figures[0])


def test_plots_leave_no_figures_open(tmp_path: Path) -> None:
    before = pyplot.get_fignums()
    plot_report([make_run(tmp_path / "a", "sgd")], tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    assert pyplot.get_fignums() == before


def test_a_run_that_lacks_a_fact_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "sgd")
    del run.summary["fer_test"]
    with pytest.raises(UserError, match=r"/a/summary.json: damaged: no key fer_test"):
        format_report([run])


def test_a_run_that_was_moved_aside_is_left_out(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.h5"
    write_corpus(corpus)
    for name in ("gtc-1", "gtc-1.5"):  # two runs of the user's
        make_run(tmp_path / name, "gtc")
    for epochs in (1, 2):
        words = ("--set", f"corpus.path={corpus}", "--set", f"train.epochs={epochs}")
        done = gtcbmuf("train", "sgd", *words, "--out", tmp_path / "sgd")
        assert done.returncode == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["corpus.h5", "gtc-1", "gtc-1.5", "sgd", "sgd.1"]
    assert [run.path.name for run in read_runs([tmp_path])] == ["sgd", "gtc-1", "gtc-1.5"]


@pytest.mark.parametrize("place", ["fer.nonsense", "file/fer.png"])
def test_a_plot_that_cannot_be_drawn_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    run = make_run(tmp_path / "a", "sgd")
    with pytest.raises(UserError, match="cannot be drawn"):
        plot_report([run], tmp_path / place)
