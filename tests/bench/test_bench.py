"""`gtcbmuf bench`: figures of each part, as a table and as JSON. Values are not tested."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from support.launch import gtcbmuf

from gtcbmuf.base.errors import UserError
from gtcbmuf.bench.figures import (
    Figure,
    summarise,
    time_in_turns,
    write_figures,
)


@pytest.mark.parametrize(
    ("part", "ranks", "name"),
    [
        (
            "kernels",
            0,
            "exchange of a gtc worker among 16 on a host, 0.2 M parameters, density 0.05",
        ),
        ("wire", 0, "decode block change, step 2"),
        ("step", 0, "gtc"),
        ("collectives", 2, "sum of signs of density 0.01, 2 ranks on 1 hosts"),
    ],
)
def test_every_part_reports_finite_figures(
    part: str, ranks: int, name: str, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "figures.json"
    process = gtcbmuf("bench", part, "--rounds", "1", "--json", out, ranks=ranks)
    assert process.returncode == 0, process.stderr
    content = json.loads(out.read_text())
    assert {"packages", "processor", "threads"} <= set(content["environment"])
    assert any(name in figure["what"] for figure in content["figures"])
    for figure in content["figures"]:
        assert math.isfinite(figure["value"])
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["what"] in process.stdout


def test_candidates_take_turns() -> None:
    calls: list[str] = []
    times = time_in_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        rounds=2,
        prepare=lambda: calls.append("-"),
    )
    assert calls == ["-", "a", "-", "b"] * 3
    assert {name: seconds.shape for name, seconds in times.items()} == {"a": (2,), "b": (2,)}


def test_a_figure_is_median_and_quartiles() -> None:
    assert summarise("x", np.arange(5.0), "s", 3) == Figure("x", 2, 1, 3, "s", 3)


def test_errors_are_one_line(tmp_path: Path) -> None:
    process = gtcbmuf("bench", "wire", "--rounds", "0")
    assert (process.returncode, process.stderr) == (2, "gtcbmuf: --rounds 0: expected 1 or more\n")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--json .*: cannot be written"):
        write_figures(tmp_path / "file" / "x.json", [])
