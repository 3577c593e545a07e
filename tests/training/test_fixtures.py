"""Files of earlier versions are still readable.

The fixtures are a tiny corpus (support.corpora), a finished run of gtc-bmuf on 4 ranks and the
manifest of a checkpoint, all of version 0.1.0. The other two are of version 0.3.0: the same run
stopped in its third epoch, and uninterrupted.
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
from gtcbmuf.base.errors import UserError
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
    names = {"descent.model", "descent.velocity", "exchange.residual", "exchange.tau"}
    names |= {f"filter.{name}" for name in ("blocks", "deviation", "anchor", "start", "delta")}
    for rank in range(4):
        state, numbers = read_rank(checkpoint, rank)
        assert state.keys() == names
        assert {"loss", "epoch_seconds", "bytes_sent", "encode"} <= numbers.keys()


def test_a_checkpoint_of_another_algorithm_is_refused() -> None:
    with pytest.raises(UserError, match=r"format version 2, which an older gtcbmuf wrote"):
        read_checkpoint(FIXTURES / "version-2")


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
    resumed, whole = read_run(tmp_path / "run"), read_run(FIXTURES / "uninterrupted")
    # Another processor's BLAS rounds differently, and a value may then cross the threshold.
    for key in ("loss", "density"):
        assert resumed.metrics[2][key] == pytest.approx(whole.metrics[2][key], rel=0.05)
    assert resumed.summary["steps"] == whole.summary["steps"]
    vectors = [load_model(run.path / "model.h5").vector for run in (resumed, whole)]
    assert np.corrcoef(vectors)[0, 1] > 0.99
    assert json.loads((tmp_path / "run/outcome.json").read_text())["state"] == "finished"


def test_a_stopped_run_is_not_resumed_with_another_configuration(tmp_path: Path) -> None:
    done = resume(tmp_path, "--set", "exchange.tau=2")
    assert done.returncode == 2
    assert "exchange.tau = 1.0, but this job has 2.0" in done.stderr
