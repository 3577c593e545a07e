"""The trade-off of a study: measured errors, and speed-ups modelled of what each run did."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support.clusters import COMPUTE, NETWORK, method
from support.corpora import write_corpus
from support.launch import ROOT

from gtcbmuf.acoustic.mlp import Architecture
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_csv
from gtcbmuf.cluster.costs import Method, link_bytes
from gtcbmuf.cluster.plan import Plan
from gtcbmuf.methods.gtc import GTCSpec
from gtcbmuf.studies.preset_files import read_preset
from gtcbmuf.studies.presets import error_table_runs
from gtcbmuf.studies.results import read_results
from gtcbmuf.studies.trade_off import (
    frame_sizes,
    method_of,
    reproduce_trade_off,
    run_costs,
)


def test_the_trade_off_is_of_what_each_run_did(tmp_path: Path) -> None:
    results = read_results(ROOT / "results/quick/error_table.csv")
    quick = read_preset("quick")
    runs = {
        (run.method, run.workers): (run, result.density)
        for run in error_table_runs(quick)
        for result in results
        if run.matches(result)
    }
    methods = {cell: method_of(*run) for cell, run in runs.items()}
    assert methods["sgd", 1] == Method(1, 1)
    assert methods["sync-sgd", 32] == method(32, 32, bits=16)
    hybrid = next(row for row in results if (row.method, row.workers) == ("gtc-bmuf", 32))
    period = int(hybrid.command.partition("block_filter.period=")[2].split()[0])
    ours = methods["gtc-bmuf", 32]
    assert (ours.workers, ours.group_size) == (32, 32 // hybrid.groups)
    assert isinstance(ours.exchange, GTCSpec)
    assert (ours.exchange.density, ours.block_filter.period) == (hybrid.density, period)
    assert not methods["bmuf", 8].exchange.compresses
    assert methods["bmuf", 8].group_size == 1
    # The model and the minibatch are the run's own, and so are density and period.
    minibatch = int(hybrid.command.partition("train.minibatch=")[2].split()[0])
    parameters = Architecture((440, 256, 256, 147), "relu").parameters
    plan = Plan(COMPUTE, NETWORK, parameters, minibatch, density=0.5, period=1)
    cluster, frame = (COMPUTE, NETWORK), frame_sizes(quick)
    run, density = runs["gtc-bmuf", 32]
    costs = run_costs(*cluster, run, density, *frame)
    assert costs.speed_up == plan.speed_up(methods["gtc-bmuf", 32])
    assert costs.step_seconds == plan.step(methods["gtc-bmuf", 32]).sum
    per_link = link_bytes(methods["gtc-bmuf", 32], plan.shapes, NETWORK.workers_per_host)
    assert costs.worker_bytes == pytest.approx(per_link / NETWORK.workers_per_host)
    wider = replace(run, assignments=(*run.assignments, "model.hidden=[99]"))
    plan = replace(plan, parameters=Architecture((440, 99, 147), "relu").parameters)
    speed_up = plan.speed_up(methods["gtc-bmuf", 32])
    assert run_costs(*cluster, wider, density, *frame).speed_up == speed_up

    write_corpus(tmp_path / "corpus.h5", targets=12, dim=8)
    own = replace(quick, synthesis=None, corpus=tmp_path / "corpus.h5")
    assert frame_sizes(own) == (8, 12)


def test_the_table_of_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = read_preset("quick")
    results = read_results(ROOT / "results/quick/error_table.csv")
    for number, result in enumerate(results):
        if (result.method, result.workers) == ("sync-sgd", 32):
            results[number] = msgspec.structs.replace(result, fer_test=math.nan)
    stale = msgspec.structs.replace(results[0], config="0" * 16, fer_test=1.0)  # of no run
    lines = [msgspec.structs.asdict(result) for result in (stale, *results, results[-1])]
    write_csv(tmp_path / "error_table.csv", lines)
    reproduce_trade_off(quick, COMPUTE, NETWORK, "a.toml", tmp_path)

    with (tmp_path / "trade_off.csv").open() as file:
        rows = {(row["method"], int(row["workers"])): row for row in csv.DictReader(file)}
    assert len(rows) == 12
    sgd, hybrid = (
        next(one for one in results if (one.method, one.workers) == cell)
        for cell in (("sgd", 1), ("gtc-bmuf", 32))
    )
    row, frame = rows["gtc-bmuf", 32], frame_sizes(quick)
    run = next(run for run in error_table_runs(quick) if run.matches(hybrid))
    assert float(row["increase"]) == pytest.approx(100 * (hybrid.fer_test / sgd.fer_test - 1))
    costs = run_costs(COMPUTE, NETWORK, run, hybrid.density, *frame)
    assert float(row["speed_up"]) == costs.speed_up
    assert (row["groups"], row["cluster"]) == ("4", "a.toml")
    assert math.isnan(float(rows["sync-sgd", 32]["increase"]))
    table = (tmp_path / "trade_off.md").read_text().rstrip()
    assert [cell.strip() for cell in table.splitlines()[4].split("|")[1:-1]] == [
        *("sync-sgd", "32", "1", "-", "-")
    ]
    assert table in capsys.readouterr().out
    assert (tmp_path / "trade_off.png").stat().st_size > 100


def test_with_sgd_alone_there_is_no_trade_off(tmp_path: Path) -> None:
    quick = read_preset("quick")
    results = read_results(ROOT / "results/quick/error_table.csv")[:1]
    write_csv(tmp_path / "error_table.csv", [msgspec.structs.asdict(row) for row in results])
    with pytest.raises(UserError, match="no run of sgd and another method of this preset in it"):
        reproduce_trade_off(quick, COMPUTE, NETWORK, "a.toml", tmp_path)
