"""Presets: the runs of each study, and the errors of invalid presets."""

import math
from itertools import islice, pairwise
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from support.corpora import write_corpus
from support.launch import ROOT, gtcbmuf
from support.studies import PRESET

from gtcbmuf.base.errors import UserError
from gtcbmuf.config.loading import load_config
from gtcbmuf.data.synth.presets import PRESETS
from gtcbmuf.studies.preset_files import read_preset
from gtcbmuf.studies.presets import RunSpec, error_table_runs, preset_names, tuning_runs
from gtcbmuf.studies.results import read_results
from gtcbmuf.studies.settings_tables import format_tuning
from gtcbmuf.studies.synthesis import Synthesis


def test_tuning_has_a_run_for_every_setting() -> None:
    runs = tuning_runs(PRESET)
    assert [(run.method, run.workers, run.seed, run.assignments[-1]) for run in runs] == [
        ("sgd", 1, 0, "train.learning_rate=1e-3"),
        ("sgd", 1, 0, "train.learning_rate=2e-3"),
        ("gtc", 8, 0, "exchange.tau=1"),
        ("bmuf", 8, 0, "block_filter.period=5"),
    ]
    assert all(run.config.train.epochs == 1 for run in runs)


def test_the_error_table_has_all_cells_with_seed_1_before_other_seeds() -> None:
    runs = error_table_runs(PRESET)
    cells = [(run.method, run.seed, run.assignments[-1]) for run in runs]
    assert cells == [
        ("sgd", 1, "train.learning_rate=2e-3"),
        ("gtc", 1, "exchange.tau=1"),
        ("sgd", 2, "train.learning_rate=2e-3"),
        ("sgd", 3, "train.learning_rate=2e-3"),
    ]
    assert all(run.config.train.epochs == 3 for run in runs)
    assert [run.seed for run in error_table_runs(PRESET, [5, 6])] == [5, 6, 5, 6]


def test_a_fingerprint_ignores_the_path_and_spelled_out_defaults() -> None:
    def fingerprint(*assignments: str) -> str:
        return RunSpec("gtc", 2, 0, assignments).fingerprint

    assert fingerprint() == fingerprint("corpus.path=elsewhere.h5") == fingerprint("exchange.tau=4")
    assert fingerprint() == fingerprint("train.patience=9", "train.verify=true")
    others = [fingerprint(word) for word in ("exchange.tau=5", "train.seed=1", "model.hidden=[9]")]
    assert len({fingerprint(), *others}) == 4


@pytest.mark.parametrize("name", preset_names())
def test_presets_tune_methods_equally_and_choose_the_best_setting(name: str) -> None:
    preset = read_preset(name)
    tried = {(cell.method, cell.workers): len(cell.tried) for cell in preset.cells}
    assert tried["sgd", 1] == max(tried.values())  # the reference of all errors
    folder = ROOT / "results" / name
    tuned, published = (read_results(folder / f"{name}.csv") for name in ("tuning", "error_table"))
    assert (folder / "tuning.md").read_text().rstrip() == format_tuning(preset, tuned)
    runs = iter(tuning_runs(preset))
    for cell in preset.cells:
        rows = [
            next((row for row in tuned if run.matches(row)), None)
            for run in islice(runs, len(cell.tried))
        ]
        diverged = sum(row is not None and math.isnan(row.fer_valid) for row in rows)
        if cell.workers > 1:  # equal effort; more settings may replace diverged ones
            assert 0 <= len(cell.tried) - tried["gtc-bmuf", cell.workers] <= diverged
        if cell.chosen is None:  # neither tuned nor published
            assert None in rows
            assert (cell.method, cell.workers) not in [(r.method, r.workers) for r in published]
            continue
        assert None not in rows
        errors = [row.fer_valid for row in rows if row]
        best = min(error for error in errors if not math.isnan(error))
        assert errors[cell.chosen] == best, (cell.method, cell.workers, errors)


USER_PRESET = """
corpus = "{corpus}"
common = ["model.hidden=[24]", "train.epochs=1"]

[[cells]]
method = "sgd"
workers = 1
chosen = 0
tried = [["train.learning_rate=1e-3"]]

[[cells]]
method = "bmuf"
workers = 2
{chosen}
tried = [["block_filter.period=1000", "train.learning_rate=1e-9"], ["block_filter.period=5"]]

[[choices]]
method = "bmuf"
workers = 2
tried = [["block_filter.period=5"], ["block_filter.period=50"]]
"""


def cells_of(table: str) -> list[list[str]]:
    """Cells of a Markdown table, by row."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_preset_of_a_user_runs_all_studies(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5")

    def study(name: str, bmuf_chosen: str = "") -> str:
        text = USER_PRESET.format(corpus="corpus.h5", chosen=bmuf_chosen)
        (tmp_path / "mine.toml").write_text(text)
        process = gtcbmuf("reproduce", name, "--preset", "mine.toml", cwd=tmp_path)
        assert (process.returncode, process.stderr) == (0, "")
        return process.stdout

    log, _, table = study("tuning").partition("\n\n")
    assert log.count("valid FER") == 3
    assert [row[1:3] + row[4:] for row in cells_of(table)[2:]] == [
        ["sgd 1", "0", "best"],
        ["bmuf 2", "0", ""],
        ["bmuf 2", "1", "best"],
    ]
    folder = tmp_path / "results" / "mine"
    assert (folder / "tuning.md").read_text() == table
    before = (folder / "tuning.csv").read_bytes()
    log = study("tuning").partition("\n\n")[0]
    assert log == "all 3 runs are finished: results/mine/tuning.csv"
    assert (folder / "tuning.csv").read_bytes() == before

    assert "# skipped, not tuned yet: bmuf 2" in study("error-table")
    table = study("error-table", "chosen = 1").partition("\n\n")[2]
    assert [row[:4] for row in cells_of(table)[2:]] == [
        ["sgd", "1", "1", "1"],
        ["bmuf", "2", "2", "1"],
    ]
    assert (folder / "error_table.md").read_text() == table
    assert [row[1:3] for row in cells_of(study("choices").partition("\n\n")[2])[2:]] == 2 * [
        ["bmuf 2", "1"]
    ]

    # A changed corpus repeats the runs, although path, settings and seeds are the same.
    write_corpus(tmp_path / "corpus.h5", seed=1)
    assert study("tuning").count("valid FER") == 3 + 1  # three runs, and a header of the table
    assert len(read_results(folder / "tuning.csv")) == 6
    rates = [row[3] for row in cells_of((folder / "tuning.md").read_text())[2:]]
    assert len(rates) == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("common", "comon", "unknown key `comon`; the valid keys are corpus, "),
        ('corpus = "CORPUS"', "", "missing key `corpus`"),
        ('corpus = "CORPUS"', "corpus = 3", "corpus = 3: expected `str | table`, got `int`"),
        ('corpus = "CORPUS"', "corpus = {hours = 1.0}", "corpus: missing key `preset`"),
        ("epochs=1", "epoch=1", "sgd 1: --set: unknown key train.epoch; did you mean train.epochs"),
        ("period=50", 'period=5", "topology.group_size=node', "bmuf 2: topology.group_size = "),
        ("workers = 2", "workers = 0", "[[cells]] number 2: workers = 0: expected `int` >= 1"),
        ("workers = 2", "worker = 2", "[[cells]] number 2: unknown key `worker`; the valid"),
        ('"bmuf"', '"gtc-bmf"', "[[cells]] number 2: method = 'gtc-bmf': expected aver"),
        ('"bmuf"\nworkers = 2', '"sgd"\nworkers = 1', "[[cells]] number 2: duplicate cell sgd"),
        ('"sgd"', '"gtc"', 'no cell with method = "sgd", workers = 1; other errors'),
        ("chosen = 0", "chosen = 1", "[[cells]] number 1: chosen = 1: expected 0 to 0, the ind"),
        ("tried", "cells", "[[cells]] number 1: unknown key `cells`; the valid keys are"),
        ("period=50", "period=0", "bmuf 2: bmuf: block_filter.period = 0: expected `int` >= 1"),
        ("period=50", 'period=5", "topology.group_size=3', "bmuf 2: topology.group_size = 3"),
        ("epochs=1", 'epochs=1", "corpus.path=x.h5', "sgd 1: corpus.path=x.h5: the study sets"),
        ("epochs=1", 'epochs=1", "train.seed=7', "sgd 1: train.seed=7: the study sets train.seed;"),
        ("period=1000", 'period=5", "exchange.kind=gtc', "bmuf 2: exchange.kind = gtc: expecte"),
        ('["block_filter.period=5"]]', '["block_filter.period= 5"], ["block_filter.period=5"]]',
         "bmuf 2: tried: two entries have the same settings"),
        ("workers = 2", "workers = 100001", "[[cells]] number 2: workers = 100001: expected `int`"),
        ('corpus = "CORPUS"', 'corpus = {preset = "bug", hours = 1}', "corpus: preset = 'bug': in"),
        ('corpus = "CORPUS"', 'corpus = {preset = "tiny", hours = inf}', "corpus: hours = inf: e"),
        ("[[choices]]", "[choices]", "choices = {'method': 'bmuf', 'workers': 2, "),
        ("[[choices]]", "[choices", "not a TOML file: "),
    ],
)  # fmt: skip
def test_an_invalid_preset_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.h5"
    write_corpus(corpus)
    path = tmp_path / "mine.toml"
    text = USER_PRESET.format(corpus="CORPUS", chosen="").replace(old, new, 1)
    assert old in USER_PRESET.format(corpus="CORPUS", chosen="")
    path.write_text(text.replace("CORPUS", str(corpus)))
    with pytest.raises(UserError) as error:
        read_preset(str(path))
    assert str(error.value).removeprefix("--preset ").startswith(f"{path}: {message}")


def test_an_invalid_preset_is_refused_before_any_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("corpus = 3\n")
    process = gtcbmuf("reproduce", "tuning", "--preset", "mine.toml", cwd=tmp_path)
    [line] = process.stderr.splitlines()
    assert (process.returncode, process.stdout) == (2, "")
    assert line.startswith("gtcbmuf: mine.toml: corpus = 3: ")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("big", "--preset big: expected full, large, quick, real, rivals-128, rivals-32, or a TO"),
        ("nowhere/mine.toml", "--preset nowhere/mine.toml: cannot be read: No such file"),
        (
            "...toml",
            "--preset ...toml: the file name names the results: expected letters, digits",
        ),
        ("my study.toml", "--preset my study.toml: the file name names the results: expected lett"),
        (
            "elsewhere/quick.toml",
            "--preset elsewhere/quick.toml: the file name names the results",
        ),
    ],
)
def test_an_invalid_name_of_a_preset_is_refused(source: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_preset(source)
    assert str(error.value).startswith(message)


def test_another_synthesis_has_other_runs(tmp_path: Path) -> None:
    def names(corpus: str) -> list[str]:
        text = USER_PRESET.format(corpus="", chosen="").replace('corpus = ""', f"corpus = {corpus}")
        (tmp_path / "mine.toml").write_text(text)
        return [run.name for run in tuning_runs(read_preset(str(tmp_path / "mine.toml")))]

    reference = names('{preset = "tiny", hours = 0.1}')
    assert reference == names('{hours = 0.1, preset = "tiny", seed = 0}')
    others = ('{preset = "tiny", hours = 0.2}', '{preset = "tiny", hours = 0.1, seed = 1}')
    assert len({reference[0], *(names(other)[0] for other in others)}) == 3


@pytest.mark.parametrize("name", ["corpus/a.h5", "2.5", "true", " a.h5", "1 #x.h5", 'a\'b="c".h5'])
def test_any_corpus_path_reaches_the_run(name: str) -> None:
    words = RunSpec("sgd", 1, 3, ()).arguments(Path(name), Path("out"))
    assignments = [value for word, value in pairwise(words) if word == "--set"]
    assert load_config("sgd", assignments).corpus.path == name


def test_synthetic_presets_are_those_of_the_corpus_command() -> None:
    assert set(get_args(get_type_hints(Synthesis)["preset"])) == set(PRESETS)


def test_a_missing_corpus_of_real_speech_is_refused(tmp_path: Path) -> None:
    done = gtcbmuf("reproduce", "tuning", "--preset", "real", "--results", "mine", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "gtcbmuf: corpus/amazon-queen/corpus.h5: no such file; scripts/real-speech amazon-queen "
        "writes it\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_missing_corpus_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(USER_PRESET.format(corpus="none.h5", chosen=""))
    with pytest.raises(UserError, match=r"^none.h5: no such file"):
        read_preset(str(tmp_path / "mine.toml"))
