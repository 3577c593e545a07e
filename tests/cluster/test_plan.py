"""Plans: cluster files, what is refused, what is recommended, and the speed-up table."""

import csv
import os
import re
import shlex
import sys
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
from gtcbmuf.bench.figures import Figure
from gtcbmuf.cluster import calibrate
from gtcbmuf.cluster.costs import Method, group_sizes, link_bytes, step_time
from gtcbmuf.cluster.plan import (
    PERIODS,
    Plan,
    check_plan,
    pays_until,
    read_cluster,
    speed_up_curves,
)
from gtcbmuf.cluster.plan_report import PREDICTION_ERRORS
from gtcbmuf.cluster.profile import (
    VERSION,
    ClusterProfile,
    Compute,
    Network,
    read_profile,
    write_profile,
)
from gtcbmuf.studies import measured_speed_ups, paper, speedup_table

PLAN = Plan(COMPUTE, NETWORK, parameters=5_000_000, minibatch=256, density=0.001, period=50)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A cluster of this host's processors."""
    path = tmp_path / "new" / "cluster.toml"
    write_profile(path, ClusterProfile(VERSION, "given", processor(), COMPUTE, NETWORK))
    return path


def test_a_cluster_is_read_as_it_was_written(file: Path) -> None:
    assert read_cluster(file, None, elsewhere=False) == (COMPUTE, NETWORK)
    other = file.with_name("network.toml")
    write_profile(other, ClusterProfile(VERSION, "given", network=NETWORK))
    assert read_cluster(file, other, elsewhere=False) == (COMPUTE, NETWORK)


@pytest.mark.parametrize(
    ("old", "new", "says"),
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
        ("version = 1", "version = 2", "version = 2; expected 1: calibrate again"),
        ("[compute]", "[compute", "not TOML"),
        ("processor = ", "processor = 'another'\n#", "measured on 'another', but this host has"),
        ("processor = ", "# ", "does not say which processor its [compute] is of; write processor"),
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
        (["--workers", "1"], "--workers 1: expected 2 to 10,000,000"),
        (["--workers", f"{10**24}"], f"--workers {10**24}: expected 2 to 10,000,000"),
        (["--workers", "9" * 400], f"--workers {'9' * 400}: expected 2 to 10,000,000"),
        (["--workers-per-host", "0"], "--workers-per-host 0: expected 1 to 10,000"),
        (["--group-size", "3"], "--group-size 3: does not divide the 8 workers; expected 2, 4"),
        (["--group-size", "0"], "--group-size 0: does not divide the 8 workers; expected 2, 4"),
        (["--group-size", "8"], "--group-size 8: is all 8 workers, which is gtc, without another"),
        (["--group-size", "1"], "--group-size 1: is a worker without another to exchange with"),
        (
            ["--workers", "7", "--group-size", "2"],
            "--group-size 2: does not divide the 7 workers; expected another number of workers",
        ),
        (["--density", "0"], "--density 0: expected 1e-09 to 1"),
        (["--density", "1e-17"], "--density 1e-17: expected 1e-09 to 1"),
        (["--density", "nan"], "--density nan: expected 1e-09 to 1"),
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
def test_what_cannot_be_planned_is_refused_in_one_line(
    file: Path, words: list[str], says: str
) -> None:
    given_ = ("--workers", "8", "--parameters", "1e6", "--cluster", file)
    done = gtcbmuf("plan", *given_, *words)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"gtcbmuf: {says}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--preset", "nosuch"], "--preset nosuch: expected full, quick"),
        (
            [],
            "{results}/quick/error_table.csv: no such file, or no run of sgd and another method of",
        ),
    ],
)
def test_a_trade_off_without_what_it_needs_is_refused(
    file: Path, words: list[str], says: str
) -> None:
    where = file.parent
    given_ = ("--cluster", file, "--results", where)
    done = gtcbmuf("reproduce", "trade-off", *given_, *words)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"gtcbmuf: {says.format(results=where)}")


SECONDS = [name for name in Compute.__struct_fields__ if name != "deviation"]
finite = st.floats(0, 1e3)


@given(
    st.builds(
        Compute,
        *(st.floats(1e-18, 1e3) if name == "frame_parameter" else finite for name in SECONDS),
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
        }
    ),
    st.integers(2, 10_000_000),
    st.booleans(),
)
def test_whatever_is_within_its_bounds_gives_numbers(
    compute: Compute,
    network: Network,
    sizes: dict[str, float],
    workers: int,
    switched: bool,
) -> None:
    made = Plan(compute, network, **sizes, sharded=switched, overlap=switched)  # type: ignore[arg-type]
    check_plan(made, workers, most=2, hours=1, epochs=1)
    methods = made.methods(workers).values()
    speeds = [made.speed_up(one) for one in methods]
    assert all(np.isfinite(speed) and speed > 0 for speed in speeds)
    assert all(np.isfinite(link_bytes(one, made.parameters, 8)) for one in methods)


def test_a_plan_tells_every_method_and_says_that_it_is_modelled(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    done = gtcbmuf(
        *("plan", "--workers", "16", "--parameters", "5e6", "--cluster", file),
        *("--most", "64", "--plot", picture),
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line[:1] == "|"]
    methods = ["sgd", *PLAN.single_tier_methods(16), *3 * ["gtc-bmuf"]]
    assert {"sync-sgd", "gtc", "bmuf"} < set(methods)
    assert rows[2 : 2 + len(methods)] == methods
    assert rows[4 + len(methods) :] == ["2", "4", "8", "16", "32", "64", "pays until"]
    assert "modelled, not measured" in done.stdout
    assert picture.stat().st_size > 1000


def test_a_plan_is_for_as_many_workers_a_host_as_it_is_told(file: Path) -> None:
    def told(*words: str) -> list[list[str]]:
        given_ = ("plan", "--workers", "24", "--parameters", "5e6", "--cluster", file)
        done = gtcbmuf(*given_, *words)
        assert done.returncode == 0, done.stderr
        assert ("share the 4 cores" in done.stdout) == bool(words)
        lines = [line for line in done.stdout.splitlines() if line.startswith("| bmuf")]
        return [[cell.strip() for cell in line.split("|")] for line in lines]

    [four], [twelve] = told(), told("--workers-per-host", "12")
    hours, node_hours = 7, 8
    assert float(four[node_hours]) == pytest.approx(6 * float(four[hours]), rel=0.01)
    assert float(twelve[node_hours]) == pytest.approx(2 * float(twelve[hours]), rel=0.01)
    assert float(twelve[hours]) > 2 * float(four[hours])  # three workers share a core


def test_with_overlap_a_plan_shows_what_it_would_be_without(file: Path) -> None:
    given_ = ("plan", "--workers", "8", "--parameters", "5e6", "--cluster", file, "--most", "8")
    done = gtcbmuf(*given_, "--overlap")
    made = replace(PLAN, overlap=True)
    hidden, plain = (method(8, 8, 0.001, overlap=overlap) for overlap in (True, False))
    cell = f"{made.speed_up(hidden):.3g} ({made.speed_up(plain):.3g})"
    assert done.stdout.count(cell) == 2
    assert "gtc gained nothing by it" in done.stdout


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
def test_the_numbers_looked_at_are_ones_that_the_hybrid_can_have(
    group_size: int | None, workers: int, most: int, counts: list[int]
) -> None:
    made = replace(PLAN, group_size=group_size)
    assert made.worker_counts(workers, most) == counts
    from_two_groups = [number for number in counts if number >= 2 * (group_size or 2)]
    assert all(made.hybrids(number) for number in from_two_groups)


def test_a_number_pays_if_it_is_faster_than_all_smaller_ones() -> None:
    assert pays_until({2: 1.9, 4: 3.5, 8: 4.1, 16: 4.5, 32: 4.8}) == 4
    assert pays_until({2: 1.9, 4: 2.2, 8: 2.5}) == 2  # 8 is not 1.2 times as fast as 4
    assert pays_until({2: 0.7, 4: 1.1, 8: 1.15}) == 1
    assert pays_until({2: 1.9, 4: 3.5, 8: 2.0, 16: 4.0}) == 4  # 16 is behind 1.2 * 3.5
    assert pays_until({2: 1.9, 4: 3.5, 8: 2.0, 16: 4.3}) == 16
    # Less than twice as many need not be as much faster, and do not keep others from paying.
    assert pays_until({64: 50, 100: 70, 128: 75, 256: 100}) == 256
    assert pays_until({4096: 3000, 8192: 5000, 10000: 5600}) == 10000
    assert pays_until({4096: 3000, 8192: 5000, 10000: 5200}) == 8192
    assert pays_until({4096: 351, 8192: 412, 10000: 425}) == 4096


def test_the_hybrid_may_have_a_host_for_a_group() -> None:
    made = replace(PLAN, network=replace_network(workers_per_host=12, cores_per_host=12))
    sizes = [one.group_size for one in made.hybrids(48)]
    assert sizes == group_sizes(48)
    assert 12 in sizes


def test_without_a_part_that_it_needs_it_says_how_to_get_it(file: Path) -> None:
    with pytest.raises(UserError, match="--cluster: expected a file that `gtcbmuf calibrate"):
        read_cluster(None, None, elsewhere=False)
    for missing, says in (("compute", "has no .compute."), ("network", "has no .network.")):
        parts = {"compute": COMPUTE, "network": NETWORK, missing: None}
        write_profile(file, ClusterProfile(VERSION, "given", processor(), **parts))
        with pytest.raises(UserError, match=says):
            read_cluster(file, None, elsewhere=False)


def test_a_calibration_is_what_a_plan_needs(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    done = gtcbmuf("calibrate", "--rounds", "1", "--out", file, ranks=2)
    assert done.returncode == 0, done.stderr
    found = read_profile(file)
    assert found.compute is not None
    assert found.network is None  # there was one host
    assert 0 < found.compute.frame_parameter < 1e-7
    assert 0 < found.compute.encode_parameter < 1e-6
    assert found.source.startswith("measured ")
    write_profile(tmp_path / "net.toml", ClusterProfile(VERSION, "given", network=NETWORK))
    compute, network = read_cluster(file, tmp_path / "net.toml", elsewhere=False)
    assert (compute, network) == (found.compute, NETWORK)


@given(st.sampled_from([2, 4, 16, 64]), st.floats(1e-4, 0.1), st.integers(1, 200))
def test_what_is_enough_is_nearly_the_best(workers: int, density: float, period: int) -> None:
    made = replace(PLAN, density=density, period=period)
    for one in made.methods(workers).values():
        best_period, best_density = made.sufficient_settings(one)

        def speed_up(period: int, one: Method = one) -> float:
            block_filter = one.block_filter.with_keys(period=period)
            return made.speed_up(replace(one, block_filter=block_filter))

        if best_period is not None:
            assert speed_up(best_period) >= 0.95 * max(map(speed_up, PERIODS))
        assert (best_period is None) == (not one.block_filter.connects)
        assert (best_density is None) == (not one.exchange.compresses)


def test_no_method_is_faster_than_its_workers_and_the_wire_decides() -> None:
    slow = replace(PLAN, network=replace_network(bandwidth_across=1e6))
    for workers in (8, 64, 512):
        for name, one in PLAN.methods(workers).items():
            assert PLAN.speed_up(one) <= workers
            assert slow.speed_up(one) < PLAN.speed_up(one), name
    by = speed_up_curves(slow, [2**power for power in range(1, 11)])
    assert pays_until(by["sync-sgd"]) < pays_until(by["gtc-bmuf"])


def replace_network(**values: float) -> Network:
    return msgspec.structs.replace(NETWORK, **values)


def test_the_speed_up_table_never_mixes_its_columns(tmp_path: Path) -> None:
    def step(method: str, workers: int, seconds: float, parameters: int = 5_000_000) -> Figure:
        facts = {"method": method, "workers": workers, "parameters": parameters}
        return Figure("step", seconds, seconds, seconds, "s", facts=facts)

    measured = [step("sgd", 1, 0.1), step("gtc", 2, 0.125), step("bmuf", 2, 0.1, 7)]
    speed_ups = measured_speed_ups.speed_ups_of(measured, PLAN.parameters, "a processor, c0ffee")
    found = speedup_table.speedup_rows(PLAN, speed_ups)
    by = {(row.method, row.workers): row for row in found}
    assert by["gtc", 2].measured is not None
    assert by["gtc", 2].measured.speed_up == pytest.approx(1.6)
    assert by["gtc", 2].modelled == pytest.approx(PLAN.speed_up(method(2, 2, 0.001)))
    assert by["gtc", 2].paper is None
    assert by["bmuf", 2].measured is None  # of another model
    assert {c: row.paper for c, row in by.items() if row.paper is not None} == paper.SPEED_UPS
    assert all(row.measured is None for cell, row in by.items() if cell[1] > 2)

    origin = speedup_table.model_origin(PLAN, "a.toml")
    speedup_table.write_speedup_table(found, origin, tmp_path)
    with (tmp_path / "speedup_table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {(line["method"], int(line["workers"])): line["measured"] for line in lines} == {
        cell: str(row.measured.speed_up) if row.measured else "" for cell, row in by.items()
    }
    for line in lines:
        assert (line["parameters"], line["minibatch"]) == ("5000000", "256")
        assert (line["density"], line["period"], line["cluster"]) == ("0.001", "50", "a.toml")
        assert line["command"]
        assert line["commit"]
        assert bool(line["measured_on"]) == bool(line["measured"])
    below = (tmp_path / "speedup_table.md").read_text().splitlines()[-1]
    assert "Modelled: a.toml; `" in below
    assert below.endswith("; measured: a processor, c0ffee.")
    for name in ("speedup_table.tex", "speedup_table.png"):
        assert (tmp_path / name).stat().st_size > 100

    # What was measured is found again, but for another model.
    assert (
        measured_speed_ups.read_measured_speed_ups(tmp_path / "speedup_table.csv", PLAN)
        == speed_ups
    )
    other = replace(PLAN, minibatch=64)
    assert measured_speed_ups.read_measured_speed_ups(tmp_path / "speedup_table.csv", other) == {}
    assert measured_speed_ups.read_measured_speed_ups(tmp_path / "none.csv", PLAN) == {}
    (tmp_path / "speedup_table.csv").write_text("method,workers,measured\ngtc,2,1.6\n")
    with pytest.raises(UserError, match="no speed-up table of ours"):
        measured_speed_ups.read_measured_speed_ups(tmp_path / "speedup_table.csv", PLAN)


HELD = ("results/plan/steps.csv", "results/plan/held-out/steps.csv")


@pytest.mark.parametrize("path", HELD)
def test_how_sure_a_plan_is_comes_from_measured_steps(path: str) -> None:
    with (ROOT / path).open() as file:
        lines = list(csv.DictReader(file))
    off: dict[str, list[float]] = {}
    for line in lines:
        error = float(line["predicted"]) / float(line["measured"]) - 1
        off.setdefault(line["method"], []).append(error)
    if path == HELD[1]:
        assert {
            name: (round(np.median(errors), 2), round(np.quantile(np.abs(errors), 0.9), 2))
            for name, errors in off.items()
        } == PREDICTION_ERRORS
    everything = np.concatenate(list(off.values()))
    page = (ROOT / "docs/plan.md").read_text()
    median, most = np.median(np.abs(everything)), np.quantile(np.abs(everything), 0.9)
    told = f"Of {len(lines)} steps the predictions are off by {median:.1%} (median) and {most:.0%}"
    assert told.replace("%", " %") in page
    assert f"{np.sum(everything < 0)} of them too short" in page
    for name, errors in off.items():
        assert f"{np.median(errors):+.0%} for {name}".replace("%", " %") in page


@pytest.mark.parametrize("path", HELD)
def test_the_page_tells_errors_apart_where_cores_are_shared(path: str) -> None:
    with (ROOT / path).open() as file:
        lines = list(csv.DictReader(file))
    page = (ROOT / "docs/plan.md").read_text()
    for shared in (False, True):
        off = [
            float(line["predicted"]) / float(line["measured"]) - 1
            for line in lines
            if (int(line["workers"]) > 2) is shared  # cores of that machine
        ]
        median, size = np.median(off), np.median(np.abs(off))
        told = f"{len(off)} steps: {median:+.1%} ({size:.1%} in size)"
        assert told.replace("%", " %") in page


@pytest.mark.parametrize("path", HELD)
def test_those_predictions_are_what_the_model_says_today(path: str) -> None:
    with (ROOT / path).open() as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        found = read_profile((ROOT / path).with_name(f"{line['rate']}.toml"))
        assert found.compute
        assert found.network
        workers, hosts = int(line["workers"]), int(line["hosts"])
        cores = found.network.cores_per_host / hosts
        here = {"workers_per_host": workers // hosts, "cores_per_host": cores}
        time = step_time(
            found.compute,
            msgspec.structs.replace(found.network, **here),
            method(
                workers,
                int(line["group_size"]),
                float(line["density"]) if line["density"] else None,
                int(line["period"]) if line["period"] else None,
            ),
            parameters=int(line["parameters"]),
            minibatch=int(line["minibatch"]),
        )
        assert time.sum == pytest.approx(float(line["predicted"]), abs=2e-6)


def test_predictions_are_made_again_without_measuring(tmp_path: Path) -> None:
    for name in ("100mbit.toml", "1gbit.toml", "steps.csv"):
        (tmp_path / name).write_bytes((ROOT / "results/plan" / name).read_bytes())
    file = tmp_path / "steps.csv"
    before = file.read_text()
    [first, *_] = list(csv.DictReader(before.splitlines()))
    file.write_text(before.replace(f",{first['predicted']},", ",9,"))
    done = run(ROOT / "scripts/hold-costs", "--again", file)
    assert done.returncode == 0, done.stderr
    assert file.read_text() == before
    assert "gtc: 20 steps, 17 too short; off by -12.5%" in done.stdout


def test_the_page_shows_where_each_method_stops_to_pay() -> None:
    page = (ROOT / "docs/plan.md").read_text()
    [[command, shown]] = re.findall(
        r"```\ngtcbmuf (plan [^\n]*)\n```\n+<!-- paying -->\n(.*?)\n<!-- end of paying -->",
        page,
        re.DOTALL,
    )
    done = gtcbmuf(*shlex.split(command))
    assert done.stdout.split("\n\n")[1] == shown


def test_cores_are_those_of_all_ranks_of_a_host() -> None:
    [first, *others] = sorted(os.sched_getaffinity(0))
    second = (others or [first])[0]
    script = (
        "import os; from mpi4py import MPI; from gtcbmuf.mpi.topology import cores_of_hosts; "
        f"world = MPI.COMM_WORLD; os.sched_setaffinity(0, {{[{first}, {second}][world.rank]}}); "
        "found = cores_of_hosts(world, ['one', 'one']), cores_of_hosts(world, ['one', 'other']); "
        "print(found) if world.rank == 0 else None"
    )
    done = mpirun(2, sys.executable, "-c", script)
    both = len({first, second})
    assert done.stdout.strip() == f"({{'one': {both}}}, {{'one': 1, 'other': 1}})", done.stderr


@pytest.mark.parametrize(("dirty", "mark"), [(True, "c0ffee+"), (False, "c0ffee")])
def test_a_calibration_tells_of_changes_that_are_in_no_commit(
    monkeypatch: pytest.MonkeyPatch, dirty: bool, mark: str
) -> None:
    told = {"started": "now", "command": ["gtcbmuf"], "processor": "a", "commit": "c0ffee"}
    monkeypatch.setattr(calibrate, "environment", lambda: {**told, "dirty": dirty})
    monkeypatch.setattr(calibrate, "_compute", lambda rounds: COMPUTE)
    assert calibrate.calibrate(MPI.COMM_SELF, 1).source.endswith(f"commit {mark}")
