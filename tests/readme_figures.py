"""The README's quickstart table against the run that was just made: for .ci/run, after it."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def rows() -> list[list[str]]:
    table = (ROOT / "README.md").read_text().partition("quickstart table")[2].partition("\n\n")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_readme_shows_what_the_quickstart_prints(row: list[str]) -> None:
    method, workers, groups, fer, increase, per, _, bytes_sent, density = row
    runs = ROOT / "runs/quickstart"
    summary = json.loads((runs / method / "summary.json").read_text())
    sgd = json.loads((runs / "sgd/summary.json").read_text())["fer_test"]
    assert (summary["workers"], summary["groups"]) == (int(workers), int(groups))
    # Another processor's BLAS rounds otherwise: what two seeds differ by, not more.
    assert float(fer) == pytest.approx(summary["fer_test"], rel=0.02)
    # The decoder is tuned anew, on the flat ridge of a small valid set: the AVX2 and the AVX-512
    # kernels of OpenBLAS end 6.5 % apart with gtc.
    assert float(per) == pytest.approx(summary["per_test"], rel=0.08)
    if increase != "-":
        relative = 100 * (summary["fer_test"] / sgd - 1)
        assert float(increase) == pytest.approx(relative, abs=2)
    assert float(bytes_sent.replace(",", "")) == pytest.approx(
        summary["bytes_sent_per_step"], rel=0.05
    )
    assert float(density.replace("-", "0")) == pytest.approx(100 * summary["density"], rel=0.05)


def test_all_six_are_there_and_the_hybrid_is_near_sgd() -> None:
    methods = [row[0] for row in rows()]
    assert methods == ["sgd", "sync-sgd", "gtc", "averaging", "bmuf", "gtc-bmuf"]
    fer = {row[0]: float(row[3]) for row in rows()}
    assert fer["gtc-bmuf"] == pytest.approx(fer["sgd"], rel=0.05)
