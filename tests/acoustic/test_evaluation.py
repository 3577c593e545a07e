"""`gtcbmuf score` on real ranks: counts, files and failures."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.launch import gtcbmuf

from gtcbmuf.acoustic.mlp import Architecture
from gtcbmuf.acoustic.model_file import SavedModel, save_model
from gtcbmuf.acoustic.phone_loop import PhoneLoop, collapse, edit_distance
from gtcbmuf.data.corpus import Corpus, Split, open_corpus
from gtcbmuf.data.corpus_writer import CorpusWriter, Utterance

PHONES = ("sil", "a", "b", "c")
TARGET_PHONE = np.repeat(np.arange(4), 2).astype(np.uint16)
TARGETS = len(TARGET_PHONE)
#: Utterances of each split. Valid has more than the decoder is tuned on.
SIZES = {"train": 60, "valid": 120, "test": 60}
COUNTS = ("frames", "frame_errors", "phones", "insertions", "deletions", "substitutions")


def write_corpus(path: Path, *, noise: float, phones: tuple[str, ...] = PHONES) -> None:
    """Write a corpus whose features are the one-hot target plus noise. They serve as scores.

    The test split begins with an utterance of silence, an utterance of one frame, and one that is
    so long that it is classified in parts.
    """
    stream = np.random.default_rng(0)
    with CorpusWriter(
        path, phones=phones, target_phone=TARGET_PHONE.tolist(), attributes={}
    ) as corpus:
        for split, size in SIZES.items():
            for number in range(size):
                sequence = stream.integers(0, len(PHONES), stream.integers(3, 12))
                if split == "test" and number < 3:
                    sequence = ([0], [1], stream.integers(0, len(PHONES), 250))[number]
                states = (2 * np.array(sequence)[:, None] + np.arange(2)).ravel()
                targets = np.repeat(states, stream.integers(1, 5, len(states)))
                if split == "test" and number == 1:
                    targets = targets[:1]
                features = np.eye(TARGETS)[targets] + stream.normal(0, noise, (len(targets), 8))
                name, speaker = f"{split}-{number}", f"{split}-speaker-{number % 3}"
                corpus.add(
                    split,
                    Utterance(
                        name, speaker, features.astype(np.float32), targets.astype(np.uint16)
                    ),
                )


def as_pdfs(corpus: Path, path: Path) -> None:
    """Copy a corpus, with pdf-ids of unknown phones as targets."""
    shutil.copy(corpus, path)
    with h5py.File(path, "r+") as file:
        file.attrs["targets"] = np.bytes_("pdf")


def write_model(
    path: Path, *, scale: float = 4, inputs: int = TARGETS, targets: int = TARGETS
) -> None:
    """Write a network without a hidden layer. Its scores are its inputs times `scale`."""
    shape = Architecture((inputs, targets), "relu")
    vector = np.zeros(shape.parameters, np.float32)
    vector[: inputs * targets] = scale * np.eye(inputs, targets, dtype=np.float32).ravel()
    counts = np.ones(targets, np.int64)
    save_model(path, SavedModel(vector, shape, 0, counts, ""))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scoring")
    write_corpus(folder / "noisy.h5", noise=0.6)
    write_model(folder / "model.h5")
    return folder


def score(
    folder: Path, corpus: str, *more: str | Path, ranks: int = 0
) -> tuple[str, dict[str, Any]]:
    """Run the command; return its output and its JSON file."""
    out = folder / "new" / "score.json"
    done = gtcbmuf(
        *("score", folder / "model.h5", folder / corpus, "--out", out, *more), ranks=ranks
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(out.read_text())


@pytest.fixture(scope="module")
def alone(folder: Path) -> tuple[str, dict[str, Any]]:
    return score(folder, "noisy.h5", ranks=1)


@pytest.mark.parametrize("ranks", [2, 4])
def test_any_number_of_ranks_gives_the_same_results(
    folder: Path, alone: tuple[str, dict[str, Any]], ranks: int
) -> None:
    assert score(folder, "noisy.h5", ranks=ranks) == alone


def counts_one_by_one(corpus: Corpus, split: Split, pairs: list[tuple[float, float]]) -> np.ndarray:
    """Count COUNTS (pairs, U, 6) for each pair of language weight and insertion penalty."""
    train = corpus.train
    loop = PhoneLoop([(train.targets, train.ends)], TARGET_PHONE, len(PHONES))
    rows = []
    for weight, penalty in pairs:
        for begin, end in pairwise([0, *split.ends]):
            scores, targets = (
                4 * split.features[begin:end].astype(np.float32),
                split.targets[begin:end],
            )
            truth, _ = collapse(targets, np.array([len(targets)]), TARGET_PHONE)
            truth, decoded = truth[truth != 0], loop.decode(scores, weight, penalty)
            errors = int(np.count_nonzero(scores.argmax(axis=1) != targets))
            rows.append(
                (len(targets), errors, len(truth), *edit_distance(truth, decoded[decoded != 0]))
            )
    return np.array(rows).reshape(len(pairs), -1, len(COUNTS))


def test_counts_equal_a_loop_over_utterances(
    folder: Path, alone: tuple[str, dict[str, Any]]
) -> None:
    _, result = alone
    corpus = open_corpus(folder / "noisy.h5")
    pair = (result["language_weight"], result["insertion_penalty"])
    (expected,) = counts_one_by_one(corpus, corpus.test, [pair])
    assert expected.sum(axis=0).all(), "no error of some kind"

    assert [[row[key] for key in COUNTS] for row in result["utterances"]] == expected.tolist()
    assert [row["name"] for row in result["utterances"]] == list(corpus.test.names)
    assert [row["speaker"] for row in result["utterances"]] == list(corpus.test.speakers)
    assert [result[key] for key in COUNTS] == expected.sum(axis=0).tolist()
    assert result["fer"] == pytest.approx(100 * result["frame_errors"] / result["frames"])
    assert result["per"] == pytest.approx(
        100 * sum(result[key] for key in COUNTS[3:]) / result["phones"]
    )
    assert result["utterances"][0]["phones"] == 0  # silence

    confusions = np.zeros((len(PHONES), len(PHONES)), int)
    for target, features in zip(corpus.test.targets, corpus.test.features, strict=True):
        confusions[target // 2, features.argmax() // 2] += 1
    assert result["phones"] == expected[:, 2].sum()
    assert result["confusions"] == {"phones": list(PHONES), "frames": confusions.tolist()}
    for number, row in enumerate(result["speakers"]):
        assert row["speaker"] == f"test-speaker-{number}"
        assert [row[key] for key in COUNTS] == expected[number::3].sum(axis=0).tolist()


def test_weight_and_penalty_are_the_best_on_valid(
    folder: Path, alone: tuple[str, dict[str, Any]]
) -> None:
    _, result = alone
    corpus = open_corpus(folder / "noisy.h5")
    pairs = [(float(w), float(p)) for w in range(1, 7) for p in range(-6, 3, 2)]
    tuned_on = np.arange(100) * 120 // 100
    errors = counts_one_by_one(corpus, corpus.valid, pairs)[:, tuned_on, 3:].sum(axis=(1, 2))
    best = pairs[int(errors.argmin())]
    assert (result["language_weight"], result["insertion_penalty"]) == best
    assert result["tuned_on"] == len(tuned_on)


@pytest.mark.parametrize(
    ("rate", "errors", "of"), [("fer", COUNTS[1:2], "frames"), ("per", COUNTS[3:], "phones")]
)
@pytest.mark.parametrize(
    ("units", "key"), [("utterances", "interval"), ("speakers", "interval_over_speakers")]
)
def test_intervals_equal_those_of_another_bootstrap(
    alone: tuple[str, dict[str, Any]],
    units: str,
    key: str,
    rate: str,
    errors: tuple[str, ...],
    of: str,
) -> None:
    _, result = alone
    rows = result[units]
    wrong = np.array([sum(row[key] for key in errors) for row in rows])
    count = np.array([row[of] for row in rows])
    times = np.random.default_rng(1).multinomial(
        len(rows), np.full(len(rows), 1 / len(rows)), 20000
    )
    low, high = np.percentile(100 * (times @ wrong) / (times @ count), [2.5, 97.5])
    assert low < result[rate] < high
    assert result[f"{rate}_{key}"] == pytest.approx([low, high], abs=0.1 * (high - low))


def test_the_output_has_the_numbers_of_the_file(alone: tuple[str, dict[str, Any]]) -> None:
    printed, result = alone
    rows = {line.split()[0]: line.split() for line in printed.splitlines()}
    facts_of = {row["speaker"]: row for row in result["speakers"]} | {"all": result}
    for name, facts in facts_of.items():
        edits = [f"{100 * facts[key] / facts['phones']:.2f}" for key in COUNTS[3:]]
        assert rows[name] == [
            *(name, f"{facts['frames']:,}", f"{facts['fer']:.2f}"),
            *(f"{facts['phones']:,}", f"{facts['per']:.2f}", *edits),
        ]
    low, high = result["per_interval"]
    first, last = result["per_interval_over_speakers"]
    assert (
        f"PER {result['per']:.2f} %, 95 % interval over utterances {low:.2f} to {high:.2f}, "
        f"over speakers {first:.2f} to {last:.2f}\n" in printed
    )
    assert f"tuned on {result['tuned_on']} utterances of valid" in printed


def test_confusions_are_drawn(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "new" / "confusions.png"
    score(folder, "noisy.h5", "--picture", picture, ranks=2)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_perfect_model_makes_no_error(folder: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "clean.h5", noise=0)
    write_model(tmp_path / "model.h5", scale=1000)
    _, result = score(tmp_path, "clean.h5", "--split", "valid")
    assert result["split"] == "valid"
    assert result["fer"] == result["per"] == 0
    assert result["phones"] > 100
    assert result["fer_interval"] == result["per_interval"] == [0, 0]


@pytest.mark.parametrize("ranks", [0, 2])
def test_unknown_phones_give_frame_errors_only(
    folder: Path, alone: tuple[str, dict[str, Any]], ranks: int, tmp_path: Path
) -> None:
    as_pdfs(folder / "noisy.h5", folder / "pdfs.h5")
    printed, result = score(folder, "pdfs.h5", ranks=ranks)
    _, expected = alone
    same = ("fer", "frames", "frame_errors")
    assert [result[key] for key in same] == [expected[key] for key in same]
    assert result["fer_interval"] == expected["fer_interval"]
    for rows in ("speakers", "utterances"):
        names = [key for key in ("name", "speaker") if key in expected[rows][0]]
        assert result[rows] == [
            {key: row[key] for key in (*names, *same)} for row in expected[rows]
        ]
    assert set(result) == {
        "model",
        "corpus",
        "split",
        *same,
        "fer_interval",
        "fer_interval_over_speakers",
        "speakers",
        "utterances",
    }
    assert "FER" in printed
    assert "PER" not in printed


def test_scores_can_be_compared(folder: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "model.h5", scale=1)
    shutil.copy(folder / "noisy.h5", tmp_path)
    _, coarse = score(tmp_path, "noisy.h5")
    _, fine = score(folder, "noisy.h5")
    done = gtcbmuf(
        *("compare", folder / "new/score.json", "--baseline", tmp_path / "new/score.json")
    )
    assert done.returncode == 0, done.stderr
    for rate in ("fer", "per"):
        row = f"| {rate.upper()} % |    {coarse[rate]:.2f} | {fine[rate]:.2f} |"
        assert row in done.stdout


def test_faults_end_in_one_line(folder: Path) -> None:
    write_model(folder / "wide.h5", inputs=9)
    write_model(folder / "many.h5", targets=9)
    corpus, pdfs = folder / "noisy.h5", folder / "pdfs.h5"
    as_pdfs(corpus, pdfs)
    cases: list[tuple[int, list[str | Path], str]] = [
        (2, [folder / "wide.h5", corpus], f"wide.h5 takes 9 inputs, but {corpus} gives 8"),
        (0, [folder / "many.h5", corpus], f"many.h5 has 9 targets, but {corpus} has 8"),
        (0, [folder / "none.h5", corpus], "none.h5"),
        (0, [folder / "model.h5", corpus, "--split", "dev"], "dev"),
        (2, [folder / "model.h5", corpus, "--out", corpus / "score.json"], "cannot be written"),
        (2, [folder / "model.h5", pdfs, "--picture", "x.png"], f"x.png: the targets of {pdfs} are"),
        (
            0,
            [folder / "model.h5", corpus, "--picture", "x.foo"],
            "--picture x.foo: cannot be drawn",
        ),
        (0, [folder / "model.h5", corpus, "--out", corpus], "this file is read; expected another"),
        (
            0,
            [folder / "model.h5", corpus, "--out", folder],
            f"--out {folder}: a folder; expected a",
        ),
    ]
    for ranks, arguments, message in cases:
        done = gtcbmuf("score", *arguments, ranks=ranks)
        assert done.returncode == 2, done.stdout + done.stderr
        # Open MPI's mpirun prints its own lines after a status other than 0.
        lines = [line for line in done.stderr.splitlines() if line.startswith("gtcbmuf: ")]
        assert len(lines) == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert message in lines[0]
        assert "FER" not in done.stdout, "not refused before the evaluation"
    assert open_corpus(corpus).has_phones, "an input was replaced"
