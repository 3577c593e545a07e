"""The HTML page of a comparison, from run directories that are written by hand or by training."""

import json
import re
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from support.corpora import write_corpus
from support.launch import gtcbmuf
from support.runs import ENVIRONMENT, SUMMARY

from gtcbmuf.base.errors import UserError
from gtcbmuf.studies.report import read_runs
from gtcbmuf.studies.report_page import check_page, format_page, write_page
from gtcbmuf.training.run_files import Run, read_run

PARTS = {"read": 0.25, "compute": 2.0, "communicate": 1.5}


def make_run(
    path: Path, method: str, *, workers: int = 1, epochs: int = 3, config: str = "", **facts: Any
) -> Run:
    """Write a run directory, and read it; `facts` replace those of its environment."""
    path.mkdir(parents=True)
    tau = [4.0, 5.0] if method.startswith("gtc") else []
    summary = SUMMARY | {
        "method": method,
        "workers": workers,
        "groups": workers,
        "fer_test": 40.0 + workers / 100,
        "per_test": 20.0 + workers / 100,
        "bytes_sent_per_step": 67890.0 if workers > 1 else 0.0,
        "density": 0.01 if tau else 0.0,
    }
    environment = ENVIRONMENT | {
        "command": ["gtcbmuf", "train", method],
        "host_of_rank": ["node1"] * workers,
        "resumed": [],
    }
    lines = [
        {
            "epoch": epoch,
            "fer_valid": 60.0 / epoch,
            "loss": 3.0 / epoch,
            "tau": tau,
            "density": summary["density"],
            "bytes_sent_per_step": summary["bytes_sent_per_step"],
            "seconds_by_part": {part: {"mean": seconds} for part, seconds in PARTS.items()},
        }
        for epoch in range(1, epochs + 1)
    ]
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "environment.json").write_text(json.dumps(environment | facts))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "config.toml").write_text(config or f"[train]\nepochs = {epochs}\nseed = 0\n")
    return read_run(path)


class Page(HTMLParser):
    """Tables as rows of cells, texts of some elements, and all attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.tags: Counter[str] = Counter()
        self.texts: dict[str, list[str]] = {"h2": [], "figcaption": [], "summary": [], "li": []}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
        elif tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "th" in self._open or "td" in self._open:
            self.tables[-1][-1][-1] += data
        for tag in self.texts:
            if tag in self._open:
                self.texts[tag][-1] += data


def three_runs(folder: Path) -> list[Run]:
    return [
        make_run(folder / "one", "sgd"),
        make_run(folder / "many", "gtc", workers=4),
        make_run(folder / "more", "gtc-bmuf", workers=8),
    ]


def test_the_table_has_the_numbers_of_the_summaries(tmp_path: Path) -> None:
    runs = three_runs(tmp_path)
    table = Page(format_page(runs)).tables[0]
    header, *rows = table
    assert header[:3] == ["run", "method", "workers"]
    for run, row in zip(runs, rows, strict=True):
        of_run = dict(zip(header, row, strict=True))
        assert of_run["run"] == run.path.name
        assert of_run["method"] == run.summary["method"]
        assert of_run["workers"] == str(run.summary["workers"])
        assert of_run["test FER %"] == f"{run.summary['fer_test']:.2f}"
        assert of_run["bytes/step"] == f"{run.summary['bytes_sent_per_step']:,.0f}"


def test_the_page_says_what_it_compares_and_that_cores_were_shared(tmp_path: Path) -> None:
    runs = three_runs(tmp_path)
    page = format_page(runs)
    assert "<h1>gtcbmuf report: 3 runs</h1>" in page
    assert "sgd, gtc and gtc-bmuf with 1 to 8 workers, trained on one corpus." in page
    assert "Up to 8 workers shared 4 cores" in page
    other = make_run(tmp_path / "other", "gtc", workers=2, corpus="sha256 of another")
    page = format_page([runs[0], other])
    assert "sgd and gtc with 1 to 2 workers, trained on 2 different corpora." in page
    assert "shared 4 cores" not in page


def test_a_panel_without_data_is_left_out(tmp_path: Path) -> None:
    runs = three_runs(tmp_path)
    fer, loss, tau, density, sent = Page(format_page(runs)).texts["figcaption"]
    assert (tau, density, sent) == ("Threshold tau", "Density", "Bytes to other hosts")
    assert Page(format_page(runs[:1])).texts["figcaption"] == [fer, loss]


def test_runs_that_tell_only_their_error_have_one_panel(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "sgd", epochs=1)
    (tmp_path / "a/metrics.jsonl").write_text('{"epoch": 1, "fer_valid": 0.0}\n')
    page = Page(format_page([read_run(run.path)]))
    assert len(page.texts["figcaption"]) == 1
    assert "Time by part" not in page.texts["h2"]


def test_a_run_has_its_line_in_every_panel_and_in_the_legend(tmp_path: Path) -> None:
    page = format_page(three_runs(tmp_path))
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    colors = re.findall(r'stroke="(#\w{6})"', page.partition("<figure>")[0])
    assert colors[:3] == colors[3:]  # the table's samples, then the legend's
    assert len(set(colors)) == 3
    for figure in figures[:2]:
        assert [color for color in colors[:3] if f"stroke: {color}" in figure] == colors[:3]
    for figure in figures[2:]:  # sgd sends nothing
        assert [color for color in colors[:3] if f"stroke: {color}" in figure] == colors[1:3]


def test_many_runs_share_the_colours_of_methods_and_the_dashes_of_workers(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / f"{method}-{workers}-{seed}", method, workers=workers)
        for method in ("gtc", "bmuf")
        for workers in (2, 4)
        for seed in (1, 2, 3)
    ]
    page = format_page(runs)
    assert Page(page).texts["li"] == [
        f"{method} ({workers} workers): 3 runs" for method in ("gtc", "bmuf") for workers in (2, 4)
    ]
    legend = page[page.index('<ul class="legend">') : page.index("</ul>")]
    styles = re.findall(r'stroke="(.*?)".*?dasharray="(.*?)"', legend)
    (blue, solid), (_, dashed), (orange, _), _ = styles
    assert styles == [(blue, solid), (blue, dashed), (orange, solid), (orange, dashed)]
    assert len({blue, orange, solid, dashed}) == 4


def test_seconds_are_those_of_all_epochs_by_part(tmp_path: Path) -> None:
    header, row = Page(format_page([make_run(tmp_path / "a", "sgd", epochs=2)])).tables[1]
    assert header == ["run", "", "total s", *PARTS]
    assert row == ["a", "", "7.50", "0.50", "4.00", "3.00"]


def test_only_keys_that_differ_have_a_column_per_run(tmp_path: Path) -> None:
    config = "[train]\nepochs = 3\nseed = {}\n[model]\nhidden = [4, 5]\n"
    runs = [
        make_run(tmp_path / "a", "sgd", config=config.format(1)),
        make_run(tmp_path / "b", "gtc", config=config.format(2) + '[exchange]\nkind = "gtc"\n'),
    ]
    differing, common = Page(format_page(runs)).tables[2:4]
    assert differing == [["key", "a", "b"], ["train.seed", "1", "2"], ["exchange.kind", "-", "gtc"]]
    assert common == [["key", "value"], ["train.epochs", "3"], ["model.hidden", "[4, 5]"]]
    assert "All keys are equal." in format_page([runs[0], runs[0]])
    assert "All keys" not in format_page(runs[:1])


def test_the_environment_of_a_run_is_folded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a b", "gtc", workers=4, dirty=True)
    page = Page(format_page([run]))
    assert page.texts["summary"] == ["2 keys", "a b"]
    facts = dict(page.tables[-1])
    assert facts["command"] == "mpirun -n 4 gtcbmuf train gtc"
    assert facts["commit"] == "0123456789ab with uncommitted changes"
    assert facts["MPI"] == "MPICH Version: 5.0.2"
    assert facts["hosts"] == "node1: 4 workers, 4 cores"
    assert facts["threads"] == "openblas 0.3: 1 thread"
    assert facts["packages"] == "numpy 2.4.6"


def test_what_the_files_say_is_text(tmp_path: Path) -> None:
    hostile = '<script>alert("x")</script>&$x^$'
    run = make_run(
        tmp_path / hostile.replace("/", ""),
        hostile,
        config=f"[train]\nname = '{hostile}'\n",
        processor=hostile,
        command=[hostile],
        hosts={hostile: {"cores": 1}},
    )
    page = Page(format_page([run, make_run(tmp_path / "b", "sgd")]))
    assert page.tags["script"] == 0
    assert page.tables[0][1][:2] == [hostile.replace("/", ""), hostile]
    assert ["train.name", hostile, "-"] in page.tables[2]
    assert dict(page.tables[-2])["processor"] == hostile


def test_nothing_is_loaded_and_no_id_is_there_twice(tmp_path: Path) -> None:
    text = format_page(three_runs(tmp_path))
    page = Page(text)
    loads = ("src", "href", "xlink:href", "action", "data", "srcset", "poster")
    links = {value for _, name, value in page.attributes if name in loads}
    ids = [value for _, name, value in page.attributes if name == "id"]
    references = links | {f"#{name}" for name in re.findall(r"url\(#(.*?)\)", text)}
    assert references <= {f"#{name}" for name in ids}
    assert references
    assert len(ids) == len(set(ids))
    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "image"}
    assert "@import" not in text
    assert "url(" not in text.replace("url(#", "")


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    runs = three_runs(tmp_path)
    assert format_page(runs) == format_page(runs)


def test_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / folder / "run", "sgd") for folder in "ab"]
    names = [row[0] for row in Page(format_page(runs)).tables[0][1:]]
    assert names == [str(run.path) for run in runs]


def test_a_folder_stands_for_its_finished_runs(tmp_path: Path) -> None:
    for workers in (16, 2):
        make_run(tmp_path / f"study/gtc-{workers}", "gtc", workers=workers)
    make_run(tmp_path / "study/sgd-1", "sgd")
    make_run(tmp_path / "study/unfinished", "bmuf")
    (tmp_path / "study/unfinished/summary.json").unlink()
    (tmp_path / "study/gtc-2.log").touch()
    make_run(tmp_path / "own", "gtc")
    runs = read_runs([tmp_path / "study", tmp_path / "own"])
    assert [run.path.name for run in runs] == ["sgd-1", "gtc-2", "gtc-16", "own"]


@pytest.mark.parametrize("place", ["", "study", "study/unfinished", "nowhere"])
def test_without_a_finished_run_there_is_no_report(tmp_path: Path, place: str) -> None:
    make_run(tmp_path / "study/unfinished", "bmuf")
    (tmp_path / "study/unfinished/summary.json").unlink()
    with pytest.raises(UserError, match=r"no summary\.json"):
        read_runs([tmp_path / place])


@pytest.mark.parametrize("config", [None, "[train", "train = 1"])
def test_a_damaged_configuration_is_told(tmp_path: Path, config: str | None) -> None:
    run = make_run(tmp_path / "a", "sgd", config=config or "")
    if config is None:
        (run.path / "config.toml").unlink()
    with pytest.raises(UserError, match=r"/a/config.toml: (cannot be read|damaged): "):
        format_page([run])


@pytest.mark.parametrize("place", ["file/page.html", "folder", "/"])
def test_a_page_that_cannot_be_written_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"^--html .*/"):
        check_page(tmp_path / place)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_the_command_writes_a_page_of_trained_runs(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5")
    settings = [f"corpus.path={tmp_path}/corpus.h5", "train.epochs=2", "model.hidden=[8]"]
    options = [word for setting in settings for word in ("--set", setting)]
    for method, ranks in (("sgd", 0), ("gtc", 2)):
        out = tmp_path / "runs" / method
        done = gtcbmuf("train", method, *options, "--out", out, ranks=ranks)
        assert done.returncode == 0, done.stderr
    done = gtcbmuf("report", tmp_path / "runs", "--html", tmp_path / "pages/report.html")
    assert done.returncode == 0, done.stderr
    page = Page((tmp_path / "pages/report.html").read_text())
    assert [row[0] for row in page.tables[0][1:]] == ["sgd", "gtc"]
    for row in page.tables[0][1:]:
        summary = json.loads((tmp_path / f"runs/{row[0]}/summary.json").read_text())
        assert row[4] == f"{summary['fer_test']:.2f}"
    assert len(page.texts["figcaption"]) == 4  # no bytes left the host
    assert ["exchange.kind", "none", "gtc"] in page.tables[2]

    done = gtcbmuf("report", tmp_path / "runs", "--html", tmp_path / "corpus.h5/report.html")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"gtcbmuf: --html \S+: cannot be written: .*\n", done.stderr)


@pytest.mark.needs("chromium")
def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    runs = three_runs(tmp_path)
    write_page(runs, page)

    def chromium(*options: str) -> str:
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", *options]
        profile = f"--user-data-dir={tmp_path}/profile"
        done = subprocess.run(
            [*command, profile, page.as_uri()], capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = Page(chromium("--dump-dom"))
    assert [row[0] for row in shown.tables[0]] == ["run", "one", "many", "more"]
    assert shown.tags["figure"] == 5
    chromium(f"--screenshot={picture}", "--window-size=1200,3000")
    pixels = imread(picture)
    assert pixels.shape[:2] == (3000, 1200)
    assert 0.01 < (pixels != 1).any(axis=2).mean() < 0.5  # dark on white
