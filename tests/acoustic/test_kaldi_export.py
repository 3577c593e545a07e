"""`gtcbmuf forward`, with archives that Kaldi's own reader reads."""

import subprocess
import sys
from pathlib import Path

import kaldi_native_io as kio
import numpy as np
import pytest
import torch
from support.corpora import write_corpus
from support.kaldi import Directory, make_directory, speaker_of, write_statistics
from support.launch import gtcbmuf

from gtcbmuf.acoustic.kaldi_export import export_posteriors
from gtcbmuf.acoustic.mlp import Architecture, initial_parameters
from gtcbmuf.acoustic.model_file import SavedModel, load_model, save_model
from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import SPLITS, Corpus, open_corpus


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Paths of a model, a corpus and a future archive."""
    write_corpus(tmp_path / "corpus.h5")
    frames = open_corpus(tmp_path / "corpus.h5")
    shape = Architecture((3 * frames.feature_dim, 8, frames.target_count), "sigmoid")
    vector = initial_parameters(shape, np.random.default_rng(0))
    counts = np.arange(frames.target_count)
    saved = SavedModel(vector, shape, 1, counts, "")
    save_model(tmp_path / "model.h5", saved)
    return tmp_path / "model.h5", tmp_path / "corpus.h5", tmp_path / "new" / "post.ark"


def by_torch(model: Path, frames: Corpus, number: int) -> np.ndarray:
    """Compute the log-posteriors of an utterance of the test split with PyTorch."""
    saved = load_model(model)
    vector, shape = saved.vector, saved.architecture
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
    export_posteriors(model, path, ark, minus_log_priors=minus_log_priors)
    frames = open_corpus(path)
    counts = np.arange(frames.target_count) + 1  # the model's counts, increased by one
    prior = np.log(counts / counts.sum()) if minus_log_priors else 0
    with kio.SequentialFloatMatrixReader(f"ark:{ark}") as reader:
        matrices = {name: np.array(matrix) for name, matrix in reader}
    assert tuple(matrices) == frames.test.names
    for number, matrix in enumerate(matrices.values()):
        expected = by_torch(model, frames, number) - prior
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=2e-5)


def test_errors_end_in_one_line(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, path, ark = files
    write_corpus(tmp_path / "other.h5", dim=7)
    with pytest.raises(UserError, match=r"takes 24 inputs, but .* gives 21"):
        export_posteriors(model, tmp_path / "other.h5", ark)
    ark.parent.mkdir()
    ark.mkdir()
    with pytest.raises(UserError, match=r"post\.ark: a folder; expected a file") as error_info:
        export_posteriors(model, path, ark)
    assert "\n" not in str(error_info.value)
    assert [file.name for file in ark.parent.iterdir()] == ["post.ark"]
    with pytest.raises(UserError, match="cannot be written"):
        export_posteriors(model, path, model / "post.ark")


def test_command_line(files: tuple[Path, Path, Path]) -> None:
    model, path, ark = files
    done = gtcbmuf("forward", model, path, "--ark", ark, "--split", "valid", "--minus-log-priors")
    count = len(open_corpus(path).valid.ends)
    assert done.stdout == f"{ark}: log-posteriors minus log priors of {count} utterances of valid\n"


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """A directory of Kaldi files."""
    return make_directory(tmp_path).write()


def by_speaker(directory: Directory) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name in directory.features:
        names.setdefault(speaker_of(name), []).append(name)
    return names


def write_model(frames: Corpus, path: Path) -> Path:
    """Write a model for a corpus, with its normalisation and target counts."""
    shape = Architecture((3 * frames.feature_dim, 8, frames.target_count), "relu")
    vector = initial_parameters(shape, np.random.default_rng(0))
    counts = frames.train.counts(frames.target_count)
    saved = SavedModel(vector, shape, 1, counts, frames.normalisation)
    save_model(path, saved)
    return path


def read_archive(path: Path) -> dict[str, bytes]:
    with kio.SequentialFloatMatrixReader(f"ark:{path}") as reader:
        return {name: np.array(matrix).tobytes() for name, matrix in reader}


@pytest.mark.parametrize("normalisation", ["speaker", "utterance", "none", "statistics"])
def test_features_give_the_archive_of_their_corpus(
    directory: Directory, normalisation: str, tmp_path: Path
) -> None:
    more: dict[str, Path] = {}
    if normalisation == "statistics":
        more["cmvn"] = write_statistics(directory, by_speaker(directory))
        directory.make(**more)
    else:
        directory.make(normalise=normalisation)
    frames = open_corpus(directory.out)
    assert frames.normalisation == normalisation
    model = write_model(frames, tmp_path / "model.h5")
    expected: dict[str, bytes] = {}
    for split in SPLITS:
        export_posteriors(
            model, directory.out, tmp_path / "a.ark", split=split, minus_log_priors=True
        )
        expected |= read_archive(tmp_path / "a.ark")
    for alignment in directory.path.glob("ali.*"):
        alignment.unlink()  # the export needs no alignment
    line = export_posteriors(
        *(model, directory.feats, tmp_path / "b.ark"),
        utt2spk=directory.utt2spk,
        minus_log_priors=True,
        **more,
    )
    assert line.endswith(f"of {len(expected)} utterances of {directory.feats}")
    assert read_archive(tmp_path / "b.ark") == expected


def test_names_and_ranges_of_features(directory: Directory, tmp_path: Path) -> None:
    """An accented name, in the form of feats.scp, and the range of a longer matrix."""
    directory.make()
    model, ark = write_model(open_corpus(directory.out), tmp_path / "model.h5"), tmp_path / "a.ark"
    options = {"utt2spk": directory.utt2spk, "minus_log_priors": True}
    export_posteriors(model, directory.feats, ark, **options)
    expected = read_archive(ark)
    name, composed, decomposed = "s00-0", "s\u00e900-0", "se\u030100-0"
    frames = directory.features[name]
    directory.features[name] = np.concatenate([frames[:3], frames, frames])
    directory.write()
    table = directory.feats.read_text()
    head = table.split("\n")[0]
    line = head.replace(name, decomposed) + f"[3:{len(frames) + 2}]"
    directory.feats.write_text("\ufeff" + table.replace(head, line))
    directory.utt2spk.write_text(directory.utt2spk.read_text().replace(name, composed))
    export_posteriors(model, directory.feats, ark, **options)
    values = read_archive(ark)
    assert values.pop(decomposed) == expected.pop(name)
    assert values == expected


def test_unusable_features_are_refused_in_one_line(directory: Directory, tmp_path: Path) -> None:
    directory.make()
    model, ark = write_model(open_corpus(directory.out), tmp_path / "model.h5"), tmp_path / "b.ark"

    def fails(match: str, path: Path, **options: object) -> None:
        with pytest.raises(UserError, match=f"^{match}") as error_info:
            export_posteriors(model, path, ark, **options)  # type: ignore[arg-type]
        assert "\n" not in str(error_info.value)
        assert not ark.exists()

    features, utt2spk = directory.feats, directory.utt2spk
    fails("--split valid: applies to a corpus, not to .*feats.scp", features, split="valid")
    fails("--utt2spk .*: applies to FEATS.scp, not to .*corpus.h5", directory.out, utt2spk=utt2spk)
    fails("the model takes features normalised by speaker: give --utt2spk", features)
    cmvn = write_statistics(directory, by_speaker(directory))
    fails(".* normalisation = speaker: remove --cmvn", features, utt2spk=utt2spk, cmvn=cmvn)
    utt2spk.write_text("s00-0 s00\n")
    fails(".*feats.scp: s00-1: no speaker in", features, utt2spk=utt2spk)
    with_nan = np.ones((9, 5))
    with_nan[2:4, 1] = np.nan, np.inf
    for name, matrix, fault in (
        ("s03-1", with_nan, "NaN or infinite features in 2 of 9 frames, from frame 2"),
        ("s00-2", np.ones((9, 4)), "4 features per frame; expected 5"),
        ("s00-1", np.zeros((0, 0)), "empty matrix; expected one or more frames"),
    ):
        directory.features[name] = matrix.astype(np.float32)
        directory.write()
        fails(f".*feats.scp: {name}: {fault}", features, utt2spk=utt2spk)
    done = gtcbmuf("forward", model, features, "--utt2spk", utt2spk, "--ark", ark)
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line == f"gtcbmuf: {features}: s00-1: empty matrix; expected one or more frames"
    assert not ark.exists()
    done = gtcbmuf("forward", model, features, "--utt2spk", utt2spk, "--ark", ".")
    assert done.stderr == "gtcbmuf: --ark .: expected a file\n"


def test_another_normalisation_is_refused(directory: Directory, tmp_path: Path) -> None:
    directory.make()
    model = write_model(open_corpus(directory.out), tmp_path / "model.h5")
    directory.make(normalise="none")
    done = gtcbmuf("score", model, directory.out)
    assert done.returncode == 2
    assert "model.h5 was trained on features with normalisation = speaker, but" in done.stderr


@pytest.mark.parametrize("name", ["feats.ark", "feats.scp", "cmvn.ark"])
def test_no_input_is_replaced(directory: Directory, name: str, tmp_path: Path) -> None:
    cmvn = write_statistics(directory, by_speaker(directory))
    directory.make(cmvn=cmvn)
    model = write_model(open_corpus(directory.out), tmp_path / "model.h5")
    path = directory.path / name
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"--ark .*{name}: this file is read; expected another"):
        export_posteriors(model, directory.feats, path, utt2spk=directory.utt2spk, cmvn=cmvn)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["ark,t:post.txt", "ark:|gzip -c > post.gz", "|cat", "scp:a.scp"])
def test_other_destinations_of_kaldi_are_refused(name: str, tmp_path: Path) -> None:
    done = gtcbmuf("forward", "m.h5", "c.h5", "--ark", name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"gtcbmuf: --ark {name}: expected FILE.ark, ark:FILE.ark or -; the archive is binary\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_standard_output_takes_the_archive(files: tuple[Path, Path, Path]) -> None:
    model, corpus, ark = files
    export_posteriors(model, corpus, ark)
    for name in ("-", "ark:-", f"ark:{ark}"):
        command = [sys.executable, "-m", "gtcbmuf", "forward", model, corpus, "--ark", name]
        done = subprocess.run(command, capture_output=True, check=True, timeout=100)
        archive, line = done.stdout, done.stderr
        if name.endswith(".ark"):
            archive, line = ark.read_bytes(), done.stdout
        assert archive == ark.read_bytes()
        assert line.endswith(b"utterances of test\n")
