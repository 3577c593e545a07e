"""`gtcbmuf train --tensorboard`: the event file holds the curves of metrics.jsonl."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from support.corpora import write_corpus
from support.launch import gtcbmuf, program
from support.launch import run as run_program
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gtcbmuf.base.errors import UserError
from gtcbmuf.training.event_files import EventFile

SETTINGS = (
    "train.minibatch=16",
    "train.epochs=3",
    "model.hidden=[24, 24]",
    "exchange.tau=1",
    "exchange.density=0.02",
)

#: A run that is killed after its second epoch.
STOPPED = """
import os, signal
from gtcbmuf.cli.main import main
from gtcbmuf.training.worker_run import WorkerRun

def report(self, line):
    original(self, line)
    if line["epoch"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)

original, WorkerRun._report = WorkerRun._report, report
main()
"""
#: A run without TensorBoard.
MISSING = """
import sys
sys.modules["tensorboard"] = None
from gtcbmuf.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "tiny.h5"
    write_corpus(path)
    return path


def command(corpus: Path, out: Path, *more: str) -> list[str]:
    settings = (*SETTINGS, f"corpus.path={corpus}")
    words = [word for setting in settings for word in ("--set", setting)]
    return ["train", "gtc", "--out", str(out), *words, *more]


def read_metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def read_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the steps and values of each tag, including duplicates."""
    events = EventAccumulator(
        str(run / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False
    )
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def expected_curves(lines: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name == "seconds_by_part":
                parts = {
                    f"{name}/{part}/{statistic}": seconds
                    for part, statistics in value.items()
                    for statistic, seconds in statistics.items()
                }
            elif name == "peak_resident_mib":
                parts = {f"{name}/{statistic}": mib for statistic, mib in value.items()}
            elif name in ("epoch", "tau"):
                continue
            else:
                parts = {name: value}
            for tag, number in parts.items():
                curves.setdefault(tag, []).append((line["epoch"], pytest.approx(number)))
    taus = [tau for line in lines for tau in line["tau"]]
    curves["tau"] = [(step, pytest.approx(tau)) for step, tau in enumerate(taus, 1)]
    return curves


def test_the_curves_equal_the_metrics(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = gtcbmuf(*command(corpus, out, "--tensorboard"), ranks=2)
    assert done.returncode == 0, done.stderr
    lines = read_metrics(out)
    assert len(lines) == 3
    assert all(len(line["tau"]) == 20 for line in lines)
    assert read_curves(out) == expected_curves(lines)
    assert len(list((out / "tensorboard").iterdir())) == 1  # written by rank 0


@pytest.mark.parametrize("before", ["--tensorboard", "--no-test"])
def test_a_resumed_run_has_every_epoch_once(before: str, corpus: Path, tmp_path: Path) -> None:
    """The first job wrote an epoch that the second one repeats, or wrote no event file."""
    out = tmp_path / "run"
    every = ("--set", "train.checkpoint_every=100 steps")  # an epoch has 188
    cut = run_program(
        *(program("python"), "-c", STOPPED, *command(corpus, out, before, *every)), timeout=60
    )
    assert cut.returncode == -signal.SIGKILL, cut.stderr
    assert [line["epoch"] for line in read_metrics(out)] == [1, 2]
    done = gtcbmuf(*command(corpus, out, "--tensorboard", "--resume", *every))
    assert done.returncode == 0, done.stderr
    assert "epoch 2, step 112" in done.stdout
    lines = read_metrics(out)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert read_curves(out) == expected_curves(lines)


def test_a_missing_package_is_a_user_error(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run_program(program("python"), "-c", MISSING, *command(corpus, out, "--tensorboard"))
    assert done.returncode == 2
    assert done.stderr == (
        "gtcbmuf: --tensorboard needs tensorboard, which is not installed: "
        "pip install 'gtcbmuf[tensorboard]'\n"
    )
    assert not out.exists()


def test_a_line_that_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.append_metrics({"epoch": 1, "loss": 3.0, "tau": []})
    folder, aside = tmp_path / "tensorboard", tmp_path / "aside"
    folder.rename(aside)
    with pytest.raises(UserError, match="cannot be written"):
        file.append_metrics({"epoch": 2, "loss": 2.0, "tau": []})
    aside.rename(folder)
    file.append_metrics({"epoch": 3, "loss": 1.0, "tau": []})
    assert read_curves(tmp_path) == {"loss": [(1, 3.0), (2, 2.0), (3, 1.0)]}
