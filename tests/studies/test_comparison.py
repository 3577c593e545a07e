"""The comparison of methods: errors of runs, and costs modelled on several networks."""

import csv
import math
from pathlib import Path

import msgspec
import pytest
from support.clusters import COMPUTE, NETWORK
from support.launch import ROOT, gtcbmuf

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_csv
from gtcbmuf.studies.comparison import pareto_front, reproduce_comparison
from gtcbmuf.studies.preset_files import read_preset
from gtcbmuf.studies.presets import error_table_runs
from gtcbmuf.studies.results import read_results
from gtcbmuf.studies.trade_off import frame_sizes, run_costs

SLOW = msgspec.structs.replace(NETWORK, bandwidth_across=1e7)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    assert pareto_front([(2, 2), (1, 3), (3, 3), (2, 2), (1, math.nan), (0, 9)]) == [
        *(True, True, False, True, False, True)
    ]


def test_the_rows_are_errors_of_runs_and_costs_of_each_network(tmp_path: Path) -> None:
    quick = read_preset("quick")
    results = read_results(ROOT / "results/quick/error_table.csv")
    write_csv(tmp_path / "error_table.csv", [msgspec.structs.asdict(row) for row in results])
    networks = {"fast": NETWORK, "slow": SLOW}
    reproduce_comparison(quick, COMPUTE, networks, "a.toml", tmp_path)
    with (tmp_path / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(results)
    by_network = {name: [row for row in rows if row["network"] == name] for name in networks}
    for name, network in networks.items():
        of_network = by_network[name]
        errors = [float(row["fer"]) for row in of_network]
        assert errors == sorted(errors)
        for run in error_table_runs(quick):
            [result] = [row for row in results if run.matches(row)]
            [row] = [
                row
                for row in of_network
                if (row["method"], row["workers"]) == (run.method, str(run.workers))
            ]
            costs = run_costs(COMPUTE, network, run, result.density, *frame_sizes(quick))
            assert float(row["fer"]) == result.fer_test
            assert float(row["speed_up"]) == costs.speed_up
            assert float(row["bytes"]) == costs.worker_bytes
            assert float(row["seconds"]) == pytest.approx(result.steps * costs.step_seconds)
        front = pareto_front([(float(row["seconds"]), float(row["fer"])) for row in of_network])
        assert [row["on_front"] == "True" for row in of_network] == front

    table = (tmp_path / "comparison.md").read_text().splitlines()
    assert len(table) == 2 + len(results)
    sgd = next(float(row["increase"]) for row in rows if row["method"] == "sync-sgd")
    assert sgd > 1
    for line in table[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        reached = cells[6] == "" or float(cells[6].split()[0]) <= 1
        assert (cells[9].removesuffix(" *") != "-") == reached
    assert (tmp_path / "comparison.tex").read_text().startswith(r"\begin{tabular}")
    assert (tmp_path / "comparison.png").stat().st_size > 1000


def test_a_diverged_run_is_the_last_row(tmp_path: Path) -> None:
    quick = read_preset("quick")
    rows = [
        msgspec.structs.asdict(row) for row in read_results(ROOT / "results/quick/error_table.csv")
    ]
    nothing = {"fer_valid": math.nan, "fer_test": math.nan, "per_test": math.nan}
    rows = [
        row | nothing | {"density": math.nan, "steps": 0}
        if (row["method"], row["workers"]) == ("gtc", 32)
        else row
        for row in rows
    ]
    write_csv(tmp_path / "error_table.csv", rows)
    reproduce_comparison(quick, COMPUTE, {"fast": NETWORK}, "a.toml", tmp_path)
    *others, last = (tmp_path / "comparison.md").read_text().splitlines()[2:]
    cells = [cell.strip() for cell in last.strip("|").split("|")]
    assert (cells[0], cells[4:]) == ("gtc", ["diverged", "-", "-", "-", "-", "-"])
    errors = [float(line.split("|")[5]) for line in others]
    assert errors == sorted(errors)


def test_without_an_error_of_sgd_there_is_no_increase(tmp_path: Path) -> None:
    rows = read_results(ROOT / "results/quick/error_table.csv")
    nothing = {"fer_valid": math.nan, "fer_test": math.nan, "per_test": math.nan}
    table = [msgspec.structs.asdict(row) for row in rows]
    table = [row | nothing if row["method"] == "sgd" else row for row in table]
    write_csv(tmp_path / "error_table.csv", table)
    reproduce_comparison(read_preset("quick"), COMPUTE, {"fast": NETWORK}, "a.toml", tmp_path)
    lines = (tmp_path / "comparison.md").read_text().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    cells = [row for row in cells if len(row) > 6]
    assert [row[6] for row in cells if row[0] != "sgd"] == ["-"] * (len(rows) - 1)
    assert "nan" not in str(cells)


def test_without_runs_there_is_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make it with `gtcbmuf reproduce error-table`"):
        reproduce_comparison(read_preset("quick"), COMPUTE, {"a": NETWORK}, "a", tmp_path)


def test_only_a_comparison_takes_several_networks(tmp_path: Path) -> None:
    options = ("--cluster", "c.toml", "--network", "a.toml", "b.toml", "--results", tmp_path)
    done = gtcbmuf("reproduce", "trade-off", *options)
    assert done.returncode == 2
    assert done.stderr == "gtcbmuf: --network: 2 files; expected one for trade-off\n"


def test_networks_are_told_apart_by_the_names_of_their_files(tmp_path: Path) -> None:
    options = ("--cluster", "c.toml", "--network", "a/x.toml", "b/x.toml", "--results", tmp_path)
    done = gtcbmuf("reproduce", "comparison", *options)
    assert done.returncode == 2
    assert done.stderr == "gtcbmuf: --network: x, x: expected files with different names\n"
