"""Digital silence and features that are not finite, in imports."""

from pathlib import Path

import numpy as np
import pytest
import support.audio
from support.audio import read_utterances

FLOOR = np.log(np.finfo(np.float32).eps)  # log-mels of exact zeros


@pytest.fixture
def directory(tmp_path: Path) -> support.audio.Directory:
    return support.audio.make_directory(tmp_path)


def frames_of(directory: support.audio.Directory, part: str) -> np.ndarray:
    utterances = read_utterances(directory.out)
    return np.concatenate([utterances[name].features for name in utterances if name[-1] == part])


def test_exact_zeros_change_no_other_frame(directory: support.audio.Directory) -> None:
    """Half of each speaker's frames are exactly zero."""
    for key in directory.recordings:
        if key.endswith("b"):
            directory.recordings[key] = np.zeros_like(directory.recordings[key.replace("b", "a")])
            directory.alignments[key] = directory.alignments[key.replace("b", "a")]
    summary = directory.write().make()
    speech, silence = frames_of(directory, "a"), frames_of(directory, "b")
    assert len(speech) == len(silence)
    assert not silence.any()
    assert summary.endswith(
        f"\n{len(silence)} of {2 * len(silence)} frames are digital silence: left out of mean and "
        "variance, and set to 0"
    )
    for key in directory.recordings:
        if key.endswith("b"):
            directory.file(key).unlink()
            directory.file(key, ".TextGrid").unlink()
    assert "digital silence" not in directory.make()
    np.testing.assert_array_equal(speech, frames_of(directory, "a"))


@pytest.mark.parametrize("frames", [10, 50])
def test_zeros_within_an_utterance(directory: support.audio.Directory, frames: int) -> None:
    """The windows lie within the speech, within the zeros, or overlap both, and change nothing."""
    for key, samples in directory.recordings.items():
        directory.recordings[key] = samples[: len(samples) // 160 * 160 - 80]
        directory.alignments[key] = [(0.0, 0.1, "b")]
    directory.write().make()
    expected = read_utterances(directory.out)
    zeros = np.zeros(160 * frames, np.int16)
    for key, samples in directory.recordings.items():
        directory.recordings[key] = np.concatenate([zeros, samples, zeros])
    directory.write().make()
    for name, utterance in read_utterances(directory.out).items():
        result, speech = utterance.features, expected[name].features
        np.testing.assert_array_equal(result[frames : frames + len(speech)], speech)
        assert not result[: frames - 2].any()
        assert not result[frames + len(speech) + 2 :].any()
        assert len(result) == 2 * frames + len(speech)
    largest, lowest = (
        f(np.concatenate([x.features for x in expected.values()])) for f in (np.max, np.min)
    )
    for utterance in read_utterances(directory.out).values():
        assert lowest <= utterance.features.min() <= utterance.features.max() <= largest


def test_silent_utterances_are_constant(directory: support.audio.Directory) -> None:
    """Normalisation by utterance has no other frames here."""
    directory.recordings["s00/a"] = np.full_like(directory.recordings["s00/a"], 5)
    directory.write().make(normalise="utterance")
    assert not read_utterances(directory.out)["s00-a"].features.any()


def test_without_normalisation_silence_stays_as_it_is(directory: support.audio.Directory) -> None:
    directory.recordings["s00/a"][:] = 0
    summary = directory.write().make(normalise="none")
    features = read_utterances(directory.out)["s00-a"].features
    assert (features == np.float16(FLOOR)).all()
    assert f"\n{len(features)} of " in summary
    assert summary.endswith(" frames are digital silence: left as they are")


@pytest.mark.parametrize("kind", ["float", "compressed"])
def test_digital_silence_in_kaldis_features(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("kaldi_native_io")
    import support.kaldi

    experiment = support.kaldi.make_directory(tmp_path)
    for name in experiment.features:
        if name.endswith("2"):
            experiment.features[name][:] = FLOOR
    experiment.write(kind).make()
    with_silence = support.kaldi.read_utterances(experiment.out)
    for name in [name for name in experiment.features if name.endswith("2")]:
        assert not with_silence[name].features.any()
        del experiment.features[name]
    experiment.write(kind).make()
    for name, utterance in support.kaldi.read_utterances(experiment.out).items():
        np.testing.assert_array_equal(with_silence[name].features, utterance.features)


@pytest.mark.parametrize("normalise", ["speaker", "utterance", "none"])
def test_features_that_are_not_finite_are_counted(tmp_path: Path, normalise: str) -> None:
    pytest.importorskip("kaldi_native_io")
    import support.kaldi

    experiment = support.kaldi.make_directory(tmp_path)
    experiment.features["s03-1"][7:9, 2] = np.nan
    experiment.features["s04-2"][0] = -np.inf
    lengths = {name: len(matrix) for name, matrix in experiment.features.items()}
    assert "; 2 of 36 excluded" in experiment.write().make(normalise=normalise, most_bad=0.1)
    assert Path(f"{experiment.out}.log").read_text().splitlines()[1:] == [
        f"s03-1: NaN or infinite features in 2 of {lengths['s03-1']} frames, from frame 7",
        f"s04-2: NaN or infinite features in 1 of {lengths['s04-2']} frames, from frame 0",
    ]
