"""The examples run as they are, and end with the results that they state."""

import ast
import csv
import re
import sys
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.launch import ROOT, gtcbmuf, mpirun

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def printed(script: str, cwd: Path) -> str:
    """Run a script on 4 ranks, and return its output."""
    done = mpirun(4, sys.executable, EXAMPLES / script, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_two_tiers_in_plain_numpy_reach_the_error_of_the_true_weights(tmp_path: Path) -> None:
    trained, true, sent = map(float, re.findall(r"([\d.]+) %", printed("plain_numpy.py", tmp_path)))
    assert 0 < true < trained < true + 2  # chance is 50
    assert 1 < sent < 5


def test_the_lstm_remembers_two_frames(tmp_path: Path) -> None:
    error, chance = map(float, re.findall(r"([\d.]+) %", printed("pytorch_lstm.py", tmp_path)))
    assert 5 < error < 15 < chance


def test_a_network_of_ones_own_is_trained_and_scored(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    write_corpus(tmp_path / "corpus/quickstart.h5")
    [error] = re.findall(r"^FER ([\d.]+) %", printed("own_model.py", tmp_path), re.MULTILINE)
    assert float(error) < 60  # chance is 92
    assert (tmp_path / "runs/softmax/model.h5").exists()


def test_the_study_compares_four_methods(tmp_path: Path) -> None:
    text = (EXAMPLES / "study.toml").read_text()
    commands = re.findall(
        r"^#     gtcbmuf (reproduce \S+ --preset) examples/study.toml$", text, re.M
    )
    small = text.replace("hours = 0.2", "hours = 0.05").replace("epochs=2", "epochs=1")
    assert small.count("0.05") == small.count("epochs=1") == 1
    # One setting a cell is enough to see that the file runs.
    small, removed = re.subn(r""",\s*\[[^]]*rate=2.4e-3"\],?""", "", small)
    assert removed == 4
    small = small.replace("chosen = 1", "chosen = 0")
    (tmp_path / "study.toml").write_text(small)
    for command in commands:
        done = gtcbmuf(*command.split(), "study.toml", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    tuning, table = (
        list(csv.DictReader((tmp_path / f"results/study/{name}.csv").open()))
        for name in ("tuning", "error_table")
    )
    assert len(tuning) == 4
    cells = [(row["method"], row["workers"], row["groups"]) for row in table]
    assert cells == [
        ("sgd", "1", "1"),
        ("gtc", "4", "1"),
        ("bmuf", "4", "4"),
        ("gtc-bmuf", "4", "2"),
    ]
    assert all(float(row["fer_test"]) < 90 for row in table)  # chance is 99


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_short_and_says_how_to_run_it(script: Path) -> None:
    text = script.read_text()
    assert len(text.splitlines()) < 80
    assert f"\n    mpirun -n 4 python examples/{script.name}\n" in (
        ast.get_docstring(ast.parse(text)) or ""
    )
    assert re.findall(r"^(?:from|import) (gtcbmuf.*)", text, re.MULTILINE) == ["gtcbmuf"]


def test_the_table_has_every_example() -> None:
    named = re.findall(r"^\| \[.*?\]\((.*?)\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".toml")}
    assert set(named) == files
