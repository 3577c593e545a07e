"""Corpora on disk, and how their frames are dealt out."""

import itertools
import math
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import write_corpus

from gtcbmuf.corpus import (
    BLOCK,
    CHUNK,
    POOL,
    VERSION,
    WINDOW,
    FrameReader,
    Frames,
    Minibatches,
    Split,
    Utterance,
    Writer,
    excerpt,
    read,
    verify,
)
from gtcbmuf.errors import UserError
from gtcbmuf.partition import share
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
    writer = Writer(
        path,
        phones=["aa", "b"],
        target_phone=[0, 0, 1, 1],
        attributes={"preset": "by hand", "seed": 3, "hours": 0.5, "public": True},
    )
    with writer:
        for split, utterances in splits.items():
            for utterance in utterances:
                writer.add(split, utterance)


def split_of(lengths: list[int], dim: int = 1) -> Split:
    """A split whose feature 0 is the number of the frame."""
    frames = sum(lengths)
    features = np.arange(frames * dim).reshape(frames, dim) / dim
    targets = np.arange(frames) % 1000
    names = tuple(f"u{i}" for i in range(len(lengths)))
    ends = np.cumsum(lengths)
    return Split(features.astype(np.float16), targets.astype(np.uint16), ends, names, names)


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
        assert split.names == tuple(u.name for u in utterances)
        assert split.speakers == tuple(u.speaker for u in utterances)
    assert corpus.phones == ("aa", "b")
    assert corpus.target_phone.tolist() == [0, 0, 1, 1]
    assert corpus.attributes["preset"] == "by hand"


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
        replace(utterance("x", 4), features=np.full((4, 3), 1e9, np.float32)),
        replace(utterance("x", 4), targets=np.full(4, 4, np.uint16)),
        replace(utterance("x", 4), speaker="speaker of a"),
        Utterance("x", "y", np.zeros((0, 3), np.float32), np.zeros(0, np.uint16)),
    ],
    ids=["frames", "dimension", "overflow", "target", "speaker", "empty"],
)
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, wrong: Utterance) -> None:
    path = tmp_path / "corpus.h5"
    broken = {**SPLITS, "test": [utterance("e", 3), wrong]}
    with pytest.raises(ValueError, match=r"^x: "):
        write_splits(path, broken)
    assert list(tmp_path.iterdir()) == []

    write_splits(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^x: "):
        write_splits(path, broken)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_split_without_an_utterance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no utterance in valid"):
        write_splits(tmp_path / "corpus.h5", {**SPLITS, "valid": []})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file/corpus.h5", "x" * 300])
def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: "):
        write_splits(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_splits(path)
    assert verify(path) == []
    raw = path.read_bytes()
    for i in range(0, len(raw), 37):
        path.write_bytes(raw[:i] + bytes([raw[i] ^ 16]) + raw[i + 1 :])
        assert is_damaged(path)


def is_damaged(path: Path) -> bool:
    try:
        return bool(verify(path))
    except UserError:
        return True


def test_damaged_frames_are_named(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_corpus(path, train_frames=2 * CHUNK + 10)
    with h5py.File(path) as file:
        features = file["train/features"].id.get_offset() + file["train/features"].nbytes
        targets = file["valid/targets"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[features - 1] ^= 1
    raw[targets] ^= 1
    path.write_bytes(raw)
    assert verify(path) == [
        f"train: features of frames {2 * CHUNK} to {2 * CHUNK + 9}",
        "valid: targets of frames 0 to 599",
    ]


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
    with h5py.File(path, "r+", alignment_threshold=1, alignment_interval=8) as file:
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


def gathered(split: Frames, context: int, frame: int) -> list[float]:
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


@given(LENGTHS, st.integers(0, 4), st.data())
def test_an_excerpt_gathers_like_the_original(
    lengths: list[int], context: int, data: st.DataObject
) -> None:
    frames = split_of(lengths, 2)
    place = st.integers(0, len(frames) - 1)
    drawn = data.draw(st.lists(st.tuples(place, place), max_size=5))
    stretches = [(min(pair), max(pair) + 1) for pair in drawn]
    copy, positions = excerpt(frames, stretches, context)
    chosen = [frame for first, end in stretches for frame in range(first, end)]
    inputs, targets = FrameReader(copy, context, len(chosen)).gather(positions)
    assert inputs.tolist() == [gathered(frames, context, frame) for frame in chosen]
    assert targets.tolist() == [frames.targets[frame] for frame in chosen]


def dealt(
    split: Split, minibatch: int, workers: int, rank: int, epoch: int = 0
) -> list[list[float]]:
    """Numbers of the frames that a worker gets, step by step, with small blocks and windows."""
    with mock.patch.multiple("gtcbmuf.corpus", BLOCK=4, WINDOW=16, POOL=16):
        minibatches = Minibatches(split, 0, minibatch, workers, rank)
        minibatches.begin_epoch(
            np.random.default_rng([7, epoch]),
            lambda window: np.random.default_rng([8, rank, epoch, window]),
        )
        return [minibatches[step][0][:, 0].tolist() for step in range(minibatches.steps)]


DEALING = settings(deadline=None, max_examples=60)
FRAMES, MINIBATCH, WORKERS = st.integers(1, 200), st.integers(1, 40), st.integers(1, 9)


@DEALING
@given(FRAMES, MINIBATCH, WORKERS)
def test_every_frame_is_dealt_once_an_epoch(frames: int, minibatch: int, workers: int) -> None:
    split = split_of([frames])
    everything = [dealt(split, minibatch, workers, rank) for rank in range(workers)]
    steps = math.ceil(math.ceil(frames / workers) / minibatch)
    assert {len(batches) for batches in everything} == {steps}
    dealt_frames = [frame for steps in everything for batch in steps for frame in batch]
    assert sorted(dealt_frames) == list(range(frames))


@DEALING
@given(FRAMES, MINIBATCH, WORKERS)
def test_shares_differ_by_one_frame_and_only_the_last_minibatches_are_smaller(
    frames: int, minibatch: int, workers: int
) -> None:
    split = split_of([frames])
    everything = [dealt(split, minibatch, workers, rank) for rank in range(workers)]
    sizes = [sum(len(batch) for batch in steps) for steps in everything]
    assert max(sizes) - min(sizes) <= 1
    for steps in everything:
        lengths = [len(batch) for batch in steps]
        assert all(length == minibatch for length in lengths[:-2])
        assert lengths == sorted(lengths, reverse=True)


def test_a_share_may_be_empty() -> None:
    shares = [dealt(split_of([2]), 4, 3, rank) for rank in range(3)]
    assert sorted(len(steps[0]) for steps in shares) == [0, 1, 1]


def test_the_order_is_another_in_every_epoch() -> None:
    split = split_of([50])
    first, again, second = (dealt(split, 8, 1, 0, epoch) for epoch in (0, 0, 1))
    assert first == again != second
    for epoch in (first, second):
        assert sorted(itertools.chain(*epoch)) == list(range(50))
    assert first != [list(range(begin, min(begin + 8, 50))) for begin in range(0, 50, 8)]


def test_a_step_can_be_asked_for_without_those_before_it() -> None:
    """As after a resume: the order of a window does not depend on earlier ones."""
    split = split_of([500])

    def ready() -> Minibatches:
        minibatches = Minibatches(split, 2, 30, 1, 0)
        minibatches.begin_epoch(np.random.default_rng(0), np.random.default_rng)
        return minibatches

    with mock.patch.multiple("gtcbmuf.corpus", BLOCK=8, WINDOW=60, POOL=60):
        whole = ready()
        expected = [whole[step][0].copy() for step in range(whole.steps)]
        for step in (13, 3, 16, 0):
            np.testing.assert_array_equal(ready()[step][0], expected[step])


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """A worker's share is read window by window: what stays in memory is a window."""
    write_corpus(tmp_path / "corpus.h5", train_frames=60_000, dim=40)
    corpus = read(tmp_path / "corpus.h5")
    with mock.patch.multiple("gtcbmuf.corpus", WINDOW=1000, POOL=1000):
        minibatches = Minibatches(corpus.train, 5, 100, 1, 0)
        minibatches.begin_epoch(np.random.default_rng(0), np.random.default_rng)
        minibatches[0]
        tracemalloc.start()
        for step in range(minibatches.steps):
            minibatches[step]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < corpus.train.features.nbytes / 10


def test_the_page_names_what_is_in_the_file(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5")
    page = (Path(__file__).parents[1] / "docs/corpus.md").read_text()
    table = page.split("## What is in it")[1].split("##")[0]
    names: set[str] = set()
    with h5py.File(tmp_path / "corpus.h5") as file:
        file.visit(lambda name: names.add(name.split("/")[-1]))
    assert {name for name in names if f"`{name}`" in table or f"`/{name}`" in table} == names
    assert f"version {VERSION}" in page
    assert f"blocks of {BLOCK} frames" in page
    assert (POOL, WINDOW) == (2**20, 2**16)


def test_pieces_make_up_the_split(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5")
    split = read(tmp_path / "corpus.h5").train
    longest = max(np.diff(split.ends, prepend=0))
    for size in (1, longest, 3 * longest, 10**6):
        with mock.patch("gtcbmuf.corpus.POOL", size):
            pieces = list(split.pieces())
            np.testing.assert_array_equal(
                split.counts(20), np.bincount(split.targets, minlength=20)
            )
        assert all(len(targets) <= max(size, longest) for targets, _ in pieces)
        np.testing.assert_array_equal(np.concatenate([t for t, _ in pieces]), split.targets)
        begins = np.cumsum([0] + [len(targets) for targets, _ in pieces])
        ends = [ends + begin for (_, ends), begin in zip(pieces, begins, strict=False)]
        np.testing.assert_array_equal(np.concatenate(ends), split.ends)


@pytest.mark.parametrize("length", range(1, 9))
def test_frames_are_aligned_whatever_the_lengths_of_names(tmp_path: Path, length: int) -> None:
    path = tmp_path / "corpus.h5"
    with Writer(path, phones=["a" * length], target_phone=[0, 0, 0, 0], attributes={}) as writer:
        for split in SPLITS:
            writer.add(split, utterance(f"{split}{'x' * length}", 3))
    opened = read(path)
    for split in SPLITS:
        assert opened.split(split).features.flags.aligned
        assert opened.split(split).targets.flags.aligned


def test_frames_that_are_not_aligned_are_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5")
    with (
        h5py.File(tmp_path / "corpus.h5") as good,
        h5py.File(tmp_path / "odd.h5", "w", userblock_size=512, libver="v110") as odd,
    ):
        odd.attrs.update(good.attrs)
        for name in good:
            odd[f"x{name}"] = np.zeros(1, np.uint8)
            good.copy(name, odd)
    with pytest.raises(UserError, match="features is not aligned: it begins at byte"):
        read(tmp_path / "odd.h5")
