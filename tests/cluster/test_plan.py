"""Plans: cluster files, refused options, recommended settings, and the speed-up table."""

import csv
import os
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from support.clusters import COMPUTE, NETWORK, method
from support.launch import ROOT, gtcbmuf, mpirun, run

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.provenance import processor
from gtcbmuf.base.shapes import square_matrices
from gtcbmuf.bench.figures import Figure
from gtcbmuf.cluster import calibrate
from gtcbmuf.cluster.costs import SLICES, Method, link_bytes, step_time
from gtcbmuf.cluster.placement import group_sizes
from gtcbmuf.cluster.plan import (
    PERIODS,
    Plan,
    check_plan,
    pays_until,
    read_cluster,
    speed_up_curves,
)
from gtcbmuf.cluster.plan_report import PREDICTION_ERRORS, format_caveats
from gtcbmuf.cluster.profile import (
    VERSION,
    ClusterProfile,
    Compute,
    Network,
    read_profile,
    write_profile,
)
from gtcbmuf.config.loading import load_config
from gtcbmuf.studies import measured_speed_ups, paper, speedup_table

#: Steps that scripts/hold-costs measured, on two machines.
STEPS = [ROOT / "results/plan/steps.csv", ROOT / "results/plan/intel/steps.csv"]
PLAN = Plan(COMPUTE, NETWORK, parameters=5_000_000, minibatch=256, density=0.001, period=50)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A cluster file for this host's processor."""
    path = tmp_path / "new" / "cluster.toml"
    write_profile(path, ClusterProfile(VERSION, "given", processor(), COMPUTE, NETWORK))
    return path


def test_a_cluster_file_is_read_back_unchanged(file: Path) -> None:
    assert read_cluster(file, None, elsewhere=False) == (COMPUTE, NETWORK)
    other = file.with_name("network.toml")
    write_profile(other, ClusterProfile(VERSION, "given", network=NETWORK))
    assert read_cluster(file, other, elsewhere=False) == (COMPUTE, NETWORK)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "bandwidth_across = 1000000000.0",
            "bandwidth_across = -1e9",
            "network.bandwidth_across = -1000000000.0: expected `float` >= 1.0",
        ),
        (
            "bandwidth_within = 5000000000.0",
            "bandwidth_within = nan",
            "network.bandwidth_within = nan: expected",
        ),
        (
            "bandwidth_within = 5000000000.0",
            "bandwidth_within = inf",
            "network.bandwidth_within = inf: expected `float` <= 1e+18",
        ),
        (
            "latency_across = 2e-05",
            "latency_across = inf",
            "network.latency_across = inf: expected",
        ),
        ("latency_across = 2e-05", f"latency_across = {'9' * 400}", "network.latency_across = 999"),
        ("frame_parameter = 1e-10", "frame_parameter = 1e-320", "compute.frame_parameter = 1e-320"),
        ("deviation = 0.1", "deviation = nan", "compute.deviation = nan: expected"),
        ("cores_per_host = 4", "cores_per_host = 0.0", "cores_per_host = 0.0: expected `float`"),
        ("workers_per_host = 4", "workers_per_host = 0", "network.workers_per_host"),
        ("workers_per_host = 4", f"workers_per_host = {10**30}", "network.workers_per_host = 1000"),
        ("latency_across", "latency", "latency"),
        ("step = 0.0001", "step = 'fast'", "compute.step = 'fast': expected `float`"),
        ("version = 2", "version = 1", "version = 1: expected 2; calibrate again"),
        ("    3e-10,", "    -1.0,", "compute.dense_parameter[1] = [2e-10, -1.0]: expected"),
        ("[compute]", "[compute", "not a TOML file"),
        ("processor = ", "processor = 'another'\n#", "measured on 'another', but this host has"),
        ("processor = ", "# ", "no key processor; add processor = "),
        ("[compute]", "[other]", "unknown field"),
    ],
)
def test_an_invalid_cluster_file_is_refused_in_one_line(
    file: Path, old: str, new: str, message: str
) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    process = gtcbmuf("plan", "--workers", "8", "--parameters", "1e6", "--cluster", file)
    [line] = process.stderr.splitlines()
    assert (process.returncode, process.stdout) == (2, "")
    assert line.startswith(f"gtcbmuf: {file}: ")
    assert message in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "1"], "--workers 1: expected 2 to 10,000,000"),
        (["--workers", f"{10**24}"], f"--workers {10**24}: expected 2 to 10,000,000"),
        (["--workers", "9" * 400], f"--workers {'9' * 400}: expected 2 to 10,000,000"),
        (["--workers-per-host", "0"], "--workers-per-host 0: expected 1 to 10,000"),
        (["--group-size", "3"], "--group-size 3: does not divide the 8 workers; expected 2, 4"),
        (["--group-size", "0"], "--group-size 0: does not divide the 8 workers; expected 2, 4"),
        (["--group-size", "8"], "--group-size 8: one group of all 8 workers is gtc, not a hybrid"),
        (["--group-size", "1"], "--group-size 1: groups of one worker are bmuf, not a hybrid"),
        (
            ["--workers", "7", "--group-size", "2"],
            "--group-size 2: does not divide the 7 workers; expected a number of workers that is",
        ),
        (["--density", "0"], "--density 0: expected 1e-09 to 1"),
        (["--density", "1e-17"], "--density 1e-17: expected 1e-09 to 1"),
        (["--density", "nan"], "--density nan: expected 1e-09 to 1"),
        (["--step", "0"], "--step 0: expected 0.001 to 100"),
        (["--step", "nan"], "--step nan: expected 0.001 to 100"),
        (["--bits", "16", "--overlap"], "--bits 16: expected 32 with --overlap"),
        (["--delay", "50"], "--delay 50: expected 0 to 49, below the period"),
        (["--delay", "-1"], "--delay -1: expected 0 to 49, below the period"),
        (["--period", "0"], "--period 0: expected 1 to 2,147,483,647"),
        (["--minibatch", "-1"], "--minibatch -1: expected 1 to 1,048,576"),
        (["--minibatch", f"{10**400}"], "--minibatch 1000"),
        (["--parameters", "0.3"], "--parameters 0.3: expected 1 to 2,147,483,647"),
        (["--parameters", "1.5"], "--parameters 1.5: expected a whole number"),
        (["--parameters", "inf"], "--parameters inf: expected 1 to 2,147,483,647"),
        (["--parameters", "1e300"], "--parameters 1e+300: expected 1 to 2,147,483,647"),
        (["--epochs", "0"], "--epochs 0: expected 1 to 1,000,000"),
        (["--hours", "nan"], "--hours nan: expected 1e-09 to 1,000,000,000"),
        (["--hours", "inf"], "--hours inf: expected 1e-09 to 1,000,000,000"),
        (["--most", "1"], "--most 1: expected 2 to 10,000,000"),
        (["--network", "nowhere.toml"], "nowhere.toml: cannot be read"),
        (["--plot", "/proc/plan.png"], "--plot /proc/plan.png: cannot be drawn"),
        (["--plot", "plan.nosuch"], "--plot plan.nosuch: cannot be drawn"),
    ],
)
def test_an_invalid_option_of_a_plan_is_refused_in_one_line(
    file: Path, words: list[str], message: str
) -> None:
    options = ("--workers", "8", "--parameters", "1e6", "--cluster", file)
    process = gtcbmuf("plan", *options, *words)
    assert (process.returncode, process.stdout) == (2, "")
    [line] = process.stderr.splitlines()
    assert line.startswith(f"gtcbmuf: {message}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "nosuch"], "--preset nosuch: expected full, large, quick"),
        (
            [],
            "{results}/quick/error_table.csv: no such file, or no run of sgd and another method of",
        ),
    ],
)
def test_a_trade_off_without_its_inputs_is_refused(
    file: Path, words: list[str], message: str
) -> None:
    folder = file.parent
    process = gtcbmuf("reproduce", "trade-off", "--cluster", file, "--results", folder, *words)
    assert (process.returncode, process.stdout) == (2, "")
    [line] = process.stderr.splitlines()
    assert line.startswith(f"gtcbmuf: {message.format(results=folder)}")


SECONDS = [name for name in Compute.__struct_fields__ if name != "deviation"]
finite = st.floats(0, 1e3)


def numbers_of(name: str) -> st.SearchStrategy[object]:
    if isinstance(getattr(COMPUTE, name), tuple):
        return st.tuples(finite, finite)
    return st.floats(1e-18, 1e3) if name == "frame_parameter" else finite


@given(
    st.builds(
        Compute,
        *(numbers_of(name) for name in SECONDS),
        deviation=st.floats(0, 100),
    ),
    st.builds(
        Network,
        *(finite, finite, st.floats(1, 1e18), st.floats(1, 1e18), st.integers(1, 10_000)),
        st.floats(1e-3, 1e6),
    ),
    st.fixed_dictionaries(
        {
            "parameters": st.integers(1, 2**31 - 1),
            "minibatch": st.integers(1, 2**20),
            "density": st.floats(1e-9, 1),
            "period": st.integers(1, 2**31 - 1),
            "block_step": st.floats(0.001, 100),
        }
    ),
    st.integers(2, 10_000_000),
    st.sampled_from([{"bits": 32}, {"bits": 16}, {"bits": 8}, {"overlap": True}]),
    st.sampled_from([0, 1, 1000]),
)
def test_any_valid_plan_has_finite_figures(
    compute: Compute,
    network: Network,
    sizes: dict[str, float],
    workers: int,
    dense: dict[str, int],
    delay: int,
) -> None:
    delay = min(delay, int(sizes["period"]) - 1)
    plan = Plan(compute, network, **sizes, **dense, delay=delay)  # type: ignore[arg-type]
    check_plan(plan, workers, most=2, hours=1, epochs=1)
    methods = plan.methods(workers).values()
    speed_ups = [plan.speed_up(method) for method in methods]
    for one in methods:
        period, _ = plan.sufficient_settings(one)
        assert period is None or period > one.block_filter.late_steps
    assert all(np.isfinite(speed_up) and speed_up > 0 for speed_up in speed_ups)
    assert all(np.isfinite(link_bytes(method, plan.shapes, 8)) for method in methods)


def test_a_plan_lists_every_method_and_says_that_it_is_modelled(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    process = gtcbmuf(
        *("plan", "--workers", "16", "--parameters", "5e6", "--cluster", file),
        *("--most", "64", "--plot", picture),
    )
    assert process.returncode == 0, process.stderr
    rows = [line.split("|")[1].strip() for line in process.stdout.splitlines() if line[:1] == "|"]
    hybrids = [one.name for one in PLAN.hybrids(16)]
    assert Counter(hybrids) == {"gtc-bmuf": 3, "one-bit-bmuf": 3, "gtc-diloco": 3}
    methods = ["sgd", *PLAN.single_tier_methods(16), *hybrids]
    assert {"sync-sgd", "gtc", "bmuf"} < set(methods)
    assert rows[2 : 2 + len(methods)] == methods
    _, second = process.stdout.split("\n\n")[:2]
    numbers = [cell.strip() for cell in second.splitlines()[0].split("|")[1:-1]]
    assert numbers == ["workers", "2", "4", "8", "16", "32", "64", "pays until"]
    names = {*PLAN.methods(16), *(f"{name}, groups of" for name in hybrids)}
    assert sorted(rows[4 + len(methods) :]) == sorted(names)
    assert "modelled, not measured" in process.stdout
    assert picture.stat().st_size > 1000


def test_workers_per_host_is_an_option_of_a_plan(file: Path) -> None:
    def bmuf_rows(*words: str) -> list[list[str]]:
        options = ("--workers", "24", "--parameters", "5e6", "--cluster", file)
        process = gtcbmuf("plan", *options, *words)
        assert process.returncode == 0, process.stderr
        assert ("share the 4 cores" in process.stdout) == bool(words)
        [table, *_] = process.stdout.split("\n\n")
        lines = [line for line in table.splitlines() if line.startswith("| bmuf")]
        return [[cell.strip() for cell in line.split("|")] for line in lines]

    [four], [twelve] = bmuf_rows(), bmuf_rows("--workers-per-host", "12")
    hours, node_hours = 7, 8
    assert float(four[node_hours]) == pytest.approx(6 * float(four[hours]), rel=0.01)
    assert float(twelve[node_hours]) == pytest.approx(2 * float(twelve[hours]), rel=0.01)
    assert float(twelve[hours]) > 2 * float(four[hours])  # three workers share a core


def test_a_plan_with_a_delay(file: Path) -> None:
    options = ("--workers", "8", "--parameters", "5e6", "--cluster", file, "--delay", "3")
    process = gtcbmuf("plan", *options)
    [row, _] = [line for line in process.stdout.splitlines() if line.startswith("| bmuf")]
    plan = replace(PLAN, delay=3)
    late, at_once = plan.methods(8)["bmuf"], PLAN.methods(8)["bmuf"]
    assert late.block_filter.late_steps == 3
    assert plan.speed_up(late) > PLAN.speed_up(at_once)
    assert row.split("|")[5].strip() == f"{plan.speed_up(late):.3g}"
    assert "no step with a delay was compared with a measurement" in process.stdout


def test_a_plan_with_overlap_also_has_speed_ups_without_overlap(file: Path) -> None:
    options = ("--workers", "8", "--parameters", "5e6", "--cluster", file, "--most", "8")
    process = gtcbmuf("plan", *options, "--overlap")
    plan = replace(PLAN, overlap=True)
    overlapped, blocking = (method(8, 8, overlap=overlap) for overlap in (True, False))
    cell = f"{plan.speed_up(overlapped):.3g} ({plan.speed_up(blocking):.3g})"
    assert process.stdout.count(cell) == 2
    assert "speed-ups in brackets are without overlap" in process.stdout


def test_a_plan_takes_the_step_of_a_block_and_the_bits_of_sync_sgd() -> None:
    plan = replace(PLAN, network=replace_network(bandwidth_across=1e7))
    coarse, integers = replace(plan, block_step=4.0), replace(plan, bits=16)
    methods = plan.methods(64)
    for name in ("bmuf", "gtc-bmuf"):
        assert coarse.speed_up(coarse.methods(64)[name]) > plan.speed_up(methods[name])
    of_integers = integers.methods(64)
    assert integers.speed_up(of_integers["sync-sgd"]) > plan.speed_up(methods["sync-sgd"])
    assert of_integers["gtc"] == methods["gtc"]
    assert of_integers["sync-sgd"] == method(64, 64, bits=16)


@pytest.mark.parametrize(
    ("group_size", "workers", "most", "counts"),
    [
        (None, 128, 10_000, [*(2**power for power in range(1, 14)), 10_000]),
        (None, 100, 200, [2, 4, 8, 16, 32, 64, 100, 128, 200]),
        (3, 9, 100, [2, 4, 6, 9, 12, 24, 48, 96, 99]),
        (8, 64, 64, [2, 4, 8, 16, 32, 64]),
        (50, 100, 20, [2, 4, 8, 16, 32, 64, 100]),
    ],
)
def test_the_hybrid_exists_at_the_numbers_of_workers_in_the_table(
    group_size: int | None, workers: int, most: int, counts: list[int]
) -> None:
    plan = replace(PLAN, group_size=group_size)
    assert plan.worker_counts(workers, most) == counts
    from_two_groups = [number for number in counts if number >= 2 * (group_size or 2)]
    assert all(plan.hybrids(number) for number in from_two_groups)


def test_a_number_pays_if_it_is_faster_than_all_smaller_ones() -> None:
    assert pays_until({2: 1.9, 4: 3.5, 8: 4.1, 16: 4.5, 32: 4.8}) == 4
    assert pays_until({2: 1.9, 4: 2.2, 8: 2.5}) == 2  # 8 is not 1.2 times as fast as 4
    assert pays_until({2: 0.7, 4: 1.1, 8: 1.15}) == 1
    assert pays_until({2: 1.9, 4: 3.5, 8: 2.0, 16: 4.0}) == 4  # 4.0 < 1.2 * 3.5
    assert pays_until({2: 1.9, 4: 3.5, 8: 2.0, 16: 4.3}) == 16
    # Up to twice as many workers, the factor is smaller than 1.2.
    assert pays_until({64: 50, 100: 70, 128: 75, 256: 100}) == 256
    assert pays_until({4096: 3000, 8192: 5000, 10000: 5600}) == 10000
    assert pays_until({4096: 3000, 8192: 5000, 10000: 5200}) == 8192
    assert pays_until({4096: 351, 8192: 412, 10000: 425}) == 4096


def test_a_group_of_the_hybrid_can_be_a_host() -> None:
    plan = replace(PLAN, network=replace_network(workers_per_host=12, cores_per_host=12))
    sizes = [hybrid.group_size for hybrid in plan.hybrids(48) if hybrid.name == "gtc-bmuf"]
    assert sizes == group_sizes(48)
    assert 12 in sizes


def test_a_missing_table_is_refused_with_a_remedy(file: Path) -> None:
    with pytest.raises(UserError, match="--cluster: expected a file from `gtcbmuf calibrate"):
        read_cluster(None, None, elsewhere=False)
    for missing in ("compute", "network"):
        tables = {"compute": COMPUTE, "network": NETWORK, missing: None}
        write_profile(file, ClusterProfile(VERSION, "given", processor(), **tables))
        with pytest.raises(UserError, match=rf"no table \[{missing}\]; calibrate on"):
            read_cluster(file, None, elsewhere=False)


def test_a_calibration_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    process = gtcbmuf("calibrate", "--rounds", "1000000", "--out", tmp_path, ranks=1)
    assert process.returncode == 2
    assert process.stderr == f"gtcbmuf: --out {tmp_path}: a folder; expected a file\n"


def test_a_plan_can_read_a_calibration(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    process = gtcbmuf("calibrate", "--rounds", "1", "--out", file, ranks=2)
    assert process.returncode == 0, process.stderr
    profile = read_profile(file)
    assert profile.compute is not None
    assert profile.network is None  # with a single host
    assert 0 < profile.compute.frame_parameter < 1e-7
    assert all(0 < seconds < 1e-6 for seconds in profile.compute.threshold_parameter)
    assert 0 < profile.compute.decode_code < 1e-6
    assert profile.source.startswith("measured ")
    write_profile(tmp_path / "net.toml", ClusterProfile(VERSION, "given", network=NETWORK))
    compute, network = read_cluster(file, tmp_path / "net.toml", elsewhere=False)
    assert (compute, network) == (profile.compute, NETWORK)


@given(st.sampled_from([2, 4, 16, 64]), st.floats(1e-4, 0.1), st.integers(1, 200))
def test_sufficient_settings_have_nearly_the_best_speed_up(
    workers: int, density: float, period: int
) -> None:
    plan = replace(PLAN, density=density, period=period)
    for candidate in plan.methods(workers).values():
        best_period, best_density = plan.sufficient_settings(candidate)

        def speed_up(period: int, candidate: Method = candidate) -> float:
            block_filter = candidate.block_filter.with_keys(period=period)
            return plan.speed_up(replace(candidate, block_filter=block_filter))

        if best_period is not None:
            assert speed_up(best_period) >= 0.95 * max(map(speed_up, PERIODS))
        assert (best_period is None) == (not candidate.block_filter.connects)
        assert (best_density is None) == (not candidate.exchange.compresses)


def test_speed_ups_are_at_most_linear_and_depend_on_the_bandwidth() -> None:
    slow = replace(PLAN, network=replace_network(bandwidth_across=1e6))
    for workers in (8, 64, 512):
        for name, candidate in PLAN.methods(workers).items():
            assert PLAN.speed_up(candidate) <= workers
            assert slow.speed_up(candidate) < PLAN.speed_up(candidate), name
    curves = speed_up_curves(slow, [2**power for power in range(1, 11)])
    assert pays_until(curves["sync-sgd"]) < pays_until(curves["gtc-bmuf"])


def replace_network(**values: float) -> Network:
    return msgspec.structs.replace(NETWORK, **values)


def test_the_speed_up_table_keeps_measured_and_modelled_figures_apart(tmp_path: Path) -> None:
    def step(method: str, workers: int, seconds: float, parameters: int = 5_000_000) -> Figure:
        facts = {"method": method, "workers": workers, "parameters": parameters}
        return Figure("step", seconds, seconds, seconds, "s", facts=facts)

    figures = [step("sgd", 1, 0.1), step("gtc", 2, 0.125), step("bmuf", 2, 0.1, 7)]
    speed_ups = measured_speed_ups.speed_ups_of(figures, PLAN.parameters, "a processor, c0ffee")
    rows = speedup_table.speedup_rows(PLAN, speed_ups)
    row_of_cell = {(row.method, row.workers): row for row in rows}
    gtc = row_of_cell["gtc", 2]
    assert gtc.measured is not None
    assert gtc.measured.speed_up == pytest.approx(1.6)
    assert gtc.modelled == pytest.approx(PLAN.speed_up(method(2, 2, 0.001)))
    assert gtc.paper is None
    assert row_of_cell["bmuf", 2].measured is None  # the figure is of another model
    papers = {cell: row.paper for cell, row in row_of_cell.items() if row.paper is not None}
    assert papers == paper.SPEED_UPS
    assert all(row.measured is None for cell, row in row_of_cell.items() if cell[1] > 2)

    origin = speedup_table.model_origin(PLAN, "a.toml")
    speedup_table.write_speedup_table(rows, origin, tmp_path)
    with (tmp_path / "speedup_table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {(line["method"], int(line["workers"])): line["measured"] for line in lines} == {
        cell: str(row.measured.speed_up) if row.measured else ""
        for cell, row in row_of_cell.items()
    }
    for line in lines:
        assert (line["parameters"], line["minibatch"]) == ("5000000", "256")
        assert (line["density"], line["period"], line["cluster"]) == ("0.001", "50", "a.toml")
        assert line["command"]
        assert line["commit"]
        assert bool(line["measured_on"]) == bool(line["measured"])
    last_line = (tmp_path / "speedup_table.md").read_text().splitlines()[-1]
    assert "Modelled: a.toml; `" in last_line
    assert last_line.endswith("; measured: a processor, c0ffee.")
    for name in ("speedup_table.tex", "speedup_table.png"):
        assert (tmp_path / name).stat().st_size > 100

    # Measured speed-ups are read back, except for another model.
    assert (
        measured_speed_ups.read_measured_speed_ups(tmp_path / "speedup_table.csv", PLAN)
        == speed_ups
    )
    other = replace(PLAN, minibatch=64)
    assert measured_speed_ups.read_measured_speed_ups(tmp_path / "speedup_table.csv", other) == {}
    assert measured_speed_ups.read_measured_speed_ups(tmp_path / "none.csv", PLAN) == {}
    (tmp_path / "speedup_table.csv").write_text("method,workers,measured\ngtc,2,1.6\n")
    with pytest.raises(UserError, match="not a speed-up table"):
        measured_speed_ups.read_measured_speed_ups(tmp_path / "speedup_table.csv", PLAN)


def test_the_caveats_of_a_plan_have_the_errors_of_the_measured_steps() -> None:
    errors_of_method: dict[str, list[float]] = {}
    for path in STEPS:
        with path.open() as file:
            for line in csv.DictReader(file):
                error = float(line["predicted"]) / float(line["measured"]) - 1
                name = line["method"] if line["method"] in PREDICTION_ERRORS else "the others"
                errors_of_method.setdefault(name, []).append(error)
    assert {
        name: (round(np.median(errors), 2), round(np.quantile(np.abs(errors), 0.9), 2))
        for name, errors in errors_of_method.items()
    } == PREDICTION_ERRORS


@pytest.mark.parametrize("workers", [8, 128])
@pytest.mark.parametrize("hours", [10, 1000, 100_000])
def test_a_plan_warns_of_too_few_steps_for_block_momentum(workers: int, hours: int) -> None:
    def warnings(plan: Plan) -> dict[str, str]:
        lines = format_caveats(plan, workers, hours).splitlines()
        return {line.partition(":")[0]: line for line in lines if "too few for block" in line}

    steps = round(hours * 360_000 / (workers * PLAN.minibatch))
    methods = PLAN.methods(workers)
    names = ("bmuf", "gtc-bmuf", "one-bit-bmuf")
    groups = {name: workers // methods[name].group_size for name in names}
    short = {name for name, g in groups.items() if steps < 30 * g * PLAN.period}
    assert warnings(PLAN).keys() == short
    for name, line in warnings(PLAN).items():
        assert f"{steps:,} steps" in line
        remedy = re.search(r"--period (\d+) or less", line)
        assert bool(remedy) == (steps >= 30 * groups[name])
        if remedy and name == "bmuf":
            longest = int(remedy[1])
            assert name not in warnings(replace(PLAN, period=longest))
            assert name in warnings(replace(PLAN, period=longest + 1))


@pytest.mark.parametrize("path", STEPS, ids=["amd", "intel"])
def test_the_published_predictions_are_those_of_the_present_model(path: Path) -> None:
    with path.open() as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        profile = read_profile(path.with_name(f"{line['rate']}.toml"))
        assert profile.compute
        assert profile.network
        workers, hosts = int(line["workers"]), int(line["hosts"])
        recipe = load_config(line["method"])
        cores = profile.network.cores_per_host / hosts
        sizes = {"workers_per_host": workers // hosts, "cores_per_host": cores}
        time = step_time(
            profile.compute,
            msgspec.structs.replace(profile.network, **sizes),
            Method(
                workers,
                int(line["group_size"]),
                recipe.exchange.with_keys(
                    density=float(line["density"] or 0), bits=int(line["bits"] or 32)
                ),
                recipe.block_filter.with_keys(period=int(line["period"] or 1)),
            ),
            shapes=square_matrices(int(line["parameters"]), SLICES),
            minibatch=int(line["minibatch"]),
        )
        assert time.sum == pytest.approx(float(line["predicted"]), abs=2e-6)


def test_steps_can_be_predicted_again_without_a_measurement(tmp_path: Path) -> None:
    for name in ("100mbit.toml", "1gbit.toml", "steps.csv"):
        (tmp_path / name).write_bytes((ROOT / "results/plan" / name).read_bytes())
    file = tmp_path / "steps.csv"
    before = file.read_text()
    [first, *_] = list(csv.DictReader(before.splitlines()))
    file.write_text(before.replace(f",{first['predicted']},", ",9,"))
    process = run(ROOT / "scripts/hold-costs", "--again", file)
    assert process.returncode == 0, process.stderr
    assert file.read_text() == before
    errors = [
        float(line["predicted"]) / float(line["measured"]) - 1
        for line in csv.DictReader(before.splitlines())
        if line["method"] == "gtc"
    ]
    too_short = sum(error < 0 for error in errors)
    line = f"gtc: {len(errors)} steps, {too_short} too short; median error {np.median(errors):+.1%}"
    assert line in process.stdout


def test_the_cores_of_a_host_are_those_of_all_its_ranks() -> None:
    [first, *others] = sorted(os.sched_getaffinity(0))
    second = (others or [first])[0]
    script = (
        "import os; from mpi4py import MPI; from gtcbmuf.mpi.hosts import cores_of_hosts; "
        f"world = MPI.COMM_WORLD; os.sched_setaffinity(0, {{[{first}, {second}][world.rank]}}); "
        "cores = cores_of_hosts(world, ['one', 'one']), cores_of_hosts(world, ['one', 'other']); "
        "print(cores) if world.rank == 0 else None"
    )
    process = mpirun(2, sys.executable, "-c", script)
    both = len({first, second})
    expected = f"({{'one': {both}}}, {{'one': 1, 'other': 1}})"
    assert process.stdout.strip() == expected, process.stderr


@pytest.mark.parametrize(("dirty", "mark"), [(True, "c0ffee+"), (False, "c0ffee")])
def test_the_source_of_a_calibration_marks_uncommitted_changes(
    monkeypatch: pytest.MonkeyPatch, dirty: bool, mark: str
) -> None:
    facts = {"started": "now", "command": ["gtcbmuf"], "processor": "a", "commit": "c0ffee"}
    monkeypatch.setattr(calibrate, "environment", lambda: {**facts, "dirty": dirty})
    monkeypatch.setattr(calibrate, "_compute", lambda rounds: COMPUTE)
    assert calibrate.calibrate(MPI.COMM_SELF, 1).source.endswith(f"commit {mark}")
