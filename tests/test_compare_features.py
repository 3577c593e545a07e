"""scripts/compare-features: its features against scalar loops, and the corpora it writes."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support.corpora import write_corpus
from support.launch import ROOT, run
from support.scripts import load_script

from gtcbmuf.acoustic.mlp import Architecture
from gtcbmuf.data.corpus import SPLITS, Corpus, open_corpus


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("compare-features")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    path = tmp_path_factory.mktemp("features") / "corpus.h5"
    write_corpus(path)
    return open_corpus(path)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_deltas_are_kaldis(script: ModuleType, frames: int) -> None:
    features = np.random.default_rng(0).normal(size=(frames, 3)).astype(np.float32)

    def slope(rows: list[list[float]], t: int, d: int) -> float:
        at = [rows[min(max(t + offset, 0), frames - 1)][d] for offset in (-2, -1, 1, 2)]
        return (-2 * at[0] - at[1] + at[2] + 2 * at[3]) / 10

    first = [[slope(features.tolist(), t, d) for d in range(3)] for t in range(frames)]
    second = [[slope(first, t, d) for d in range(3)] for t in range(frames)]
    expected = np.hstack([features, first, second])
    np.testing.assert_allclose(script.append_deltas(features), expected, atol=1e-6)


@pytest.mark.parametrize("frames", [1, 5, 6, 7, 20])
def test_the_sliding_mean_is_that_of_a_window(
    script: ModuleType, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "WINDOW", 6)
    features = np.random.default_rng(0).normal(size=(frames, 2)).astype(np.float32)
    for t, row in enumerate(script.subtract_sliding_mean(features)):
        begin = min(max(t - 3, 0), max(frames - 6, 0))  # shifted inwards at both ends
        window = features[begin : begin + 6]
        np.testing.assert_allclose(row, features[t] - window.mean(axis=0), atol=1e-6)


def test_normalised_utterances_have_mean_0_and_variance_1(script: ModuleType) -> None:
    features = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    features[:, 3] = 5
    [normalised] = script.VARIANTS["utterance"].features([features])
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std(axis=0), [1, 1, 1, 0], atol=1e-5)


def test_a_variant_keeps_all_but_the_features(
    script: ModuleType, corpus: Corpus, tmp_path: Path
) -> None:
    for name, variant in script.VARIANTS.items():
        script.write_variant(corpus, variant, tmp_path / f"{name}.h5")
        other = open_corpus(tmp_path / f"{name}.h5")
        assert (other.phones, other.target_phone.tolist()) == (
            corpus.phones,
            corpus.target_phone.tolist(),
        )
        for split in SPLITS:
            ours, theirs = corpus.split(split), other.split(split)
            assert (ours.names, ours.speakers) == (theirs.names, theirs.speakers)
            np.testing.assert_array_equal(ours.targets, theirs.targets)
            np.testing.assert_array_equal(ours.ends, theirs.ends)
            if name == "speaker":
                np.testing.assert_array_equal(ours.features, theirs.features)
            elif name == "deltas":
                speaker = np.repeat(theirs.speakers, np.diff(theirs.ends, prepend=0))
                frames = theirs.features[speaker == theirs.speakers[0]].astype(np.float64)
                assert frames.shape[1] == 3 * corpus.feature_dim
                np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-3)
                np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-3)


def test_models_of_wider_inputs_have_as_many_parameters(script: ModuleType, corpus: Corpus) -> None:
    like = Architecture((8 * 3, 64, 64, 12), "relu")
    assert script.hidden_layers(corpus, 1, like) == [64, 64]
    narrower = script.hidden_layers(corpus, 9, like)
    wider = Architecture((8 * 19, *narrower, 12), "relu").parameters
    assert abs(wider / like.parameters - 1) < 0.02


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.h5"], "nowhere.h5: no such file; "),
        (["corpus.h5", "--set", "model.hiden=[4]"], "--set: unknown key model.hiden; "),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5")
    first, *others = words
    done = run(ROOT / "scripts/compare-features", first, "out", *others, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"scripts/compare-features: {message}")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.h5"]
