"""Plans: cluster files, what is refused, what is recommended, and the speed-up table."""

import csv
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from launch import ROOT, gtcbmuf
from test_costs import COMPUTE, NETWORK
from test_error_table import result

from gtcbmuf import cluster, paper, plan, results, speedup_table
from gtcbmuf.bench import Figure
from gtcbmuf.cluster import Cluster
from gtcbmuf.costs import Method, step_time
from gtcbmuf.errors import UserError
from gtcbmuf.plan import Plan
from gtcbmuf.runlog import processor

PLAN = Plan(COMPUTE, NETWORK, parameters=5_000_000, minibatch=256, density=0.001, period=50)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A cluster of this host's processors."""
    path = tmp_path / "new" / "cluster.toml"
    cluster.write(path, Cluster(cluster.VERSION, "given", processor(), COMPUTE, NETWORK))
    return path


def test_a_cluster_is_read_as_it_was_written(file: Path) -> None:
    assert plan.read(file, None, elsewhere=False) == (COMPUTE, NETWORK)
    other = file.with_name("network.toml")
    cluster.write(other, Cluster(cluster.VERSION, "given", network=NETWORK))
    assert plan.read(file, other, elsewhere=False) == (COMPUTE, NETWORK)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "bandwidth_across = 1000000000.0",
            "bandwidth_across = -1e9",
            "network.bandwidth_across = -1000000000.0: expected `float` > 0.0",
        ),
        (
            "bandwidth_within = 5000000000.0",
            "bandwidth_within = nan",
            "network.bandwidth_within = nan: expected",
        ),
        ("workers_per_host = 4", "workers_per_host = 0", "network.workers_per_host"),
        ("latency_across", "latency", "latency"),
        ("step = 0.0001", "step = 'fast'", "compute.step = 'fast': expected `float`"),
        ("version = 1", "version = 2", "version = 2; expected 1: calibrate again"),
        ("[compute]", "[compute", "not TOML"),
        ("processor = ", "processor = 'another'\n#", "measured on 'another', but this host has"),
        ("[compute]", "[other]", "unknown field"),
    ],
)
def test_a_faulty_cluster_is_refused_in_one_line(file: Path, old: str, new: str, says: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    done = gtcbmuf("plan", "--workers", "8", "--parameters", "1e6", "--cluster", file)
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith(f"gtcbmuf: {file}: ")
    assert says in line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--workers", "1"], "--workers 1: expected 2 or more"),
        (["--group-size", "3"], "--group-size 3: expected a number that divides 8 workers"),
        (["--group-size", "0"], "--group-size 0: expected a number that divides 8 workers"),
        (["--density", "0"], "--density 0: expected a share above 0, up to 1"),
        (["--density", "nan"], "--density nan: expected a share above 0, up to 1"),
        (["--period", "0"], "--period 0: expected 1 or more"),
        (["--minibatch", "-1"], "--minibatch -1: expected 1 or more"),
        (["--parameters", "0.3"], "--parameters 0.3: expected a whole number, 1 or more"),
        (["--parameters", "inf"], "--parameters inf: expected a whole number, 1 or more"),
        (["--epochs", "0"], "--epochs 0: expected 1 or more"),
        (["--hours", "nan"], "--hours nan: expected more than 0"),
        (["--most", "1"], "--most 1: expected 2 or more"),
        (["--network", "nowhere.toml"], "nowhere.toml: cannot be read"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(
    file: Path, words: list[str], says: str
) -> None:
    given_ = ("--workers", "8", "--parameters", "1e6", "--cluster", file)
    done = gtcbmuf("plan", *given_, *words)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"gtcbmuf: {says}")


def test_a_plan_tells_every_method_and_says_that_it_is_modelled(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    done = gtcbmuf(
        *("plan", "--workers", "16", "--parameters", "5e6", "--cluster", file),
        *("--most", "64", "--plot", picture),
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line[:1] == "|"]
    assert rows[2:9] == ["sgd", "sync-sgd", "gtc", "bmuf", *3 * ["gtc-bmuf"]]
    assert "modelled" in done.stdout
    assert picture.stat().st_size > 1000


def test_without_a_part_that_it_needs_it_says_how_to_get_it(file: Path) -> None:
    with pytest.raises(UserError, match="--cluster: expected a file that `gtcbmuf calibrate"):
        plan.read(None, None, elsewhere=False)
    for missing, says in (("compute", "has no .compute."), ("network", "has no .network.")):
        parts = {"compute": COMPUTE, "network": NETWORK, missing: None}
        cluster.write(file, Cluster(cluster.VERSION, "given", processor(), **parts))
        with pytest.raises(UserError, match=says):
            plan.read(file, None, elsewhere=False)


def test_a_calibration_is_what_a_plan_needs(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    done = gtcbmuf("calibrate", "--rounds", "1", "--out", file, ranks=2)
    assert done.returncode == 0, done.stderr
    found = cluster.read(file)
    assert found.compute is not None
    assert found.network is None  # there was one host
    assert 0 < found.compute.frame_parameter < 1e-7
    assert 0 < found.compute.encode_parameter < 1e-6
    assert found.source.startswith("measured ")
    cluster.write(tmp_path / "net.toml", Cluster(cluster.VERSION, "given", network=NETWORK))
    compute, network = plan.read(file, tmp_path / "net.toml", elsewhere=False)
    assert (compute, network) == (found.compute, NETWORK)


@given(st.sampled_from([2, 4, 16, 64]), st.floats(1e-4, 0.1), st.integers(1, 200))
def test_what_is_enough_is_nearly_the_best(workers: int, density: float, period: int) -> None:
    made = replace(PLAN, density=density, period=period)
    for method in made.methods(workers).values():
        best_period, best_density = made.enough(method)
        if best_period is not None:
            speeds = [
                made.speed_up(replace(method, period=k))
                for k in (1, 2, 5, 10, 20, 50, 100, 200, 500)
            ]
            assert made.speed_up(replace(method, period=best_period)) >= 0.95 * max(speeds)
        assert (best_density is None) == (method.density is None)


def test_no_method_is_faster_than_its_workers_and_the_wire_decides() -> None:
    slow = replace(PLAN, network=replace_network(bandwidth_across=1e6))
    for workers in (8, 64, 512):
        for name, method in PLAN.methods(workers).items():
            assert PLAN.speed_up(method) <= workers
            assert slow.speed_up(method) < PLAN.speed_up(method), name
    by = plan.curves(slow, [2**power for power in range(1, 11)])
    assert plan.pays_until(by["sync-sgd"]) < plan.pays_until(by["gtc-bmuf"])


def replace_network(**values: float) -> cluster.Network:
    return msgspec.structs.replace(NETWORK, **values)


def test_the_speed_up_table_never_mixes_its_columns(tmp_path: Path) -> None:
    def step(method: str, workers: int, seconds: float, parameters: int = 5_000_000) -> Figure:
        facts = {"method": method, "workers": workers, "parameters": parameters}
        return Figure("step", seconds, seconds, seconds, "s", facts=facts)

    measured = [step("sgd", 1, 0.1), step("gtc", 2, 0.125), step("bmuf", 2, 0.1, 7)]
    found = speedup_table.rows(PLAN, measured)
    by = {(row.method, row.workers): row for row in found}
    assert by["gtc", 2].measured == pytest.approx(1.6)
    assert by["gtc", 2].modelled == pytest.approx(PLAN.speed_up(Method(2, 2, 0.001)))
    assert by["gtc", 2].paper is None
    assert by["bmuf", 2].measured is None  # of another model
    assert {c: row.paper for c, row in by.items() if row.paper is not None} == paper.SPEED_UPS
    assert all(row.measured is None for cell, row in by.items() if cell[1] > 2)

    errors = [result("sgd", 1, 1, 40.0), result("gtc", 32, 1, 41.0)]
    speedup_table.write(found, errors, {("gtc", 32): 20.0}, tmp_path)
    with (tmp_path / "speedup_table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {(line["method"], int(line["workers"])): line["measured"] for line in lines} == {
        cell: "" if row.measured is None else str(row.measured) for cell, row in by.items()
    }
    for name in ("speedup_table.md", "speedup_table.tex", "speedup_table.png", "trade_off.png"):
        assert (tmp_path / name).stat().st_size > 100


def test_the_trade_off_is_of_what_each_run_did() -> None:
    runs = results.read(ROOT / "results/quick/error_table.csv")
    by = {(run.method, run.workers): speedup_table.method_of(run) for run in runs}
    assert by["sgd", 1] == Method(1, 1)
    assert by["sync-sgd", 32] == Method(32, 32)
    hybrid = next(run for run in runs if (run.method, run.workers) == ("gtc-bmuf", 32))
    period = int(hybrid.command.partition("block_filter.period=")[2].split()[0])
    assert by["gtc-bmuf", 32] == Method(32, 32 // hybrid.groups, hybrid.density, period)
    assert by["bmuf", 8].density is None
    assert by["bmuf", 8].group_size == 1


def test_how_sure_a_plan_is_comes_from_measured_steps() -> None:
    with (ROOT / "results/plan/steps.csv").open() as file:
        lines = list(csv.DictReader(file))
    off = [abs(float(line["predicted"]) / float(line["measured"]) - 1) for line in lines]
    assert (round(np.median(off), 2), round(np.quantile(off, 0.9), 2)) == plan.OFF
    page = (ROOT / "docs/plan.md").read_text()
    told = f"Of {len(off)} steps the predictions are off by {np.median(off):.1%}"
    assert told.replace("%", " %") in page


def test_those_predictions_are_what_the_model_says_today() -> None:
    with (ROOT / "results/plan/steps.csv").open() as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        found = cluster.read(ROOT / f"results/plan/{line['rate']}.toml")
        assert found.compute
        assert found.network
        workers, hosts = int(line["workers"]), int(line["hosts"])
        here = {"workers_per_host": workers // hosts, "cores_per_host": 2 / hosts}
        time = step_time(
            found.compute,
            msgspec.structs.replace(found.network, **here),
            Method(
                workers,
                int(line["group_size"]),
                float(line["density"]) if line["density"] else None,
                int(line["period"]) if line["period"] else None,
            ),
            parameters=int(line["parameters"]),
            minibatch=int(line["minibatch"]),
        )
        assert time.sum == pytest.approx(float(line["predicted"]), abs=2e-6)
