"""Somebody's own network, through `import gtcbmuf` alone: trained, resumed, scored."""

import sys
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.launch import gtcbmuf, mpirun

import gtcbmuf as face

SCRIPT = '''
import sys
import numpy as np
import gtcbmuf


class Softmax:
    """Softmax regression: one layer, no bias."""

    context = 1

    def __init__(self, feature_dim, targets, capacity):
        self.shapes = [(3 * feature_dim, targets)]
        self.parameters = 3 * feature_dim * targets
        self.gradient = np.zeros(self.parameters, np.float32)

    def initial(self, stream):
        return stream.normal(0, 0.1, self.parameters).astype(np.float32)

    def scores(self, vector, inputs):
        return inputs @ vector.reshape(self.shapes[0])

    def backward(self, vector, inputs, targets, ready=lambda first: None):
        scores = self.scores(vector, inputs)
        scores -= scores.max(axis=1, keepdims=True, initial=-np.inf)
        posteriors = np.exp(scores)
        posteriors /= posteriors.sum(axis=1, keepdims=True)
        rows = np.arange(len(inputs))
        loss = -float(np.log(posteriors[rows, targets]).sum())
        posteriors[rows, targets] -= 1
        self.gradient[:] = (inputs.T @ posteriors).ravel()
        ready(0)
        return loss


epochs, corpus, out, *resume = sys.argv[1:]
settings = [f"corpus.path={corpus}", f"train.epochs={epochs}", "topology.group_size=2"]
settings += ["exchange.tau=0.5", "train.learning_rate=2e-3", "train.checkpoint_every=10 steps"]
with gtcbmuf.job() as world:
    summary = gtcbmuf.train(
        "gtc-bmuf", settings, out, world=world, build=Softmax, resume=bool(resume)
    )
    result = gtcbmuf.score(world, out + "/model.h5", corpus, build=Softmax)
    if world.rank == 0:
        print("RESULT", summary["parameters"], summary["fer_test"], result.total.fer)
'''


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "corpus.h5"
    write_corpus(path)
    return path


def test_a_network_of_ones_own_is_trained_and_scored(corpus: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "softmax.py", tmp_path / "run"
    script.write_text(SCRIPT)
    done = mpirun(4, sys.executable, script, "3", corpus, out)
    assert done.returncode == 0, done.stderr
    [result] = [line.split()[1:] for line in done.stdout.splitlines() if line[:6] == "RESULT"]
    assert int(result[0]) == 3 * 8 * 12
    assert float(result[1]) == float(result[2]) < 60  # chance is about 92

    saved = face.load_model(out / "model.h5")
    assert (saved.network, saved.feature_dim, saved.context) == ("Softmax", 8, 1)
    with pytest.raises(face.UserError, match="the model is a Softmax, which this package does"):
        saved.build(1)
    done = gtcbmuf("score", out / "model.h5", corpus)
    assert done.returncode == 2
    assert "load it from Python, and give the function that builds it" in done.stderr

    again = mpirun(4, sys.executable, script, "3", corpus, out, "--resume")
    assert "this run is finished already" in again.stdout
    assert again.stdout.splitlines()[-1] == done_line(result)


def done_line(result: list[str]) -> str:
    return " ".join(["RESULT", *result])
