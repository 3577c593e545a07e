"""Corpora on disk, and how their frames are dealt out."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import write_corpus

from gtcbmuf.corpus import FrameReader, Minibatches, Split, Utterance, read, share, write
from gtcbmuf.errors import UserError
from gtcbmuf.storage import get_attributes


def utterance(name: str, frames: int, dim: int = 3, seed: int = 0) -> Utterance:
    stream = np.random.default_rng([seed, frames])
    return Utterance(
        name,
        f"speaker of {name}",
        stream.normal(size=(frames, dim)).astype(np.float32),
        stream.integers(0, 4, frames).astype(np.uint16),
    )


SPLITS = {
    "train": [utterance("a", 5), utterance("b", 1), utterance("ç", 7)],
    "valid": [utterance("d", 2)],
    "test": [utterance("e", 3), utterance("f", 4)],
}


def write_splits(path: Path, splits: dict[str, list[Utterance]] = SPLITS) -> None:
    write(
        path,
        splits,
        phones=["aa", "b"],
        target_phone=[0, 0, 1, 1],
        attributes={"preset": "by hand", "seed": 3, "hours": 0.5, "public": True},
    )


def split_of(lengths: list[int], dim: int = 1) -> Split:
    """A split whose feature 0 is the number of the frame."""
    frames = sum(lengths)
    features = np.arange(frames * dim).reshape(frames, dim) / dim
    targets = np.arange(frames) % 1000
    return Split(features.astype(np.float16), targets.astype(np.uint16), np.cumsum(lengths))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "corpus.h5"
    write_splits(path)
    corpus = read(path)
    assert (corpus.path, corpus.feature_dim, corpus.target_count) == (path, 3, 4)
    for name, split in (("train", corpus.train), ("valid", corpus.valid), ("test", corpus.test)):
        utterances = SPLITS[name]
        features = np.concatenate([u.features for u in utterances])
        np.testing.assert_array_equal(split.features, features.astype(np.float16))
        np.testing.assert_array_equal(
            split.targets, np.concatenate([u.targets for u in utterances])
        )
        assert np.diff(split.ends, prepend=0).tolist() == [len(u.targets) for u in utterances]
        assert len(split) == len(features)
        assert not split.features.flags.writeable


def test_the_file_says_how_it_was_made_and_who_speaks(tmp_path: Path) -> None:
    write_splits(tmp_path / "corpus.h5")
    with h5py.File(tmp_path / "corpus.h5") as file:
        assert get_attributes(file) == {
            "format": "gtcbmuf-corpus",
            "version": 1,
            "preset": "by hand",
            "seed": 3,
            "hours": 0.5,
            "public": True,
        }
        assert list(file["phones"].asstr()) == ["aa", "b"]
        assert list(file["target_phone"]) == [0, 0, 1, 1]
        assert list(file["train/names"].asstr()) == ["a", "b", "ç"]
        assert file["train/speakers"].asstr()[2] == "speaker of ç"


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.h5", "two.h5"):
        write_corpus(tmp_path / name, train_frames=500)
    write_corpus(tmp_path / "other.h5", train_frames=500, seed=1)
    one, two, other = (tmp_path / f"{name}.h5" for name in ("one", "two", "other"))
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()
    with h5py.File(one) as file:  # no time is kept, which could differ a second later
        for array in (*file["train"].values(), file["phones"], file["target_phone"]):
            assert not array.id.get_create_plist().get_obj_track_times()


@pytest.mark.parametrize(
    "wrong",
    [
        replace(utterance("x", 4), targets=np.zeros(5, np.uint16)),
        replace(utterance("x", 4), features=np.zeros((4, 2), np.float32)),
    ],
    ids=["frames", "dimension"],
)
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, wrong: Utterance) -> None:
    path = tmp_path / "corpus.h5"
    broken = {**SPLITS, "test": [utterance("e", 3), wrong]}
    with pytest.raises(ValueError, match=r"differ|dimension"):
        write_splits(path, broken)
    assert list(tmp_path.iterdir()) == []

    write_splits(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"differ|dimension"):
        write_splits(path, broken)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def refusal(path: Path) -> str:
    """What `read` says of a file that it refuses: one line that names it."""
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return message


def test_a_missing_corpus_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "none.h5"
    assert f"gtcbmuf corpus synth --preset small --out {path}" in refusal(path)


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    path.write_text("some text\n" * 100)
    assert "cannot be read as a corpus" in refusal(path)
    assert "cannot be read as a corpus" in refusal(tmp_path)
    refusal(tmp_path / ("x" * 300))


def test_a_foreign_hdf5_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w") as file:
        file["train"] = [1, 2, 3]
    assert "not a corpus of ours" in refusal(path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_splits(path)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
    assert re.search(r"format 2\b.*reads 1$", refusal(path))


def test_a_corpus_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "whole.h5", train_frames=300)
    whole = (tmp_path / "whole.h5").read_bytes()
    path = tmp_path / "cut.h5"
    for length in [0, 1, 100, *range(1000, len(whole), 2500), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refusal(path)


@pytest.mark.parametrize(
    ("dataset", "content", "words"),
    [
        ("train/lengths", [5, 1, 6], "train: features, targets and lengths differ"),
        ("train/lengths", [0, 6, 7], "train: features, targets and lengths differ"),
        ("train/lengths", [14, -8, 7], "train: features, targets and lengths differ"),
        ("train/lengths", [], "train: features, targets and lengths differ"),
        ("valid/targets", np.zeros(3, np.uint16), "valid: features, targets and lengths differ"),
        ("test/targets", np.full(7, 4, np.uint16), "test: target 4 of only 4"),
        ("test/targets", np.zeros(7, np.int64), "targets is not a contiguous 1-D array of uint16"),
        ("valid/features", np.zeros((2, 5), np.float16), "differ in their feature dimension"),
        ("valid/features", np.zeros((2, 3), np.float32), "not a contiguous 2-D array of float16"),
        ("valid/features", np.zeros(2, np.float16), "not a contiguous 2-D array of float16"),
        ("train/features", None, "features"),
        ("target_phone", None, "target_phone"),
        ("test", None, "test"),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(
    tmp_path: Path, dataset: str, content: object, words: str
) -> None:
    path = tmp_path / "corpus.h5"
    write_splits(path)
    with h5py.File(path, "r+") as file:
        del file[dataset]
        if content is not None:
            file[dataset] = np.array(content)
    assert words in refusal(path)


def test_compressed_features_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_splits(path)
    with h5py.File(path, "r+") as file:
        features = file["train/features"][:]
        del file["train/features"]
        file.create_dataset("train/features", data=features, compression="gzip")
    assert "not a contiguous 2-D array" in refusal(path)


def gathered(split: Split, context: int, frame: int) -> list[float]:
    """The inputs of one frame, by a loop."""
    ends = split.ends.tolist()
    utterance = next(u for u, end in enumerate(ends) if frame < end)
    first, last = (ends[utterance - 1] if utterance else 0), ends[utterance] - 1
    inputs: list[float] = []
    for position in range(frame - context, frame + context + 1):
        inputs += split.features[min(max(position, first), last)].tolist()
    return inputs


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@settings(deadline=None)
@given(lengths=LENGTHS, dim=st.integers(1, 3), context=st.integers(0, 12), data=st.data())
def test_gather_clamps_context_at_the_ends_of_utterances(
    lengths: list[int], dim: int, context: int, data: st.DataObject
) -> None:
    split = split_of(lengths, dim)
    reader = FrameReader(split, context, 10)
    for _ in range(2):  # the buffers of the first call do no harm to the second
        chosen = data.draw(st.lists(st.integers(0, len(split) - 1), max_size=10))
        inputs, targets = reader.gather(np.array(chosen, np.int64))
        assert inputs.dtype == np.float32
        assert inputs.shape == (len(chosen), (2 * context + 1) * dim)
        assert inputs.tolist() == [gathered(split, context, frame) for frame in chosen]
        assert targets.tolist() == [split.targets[frame] for frame in chosen]


def test_gather_reads_a_corpus_on_disk_like_one_in_memory(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5", train_frames=200)
    split = read(tmp_path / "corpus.h5").train
    inputs, targets = FrameReader(split, 3, 200).gather(np.arange(200))
    assert inputs.tolist() == [gathered(split, 3, frame) for frame in range(200)]
    assert targets.tolist() == split.targets.tolist()


@given(st.integers(0, 10**6), st.integers(1, 300))
def test_shares_follow_each_other_and_differ_by_one_at_most(frames: int, workers: int) -> None:
    shares = [share(frames, workers, rank) for rank in range(workers)]
    assert shares[0][0] == 0
    assert shares[-1][1] == frames
    assert all(end == first for (_, end), (first, _) in itertools.pairwise(shares))
    sizes = {end - first for first, end in shares}
    assert max(sizes) - min(sizes) <= 1


def dealt(
    split: Split, minibatch: int, workers: int, rank: int, epoch: int = 0
) -> list[list[float]]:
    """Numbers of the frames that a worker gets, step by step."""
    minibatches = Minibatches(split, 0, minibatch, workers, rank)
    minibatches.shuffle(np.random.default_rng([7, epoch]))
    return [minibatches[step][0][:, 0].tolist() for step in range(minibatches.steps)]


DEALING = settings(deadline=None, max_examples=60)
FRAMES, MINIBATCH, WORKERS = st.integers(1, 200), st.integers(1, 40), st.integers(1, 9)


@DEALING
@given(FRAMES, MINIBATCH, WORKERS)
def test_every_frame_is_dealt_once_an_epoch(frames: int, minibatch: int, workers: int) -> None:
    split = split_of([frames])
    everything = [dealt(split, minibatch, workers, rank) for rank in range(workers)]
    assert {len(steps) for steps in everything} == {-(-frames // (workers * minibatch))}
    dealt_frames = [frame for steps in everything for batch in steps for frame in batch]
    assert sorted(dealt_frames) == list(range(frames))


@DEALING
@given(FRAMES, MINIBATCH, WORKERS)
def test_n_workers_see_what_one_sees_with_an_n_fold_minibatch(
    frames: int, minibatch: int, workers: int
) -> None:
    split = split_of([frames])
    ranks = [dealt(split, minibatch, workers, rank) for rank in range(workers)]
    alone = dealt(split, workers * minibatch, 1, 0)
    sizes = Minibatches(split, 0, minibatch, workers, 0)
    for step, (batch, *parts) in enumerate(zip(alone, *ranks, strict=True)):
        assert [frame for part in parts for frame in part] == batch
        lengths = [len(part) for part in parts]
        assert max(lengths) - min(lengths) <= 1
        assert max(lengths) <= minibatch
        assert sizes.global_size(step) == len(batch)


def test_a_share_may_be_empty() -> None:
    shares = [dealt(split_of([2]), 4, 3, rank) for rank in range(3)]
    assert sorted(len(steps[0]) for steps in shares) == [0, 1, 1]


def test_the_order_is_another_in_every_epoch() -> None:
    split = split_of([50])
    first, again, second = (dealt(split, 8, 1, 0, epoch) for epoch in (0, 0, 1))
    assert first == again != second
    assert first != [list(range(begin, min(begin + 8, 50))) for begin in range(0, 50, 8)]
