"""`gtcbmuf forward`: what Kaldi's own reader finds in the archive."""

from pathlib import Path

import kaldi_native_io as kio
import numpy as np
import pytest
import torch
from launch import gtcbmuf
from tiny import write_corpus

from gtcbmuf import corpus, modelfile
from gtcbmuf.errors import UserError
from gtcbmuf.forward import forward
from gtcbmuf.model import Shape, initial


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Of a model, a corpus and an archive that is to be."""
    write_corpus(tmp_path / "corpus.h5")
    frames = corpus.read(tmp_path / "corpus.h5")
    shape = Shape((3 * frames.feature_dim, 8, frames.target_count), "sigmoid")
    vector = initial(shape, np.random.default_rng(0))
    modelfile.save_model(tmp_path / "model.h5", vector, shape, context=1)
    return tmp_path / "model.h5", tmp_path / "corpus.h5", tmp_path / "new" / "post.ark"


def by_torch(model: Path, frames: corpus.Corpus, number: int) -> np.ndarray:
    """Log-posteriors of an utterance of the test split."""
    vector, shape, _ = modelfile.load_model(model)
    end = frames.test.ends[number]
    begin = frames.test.ends[number - 1] if number else 0
    features = torch.tensor(frames.test.features[begin:end].astype(np.float32))
    padded = torch.cat([features[:1], features, features[-1:]])
    values = torch.cat([padded[:-2], padded[1:-1], padded[2:]], dim=1)
    first = 0
    for layer, (inputs, outputs) in enumerate(shape.layers):
        middle, last = first + inputs * outputs, first + inputs * outputs + outputs
        weights = torch.tensor(vector[first:middle]).reshape(inputs, outputs)
        values = values @ weights + torch.tensor(vector[middle:last])
        values = torch.sigmoid(values) if layer < len(shape.layers) - 1 else values
        first = last
    return torch.log_softmax(values, dim=1).numpy()


@pytest.mark.parametrize("minus_log_priors", [False, True])
def test_kaldi_reads_what_torch_computes(
    files: tuple[Path, Path, Path], minus_log_priors: bool
) -> None:
    model, path, ark = files
    forward(model, path, ark, minus_log_priors=minus_log_priors)
    frames = corpus.read(path)
    counts = np.bincount(frames.train.targets, minlength=frames.target_count) + 1
    prior = np.log(counts / counts.sum()) if minus_log_priors else 0
    with kio.SequentialFloatMatrixReader(f"ark:{ark}") as reader:
        read = {name: np.array(matrix) for name, matrix in reader}
    assert tuple(read) == frames.test.names
    for number, matrix in enumerate(read.values()):
        expected = by_torch(model, frames, number) - prior
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=2e-5)


def test_faults_end_in_one_line(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, path, ark = files
    write_corpus(tmp_path / "other.h5", dim=7)
    with pytest.raises(UserError, match=r"takes 24 inputs, but .* gives 21"):
        forward(model, tmp_path / "other.h5", ark)
    ark.parent.mkdir()
    ark.mkdir()
    with pytest.raises(UserError, match=r"post\.ark: cannot be written") as caught:
        forward(model, path, ark)
    assert "\n" not in str(caught.value)
    assert [file.name for file in ark.parent.iterdir()] == ["post.ark"]
    with pytest.raises(UserError, match="cannot be written"):
        forward(model, path, model / "post.ark")


def test_command_line(files: tuple[Path, Path, Path]) -> None:
    model, path, ark = files
    done = gtcbmuf("forward", model, path, "--ark", ark, "--split", "valid", "--minus-log-priors")
    count = len(corpus.read(path).valid.ends)
    assert done.stdout == f"{ark}: log-posteriors minus log priors of {count} utterances of valid\n"
