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
from gtcbmuf.cluster.costs import Method
from gtcbmuf.cluster.plan import Plan
from gtcbmuf.methods.gtc import GTCSpec
from gtcbmuf.studies.presets import error_table_runs, read_preset
from gtcbmuf.studies.results import read_results
from gtcbmuf.studies.trade_off import frame_of, method_of, reproduce_trade_off, speed_up


def test_the_trade_off_is_of_what_each_run_did(tmp_path: Path) -> None:
    runs = read_results(ROOT / "results/quick/error_table.csv")
    quick = read_preset("quick")
    made = {
        (run.method, run.workers): (job, run.density)
        for job in error_table_runs(quick)
        for run in runs
        if job.made(run)
    }
    by = {cell: method_of(*of) for cell, of in made.items()}
    assert by["sgd", 1] == Method(1, 1)
    assert by["sync-sgd", 32] == method(32, 32)
    hybrid = next(run for run in runs if (run.method, run.workers) == ("gtc-bmuf", 32))
    period = int(hybrid.command.partition("block_filter.period=")[2].split()[0])
    ours = by["gtc-bmuf", 32]
    assert (ours.workers, ours.group_size) == (32, 32 // hybrid.groups)
    assert isinstance(ours.exchange, GTCSpec)
    assert (ours.exchange.density, ours.block_filter.period) == (hybrid.density, period)
    assert not by["bmuf", 8].exchange.compresses
    assert by["bmuf", 8].group_size == 1
    # The model and the minibatch are the run's own, and so are density and period.
    minibatch = int(hybrid.command.partition("train.minibatch=")[2].split()[0])
    parameters = Architecture((440, 256, 256, 147), "relu").parameters
    its = Plan(COMPUTE, NETWORK, parameters, minibatch, density=0.5, period=1)
    cluster, frame = (COMPUTE, NETWORK), frame_of(quick)
    job, density = made["gtc-bmuf", 32]
    assert speed_up(*cluster, job, density, *frame) == its.speed_up(by["gtc-bmuf", 32])
    wider = replace(job, assignments=(*job.assignments, "model.hidden=[99]"))
    its = replace(its, parameters=Architecture((440, 99, 147), "relu").parameters)
    assert speed_up(*cluster, wider, density, *frame) == its.speed_up(by["gtc-bmuf", 32])

    write_corpus(tmp_path / "corpus.h5", targets=12, dim=8)
    own = replace(quick, source=None, corpus=tmp_path / "corpus.h5")
    assert frame_of(own) == (8, 12)


def test_the_table_of_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = read_preset("quick")
    runs = read_results(ROOT / "results/quick/error_table.csv")
    for number, run in enumerate(runs):
        if (run.method, run.workers) == ("sync-sgd", 32):
            runs[number] = msgspec.structs.replace(run, fer_test=math.nan)
    stale = msgspec.structs.replace(runs[0], config="0" * 16, fer_test=1.0)  # of no job
    lines = [msgspec.structs.asdict(run) for run in (stale, *runs, runs[-1])]
    write_csv(tmp_path / "error_table.csv", lines)
    reproduce_trade_off(quick, COMPUTE, NETWORK, "a.toml", tmp_path)

    with (tmp_path / "trade_off.csv").open() as file:
        rows = {(row["method"], int(row["workers"])): row for row in csv.DictReader(file)}
    assert len(rows) == 12
    sgd, hybrid = (
        next(run for run in runs if (run.method, run.workers) == cell)
        for cell in (("sgd", 1), ("gtc-bmuf", 32))
    )
    row, frame = rows["gtc-bmuf", 32], frame_of(quick)
    job = next(job for job in error_table_runs(quick) if job.made(hybrid))
    assert float(row["increase"]) == pytest.approx(100 * (hybrid.fer_test / sgd.fer_test - 1))
    assert float(row["speed_up"]) == speed_up(COMPUTE, NETWORK, job, hybrid.density, *frame)
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
    runs = read_results(ROOT / "results/quick/error_table.csv")[:1]
    write_csv(tmp_path / "error_table.csv", [msgspec.structs.asdict(run) for run in runs])
    with pytest.raises(UserError, match="no run of sgd and another method of this preset in it"):
        reproduce_trade_off(quick, COMPUTE, NETWORK, "a.toml", tmp_path)
