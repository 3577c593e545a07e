"""The error table against its formulas, from results that are written by hand."""

import csv
import math
from pathlib import Path

import msgspec
import pytest
from matplotlib.axes import Axes
from support.studies import result

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_csv
from gtcbmuf.studies.error_table import (
    error_rows,
    format_error_latex,
    format_error_table,
    write_error_table,
)
from gtcbmuf.studies.results import Result, read_results

HEADER = ",".join(Result.__struct_fields__)
ROW = "\nsgd,1,1,0,40,40,20,0,1,1,c,c,c\nsgd,one" + 11 * ","
RESULTS = [
    *(result("sgd", 1, seed, fer) for seed, fer in enumerate([40.0, 40.4, 39.6])),
    result("gtc", 64, 0, 44.0),
    result("gtc-bmuf", 64, 0, 40.0, groups=8),
    result("gtc-bmuf", 64, 1, 41.0, groups=8),
    result("gtc-bmuf", 32, 0, 38.0, groups=4),
    result("gtc", 8, 0, 40.2),
]


def test_rows_are_means_and_increases_over_the_mean_of_sgd() -> None:
    rows = error_rows(RESULTS)
    cells = [(row.method, row.workers) for row in rows]
    assert cells == [("sgd", 1), ("gtc", 8), ("gtc", 64), ("gtc-bmuf", 32), ("gtc-bmuf", 64)]
    by_cell = dict(zip(cells, rows, strict=True))
    assert by_cell["sgd", 1].increase == pytest.approx(0)
    assert by_cell["gtc", 64].increase == pytest.approx(10)
    assert by_cell["gtc", 64].deviation is None  # one seed
    hybrid = by_cell["gtc-bmuf", 64]
    assert (hybrid.seeds, hybrid.groups, hybrid.fer, hybrid.per) == (2, 8, 40.5, 20.25)
    assert hybrid.increase == pytest.approx(1.25)
    # The quotient of two independent means: relative deviations add in squares.
    spread = math.sqrt((0.5**0.5 / 40.5) ** 2 + (0.4 / 40) ** 2)
    assert hybrid.deviation == pytest.approx(100 * 40.5 / 40 * spread)
    assert [row.paper for row in rows] == ["", "", "+2.8", "fell", "+3.1"]


def test_another_study_has_nothing_of_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(Axes, "plot", lambda axes, *data, **style: drawn.append(data))
    monkeypatch.setattr(Axes, "set_xticks", lambda axes, ticks, labels: drawn.append(labels))
    table = write_error_table(RESULTS, tmp_path, with_paper=False)
    assert [list(labels) for labels in drawn] == [["8", "32", "64"]]
    for text in (table, *(path.read_text() for path in tmp_path.glob("*.[cmt]*"))):
        assert "paper" not in text
        assert "fell" not in text
    assert read_results(tmp_path / "error_table.csv") == RESULTS


def test_over_an_sgd_that_makes_no_error_there_is_no_increase(tmp_path: Path) -> None:
    runs = [result("sgd", 1, 1, 0.0), result("sgd", 1, 2, 0.0), *RESULTS[3:]]
    assert [row.increase for row in error_rows(runs) if not math.isnan(row.increase)] == []
    assert "nan" not in write_error_table(runs, tmp_path)
    diverged = [result("sgd", 1, 1, math.nan), *RESULTS[3:]]
    assert format_error_table(error_rows(diverged)).count("diverged") == 1


def test_rows_of_other_runs_stay_in_the_file(tmp_path: Path) -> None:
    write_error_table(RESULTS, tmp_path)
    new = [*RESULTS[:3], result("gtc", 64, 0, 43.0, config="another")]
    table = write_error_table(new, tmp_path)
    assert "43.00" in table
    assert "44.00" not in table
    rows = read_results(tmp_path / "error_table.csv")
    assert rows == [*new, *RESULTS[3:]]


def test_what_rounds_to_nothing_has_no_minus() -> None:
    runs = [result("sgd", 1, 1, 40.0), result("gtc", 8, 1, 39.999), result("bmuf", 8, 1, 39.9)]
    increases = [
        line.split("|")[7].strip() for line in format_error_table(error_rows(runs)).splitlines()
    ]
    assert increases[3:] == ["+0.0 (1 seed)", "-0.3 (1 seed)"]


def test_what_diverged_is_said_so() -> None:
    rows = error_rows([*RESULTS, result("sync-sgd", 64, 0, math.nan)])
    assert format_error_table(rows).splitlines()[-1].split()[13] == "diverged"


@pytest.mark.parametrize("method", ["gtc-bmuf", "sgd"])
def test_one_seed_that_diverged_of_several(method: str, tmp_path: Path) -> None:
    workers = 1 if method == "sgd" else 64
    write_error_table([*RESULTS, result(method, workers, 9, math.nan, groups=8)], tmp_path)
    [row] = [
        line
        for line in (tmp_path / "error_table.md").read_text().splitlines()
        if line.startswith(f"| {method} ") and f" {workers} |" in line
    ]
    assert "diverged" in row
    assert "±" not in row


def test_without_sgd_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    write_error_table(RESULTS[3:], tmp_path)
    assert not list(tmp_path.iterdir())


def test_markdown_and_latex_have_the_same_cells() -> None:
    rows = error_rows(RESULTS)
    markdown = format_error_table(rows).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown]
    assert ["gtc-bmuf", "64", "8", "2", "40.50", "20.25", "+1.2 ± 2.0", "+3.1"] in cells
    assert ["gtc-bmuf", "32", "4", "1", "38.00", "19.00", "-5.0 (1 seed)", "fell"] in cells
    latex = format_error_latex(rows)
    assert r"gtc-bmuf & 64 & 8 & 2 & 40.50 & 20.25 & +1.2 $\pm$ 2.0 & +3.1 \\" in latex
    assert latex.startswith(r"\begin{tabular}{lrrrrrrr}")
    assert latex.count(r"\\") == 1 + len(rows)


def test_everything_is_written_and_can_be_read_again(tmp_path: Path) -> None:
    write_error_table(RESULTS, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"error_table.{ending}" for ending in ("csv", "md", "tex", "png")
    }
    assert (tmp_path / "error_table.png").read_bytes().startswith(b"\x89PNG")
    assert read_results(tmp_path / "error_table.csv") == RESULTS
    with (tmp_path / "error_table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["increase_mean"] for line in lines][3:5] == ["10.0", "1.25"]
    assert [line["increase_sd"] for line in lines][3] == ""
    assert [line["increase_paper"] for line in lines][4:7] == ["+3.1", "+3.1", "fell"]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/error_table.csv: .* Not a directory"):
        write_error_table(RESULTS, tmp_path / "file")


def test_where_no_phones_are_known_there_is_no_per(tmp_path: Path) -> None:
    runs = [msgspec.structs.replace(run, per_test=math.nan) for run in RESULTS]
    table = write_error_table(runs, tmp_path)
    assert table.count(" - |") == 5
    assert "nan" not in table


@pytest.mark.parametrize(
    "text", ["", "method,workers\nsgd,1\n", '"', "\0", f"{HEADER}\nsgd,1\n", f"{HEADER}{ROW}x\n"]
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "error_table.csv"
    path.write_text(text)
    with pytest.raises(UserError, match="not a results file"):
        read_results(path)


def test_no_file_has_no_results(tmp_path: Path) -> None:
    assert read_results(tmp_path / "none.csv") == []


def test_a_table_has_the_columns_of_its_first_row(tmp_path: Path) -> None:
    write_csv(tmp_path / "new/table.csv", [{"a": 1, "b": "x, y"}, {"a": 2, "b": ""}])
    assert (tmp_path / "new/table.csv").read_text() == 'a,b\n1,"x, y"\n2,\n'
