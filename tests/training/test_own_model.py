"""A user's network is trained, resumed and scored through `import gtcbmuf` alone."""

import sys
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.launch import ROOT, mpirun
from support.launch import gtcbmuf as command_line

import gtcbmuf


def example(corpus: Path, out: Path) -> str:
    """Read examples/own_model.py, and set another corpus and a smaller run."""
    text = (ROOT / "examples/own_model.py").read_text()
    text = text.replace("corpus/quickstart.h5", str(corpus)).replace("runs/softmax", str(out))
    return str(text).replace(
        '"exchange.tau=1"', '"exchange.tau=1", "train.epochs=3", "train.checkpoint_every=10 steps"'
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "corpus.h5"
    write_corpus(path)
    return path


def test_a_users_network_is_trained_and_scored(corpus: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "softmax.py", tmp_path / "run"
    script.write_text(example(corpus, out))
    done = mpirun(4, sys.executable, script)
    assert done.returncode == 0, done.stderr
    summary = gtcbmuf.read_run(out).summary
    assert (summary["method"], summary["parameters"]) == ("gtc-bmuf", 3 * 8 * 12)
    assert summary["fer_test"] < 60  # chance is about 92
    assert f"FER {summary['fer_test']:.2f} %, 95 % interval" in done.stdout

    saved = gtcbmuf.load_model(out / "model.h5")
    assert (saved.network, saved.feature_dim, saved.context) == ("Softmax", 8, 1)
    with pytest.raises(gtcbmuf.UserError, match="the model is a Softmax, not the MLP"):
        saved.build(1)
    done = command_line("score", out / "model.h5", corpus)
    assert done.returncode == 2
    assert "call gtcbmuf.score from Python" in done.stderr

    again = mpirun(4, sys.executable, script)
    assert again.returncode == 0, again.stderr
    assert "this run is already finished" in again.stdout


def test_a_users_network_resumes_from_its_checkpoint(corpus: Path, tmp_path: Path) -> None:
    """An error ends the run in its second epoch. Resumed, it ends with the same bits."""
    text = example(corpus, tmp_path / "complete")
    (tmp_path / "complete.py").write_text(text)
    assert mpirun(4, sys.executable, tmp_path / "complete.py").returncode == 0

    stopping = text.replace(str(tmp_path / "complete"), str(tmp_path / "part")).replace(
        "        self.gradient[:] =",
        "        self.calls = getattr(self, 'calls', 0) + 1\n"
        "        assert self.calls < 20\n"
        "        self.gradient[:] =",
    )
    (tmp_path / "part.py").write_text(stopping)
    done = mpirun(4, sys.executable, tmp_path / "part.py")
    assert done.returncode != 0
    assert not (tmp_path / "part/summary.json").exists()
    command = ("train", "gtc-bmuf", "--out", tmp_path / "part", "--resume")
    words = [f"corpus.path={corpus}", "topology.group_size=2", "exchange.tau=1", "train.epochs=3"]
    words.append("train.checkpoint_every=10 steps")
    settings = [word for setting in words for word in ("--set", setting)]
    done = command_line(*command, *settings, ranks=4)
    assert done.returncode == 2
    assert "was written with network = Softmax, but this job has the MLP" in done.stderr

    resuming = text.replace(str(tmp_path / "complete"), str(tmp_path / "part"))
    (tmp_path / "part.py").write_text(resuming)
    done = mpirun(4, sys.executable, tmp_path / "part.py")
    assert done.returncode == 0, done.stderr
    assert "resumed from" in done.stdout
    runs = [gtcbmuf.read_run(tmp_path / name).summary for name in ("complete", "part")]
    assert runs[0]["weights_sha256"] == runs[1]["weights_sha256"]
