"""Files of version 0.1.0, whose modules were not yet packages, are still readable.

The fixtures are a tiny corpus (support.corpora), a finished run of gtc-bmuf on 4 ranks, and the
same run stopped in its third epoch.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.launch import gtcbmuf

from gtcbmuf.acoustic.mlp import Architecture
from gtcbmuf.acoustic.model_file import load_model, sha256
from gtcbmuf.data.corpus import find_damage, open_corpus
from gtcbmuf.training.checkpoint_files import read_checkpoint, read_rank
from gtcbmuf.training.run_files import read_run

FIXTURES = Path(__file__).parent / "fixtures"
CHECKPOINT = FIXTURES / "unfinished/checkpoints/step-00000040"


def test_a_corpus() -> None:
    corpus = open_corpus(FIXTURES / "corpus.h5")
    assert (len(corpus.train), corpus.feature_dim, corpus.target_count) == (1000, 4, 8)
    assert find_damage(FIXTURES / "corpus.h5") == []


def test_a_model_and_a_run() -> None:
    model, run = load_model(FIXTURES / "finished/model.h5"), read_run(FIXTURES / "finished")
    assert (model.architecture, model.context) == (Architecture((12, 12, 8), "relu"), 1)
    assert sha256(model.vector) == run.summary["weights_sha256"]
    assert [line["epoch"] for line in run.metrics] == [1, 2, 3]


def test_a_checkpoint() -> None:
    checkpoint = read_checkpoint(CHECKPOINT)
    assert (checkpoint.shared["epoch"], checkpoint.shared["step"]) == (2, 8)
    names = {"descent.model", "descent.velocity"}
    names |= {"exchange.residual", "exchange.slot", "exchange.tau", "filter.blocks"}
    of_leaders = {"filter.anchor", "filter.delta", "filter.start"}
    for rank in range(4):
        state, numbers = read_rank(checkpoint, rank)
        assert state.keys() == (names if rank % 2 else names | of_leaders)
        assert {"loss", "epoch_seconds", "bytes_sent", "encode"} <= numbers.keys()


def resume(folder: Path, *more: str) -> Any:
    """Resume a copy of the stopped run."""
    shutil.copytree(FIXTURES / "unfinished", folder / "run")
    shutil.copy(FIXTURES / "corpus.h5", folder)
    words = ("train", "run/config.toml", "--out", "run", "--resume", *more)
    return gtcbmuf(*words, ranks=4, cwd=folder)


def test_a_resumed_run_ends_like_the_uninterrupted_run(tmp_path: Path) -> None:
    done = resume(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed from run/checkpoints/step-00000040: epoch 3, step 8" in done.stdout
    resumed, finished = read_run(tmp_path / "run"), read_run(FIXTURES / "finished")
    # Another processor's BLAS rounds differently, and a value may then cross the threshold.
    for key in ("loss", "density", "bytes_sent_per_step"):
        assert resumed.metrics[2][key] == pytest.approx(finished.metrics[2][key], rel=0.05)
    assert resumed.summary["steps"] == finished.summary["steps"]
    vectors = [load_model(run.path / "model.h5").vector for run in (resumed, finished)]
    assert np.corrcoef(vectors)[0, 1] > 0.99
    assert json.loads((tmp_path / "run/outcome.json").read_text())["state"] == "finished"


def test_a_stopped_run_is_not_resumed_with_another_configuration(tmp_path: Path) -> None:
    done = resume(tmp_path, "--set", "exchange.tau=2")
    assert done.returncode == 2
    assert "exchange.tau = 1.0, but this job has 2.0" in done.stderr
