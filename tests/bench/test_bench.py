"""`gtcbmuf bench`: figures of each part, as a table and as JSON. How good they are is no test."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from support.launch import ROOT, gtcbmuf

from gtcbmuf.base.errors import UserError
from gtcbmuf.bench.figures import (
    Figure,
    format_figures,
    insert_table,
    read_figures,
    summarise,
    time_in_turns,
    write_figures,
)


@pytest.mark.parametrize(
    ("part", "ranks", "what"),
    [
        ("kernels", 0, "threshold and compact 8 M parameters, density 0.001"),
        ("wire", 0, "decode"),
        ("step", 0, "gtc"),
        ("scale", 2, "threads of BLAS or Numba"),
        ("collectives", 2, "step with overlap, dense, 2 ranks on 1 hosts"),
    ],
)
def test_a_part_measures(part: str, ranks: int, what: str, tmp_path: Path) -> None:
    out = tmp_path / "new" / "figures.json"
    done = gtcbmuf("bench", part, "--rounds", "1", "--json", out, ranks=ranks)
    assert done.returncode == 0, done.stderr
    whole = json.loads(out.read_text())
    assert {"packages", "processor", "threads"} <= set(whole["environment"])
    assert any(what in one["what"] for one in whole["figures"])
    for one in whole["figures"]:
        assert math.isfinite(one["value"])
        assert one["low"] <= one["value"] <= one["high"]
        assert one["what"] in done.stdout


def test_candidates_take_turns() -> None:
    calls: list[str] = []
    times = time_in_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        rounds=2,
        prepare=lambda: calls.append("-"),
    )
    assert calls == ["-", "a", "-", "b"] * 3
    assert {name: taken.shape for name, taken in times.items()} == {"a": (2,), "b": (2,)}


def test_a_figure_is_median_and_quartiles() -> None:
    assert summarise("x", np.arange(5.0), "s", 3) == Figure("x", 2, 1, 3, "s", 3)


def test_faults_end_in_one_line(tmp_path: Path) -> None:
    done = gtcbmuf("bench", "wire", "--rounds", "0")
    assert (done.returncode, done.stderr) == (2, "gtcbmuf: --rounds 0: expected 1 or more\n")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--json .*: cannot be written"):
        write_figures(tmp_path / "file" / "x.json", [])


def test_a_table_goes_between_its_marks(tmp_path: Path) -> None:
    page, figures = tmp_path / "page.md", [summarise("x", np.arange(5.0), "s")]
    page.write_text("a\n<!-- bench wire -->\nold\n<!-- end of bench wire -->\nb\n")
    insert_table(page, "wire", figures)
    insert_table(page, "wire", figures)
    inside = format_figures(figures)
    assert page.read_text() == (
        f"a\n<!-- bench wire -->\n{inside}\n<!-- end of bench wire -->\nb\n"
    )
    with pytest.raises(UserError, match="expected <!-- bench step -->"):
        insert_table(page, "step", figures)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "results/bench").glob("*.json")), ids=lambda p: p.stem
)
def test_the_readme_has_the_figures_that_were_measured(path: Path) -> None:
    assert format_figures(read_figures(path)) in (ROOT / "README.md").read_text()
