"""Corpus files: writing, reading, damage and refused files."""

import os
from dataclasses import replace
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
from support import hostile
from support.corpora import write_corpus
from support.launch import ROOT

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.hdf5 import get_attributes
from gtcbmuf.data.corpus import POOL, find_damage, open_corpus
from gtcbmuf.data.corpus_format import CHECKSUM_FRAMES, VERSION
from gtcbmuf.data.corpus_writer import CorpusWriter, Utterance


def make_utterance(name: str, frames: int, dim: int = 3, seed: int = 0) -> Utterance:
    stream = np.random.default_rng([seed, frames])
    return Utterance(
        name,
        f"speaker of {name}",
        stream.normal(size=(frames, dim)).astype(np.float32),
        stream.integers(0, 4, frames).astype(np.uint16),
    )


SPLITS = {
    "train": [make_utterance("a", 5), make_utterance("b", 1), make_utterance("ç", 7)],
    "valid": [make_utterance("d", 2)],
    "test": [make_utterance("e", 3), make_utterance("f", 4)],
}


def write_splits(path: Path, splits: dict[str, list[Utterance]] = SPLITS) -> None:
    writer = CorpusWriter(
        path,
        phones=["aa", "b"],
        target_phone=[0, 0, 1, 1],
        attributes={"preset": "by hand", "seed": 3, "hours": 0.5, "public": True},
    )
    with writer:
        for split, utterances in splits.items():
            for utterance in utterances:
                writer.add(split, utterance)


def test_a_corpus_reads_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "corpus.h5"
    write_splits(path)
    corpus = open_corpus(path)
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


def test_the_file_holds_attributes_phones_names_and_speakers(tmp_path: Path) -> None:
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
    with h5py.File(one) as file:  # a creation time would differ between the files
        for array in (*file["train"].values(), file["phones"], file["target_phone"]):
            assert not array.id.get_create_plist().get_obj_track_times()


@pytest.mark.parametrize(
    "invalid_utterance",
    [
        replace(make_utterance("x", 4), targets=np.zeros(5, np.uint16)),
        replace(make_utterance("x", 4), features=np.zeros((4, 2), np.float32)),
        replace(make_utterance("x", 4), features=np.full((4, 3), 1e9, np.float32)),
        replace(make_utterance("x", 4), targets=np.full(4, 4, np.uint16)),
        replace(make_utterance("x", 4), speaker="speaker of a"),
        Utterance("x", "y", np.zeros((0, 3), np.float32), np.zeros(0, np.uint16)),
    ],
    ids=["frames", "dimension", "overflow", "target", "speaker", "empty"],
)
def test_a_failed_write_keeps_the_earlier_file(
    tmp_path: Path, invalid_utterance: Utterance
) -> None:
    path = tmp_path / "corpus.h5"
    invalid_splits = {**SPLITS, "test": [make_utterance("e", 3), invalid_utterance]}
    with pytest.raises(ValueError, match=r"^x: "):
        write_splits(path, invalid_splits)
    assert list(tmp_path.iterdir()) == []

    write_splits(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"^x: "):
        write_splits(path, invalid_splits)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_split_without_an_utterance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="valid has no utterance; expected at least one"):
        write_splits(tmp_path / "corpus.h5", {**SPLITS, "valid": []})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file/corpus.h5", "x" * 300])
def test_an_unwritable_path_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: "):
        write_splits(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_digest_belongs_to_the_opened_file(tmp_path: Path) -> None:
    path, other = tmp_path / "corpus.h5", tmp_path / "other.h5"
    write_splits(path)
    write_splits(other)
    corpus = open_corpus(path)
    assert corpus.digest == open_corpus(other).digest
    write_corpus(other)
    os.replace(other, path)
    assert corpus.digest != open_corpus(path).digest
    path.unlink()  # the open corpus still maps it
    assert len(corpus.digest.split()[-1]) == 64


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_splits(path)
    assert find_damage(path) == []
    raw = path.read_bytes()
    for i in range(0, len(raw), 37):
        path.write_bytes(raw[:i] + bytes([raw[i] ^ 16]) + raw[i + 1 :])
        assert is_damaged(path)


def is_damaged(path: Path) -> bool:
    try:
        return bool(find_damage(path))
    except UserError:
        return True


def test_damaged_frames_are_named(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_corpus(path, train_frames=2 * CHECKSUM_FRAMES + 10)
    with h5py.File(path) as file:
        features = file["train/features"].id.get_offset() + file["train/features"].nbytes
        targets = file["valid/targets"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[features - 1] ^= 1
    raw[targets] ^= 1
    path.write_bytes(raw)
    assert find_damage(path) == [
        f"train: features of frames {2 * CHECKSUM_FRAMES} to {2 * CHECKSUM_FRAMES + 9}",
        "valid: targets of frames 0 to 599",
    ]


def get_refusal(path: Path) -> str:
    """Return the message for a refused file: one line with its path."""
    with pytest.raises(UserError) as error_info:
        open_corpus(path)
    message = str(error_info.value)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return message


def test_a_missing_corpus_is_refused_with_a_command_that_creates_it(tmp_path: Path) -> None:
    path = tmp_path / "none.h5"
    assert f"gtcbmuf corpus synth --preset small --out {path}" in get_refusal(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    path.write_text("some text\n" * 100)
    assert "cannot be read as a corpus" in get_refusal(path)
    assert "cannot be read as a corpus" in get_refusal(tmp_path)
    get_refusal(tmp_path / ("x" * 300))


def test_a_foreign_hdf5_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w") as file:
        file["train"] = [1, 2, 3]
    assert "an HDF5 file, but not a gtcbmuf corpus" in get_refusal(path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_splits(path)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
    assert get_refusal(path).endswith("corpus format version 2; expected 1")


def test_a_truncated_corpus_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_corpus(path, train_frames=300)
    content = path.read_bytes()
    for length in [0, 1, 100, *range(1000, len(content), 2500), len(content) - 1]:
        path.write_bytes(content[:length])
        get_refusal(path)


@pytest.mark.parametrize(
    ("dataset", "content", "message"),
    [
        ("train/lengths", [5, 1, 6], "targets, and lengths with the sum 12; expected equal"),
        ("train/lengths", [0, 6, 7], "train: 13 frames of features, 13 targets, and lengths"),
        ("train/lengths", [14, -8, 7], "with the sum 13; expected equal numbers, and lengths"),
        ("train/lengths", [], "train: 13 frames of features, 13 targets, and lengths with"),
        ("valid/targets", np.zeros(3, np.uint16), "valid: 2 frames of features, 3 targets, and"),
        ("test/targets", np.full(7, 4, np.uint16), "test: target 4; expected 0 to 3"),
        ("test/targets", np.zeros(7, np.int64), "targets is not a contiguous 1-D array of uint16"),
        ("valid/features", np.zeros((2, 5), np.float16), "have 3, 5 and 3 features per frame"),
        ("valid/features", np.zeros((2, 3), np.float32), "not a contiguous 2-D array of float16"),
        ("valid/features", np.zeros(2, np.float16), "not a contiguous 2-D array of float16"),
        ("valid/names", np.array([b"d", b"x"]), "valid: 1 lengths, 2 names and 1 speakers"),
        ("target_phone", np.array([0, 2], np.uint16), "target_phone: expected at least one"),
        ("train/features", None, "features"),
        ("target_phone", None, "target_phone"),
        ("test", None, "test"),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(
    tmp_path: Path, dataset: str, content: object, message: str
) -> None:
    path = tmp_path / "corpus.h5"
    write_splits(path)
    with h5py.File(path, "r+", alignment_threshold=1, alignment_interval=8) as file:
        del file[dataset]
        if content is not None:
            file[dataset] = np.array(content)
    assert message in get_refusal(path)


def test_compressed_features_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_splits(path)
    with h5py.File(path, "r+") as file:
        features = file["train/features"][:]
        del file["train/features"]
        file.create_dataset("train/features", data=features, compression="gzip")
    assert "train/features is not contiguous" in get_refusal(path)


@pytest.mark.parametrize("link", [h5py.SoftLink("/valid"), h5py.ExternalLink("other.h5", "/train")])
def test_links_in_the_file_are_not_followed(tmp_path: Path, link: object) -> None:
    write_splits(tmp_path / "corpus.h5")
    write_splits(tmp_path / "other.h5")
    with h5py.File(tmp_path / "corpus.h5", "r+") as file:
        del file["train"]
        file["train"] = link
    assert "no dataset train/features" in get_refusal(tmp_path / "corpus.h5")


def test_damaged_attributes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    write_splits(path)
    content = bytearray(path.read_bytes())
    places = hostile.structures(bytes(content))
    [(begin, end)] = [(begin, end) for begin, end in places if b"preset" in content[begin:end]]
    content[content.index(b"preset", begin) - 6] ^= 255  # the size of the attribute's name
    path.write_bytes(content)
    get_refusal(path)
    content[end : end + 4] = hostile.checksum(bytes(content[begin:end])).to_bytes(4, "little")
    path.write_bytes(content)
    assert "attribute" in get_refusal(path)


def test_the_page_names_the_content_of_the_file(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5")
    page = (ROOT / "docs/reference/files.md").read_text()
    table = page.split("### Content of a corpus")[1].split("##")[0]
    names: set[str] = set()
    with h5py.File(tmp_path / "corpus.h5") as file:
        file.visit(lambda name: names.add(name.split("/")[-1]))
    assert {name for name in names if f"`{name}`" in table or f"`/{name}`" in table} == names
    assert f"version {VERSION}" in page
    assert POOL == 2**20


def test_the_pieces_cover_the_split(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5")
    split = open_corpus(tmp_path / "corpus.h5").train
    longest = max(np.diff(split.ends, prepend=0))
    for size in (1, longest, 3 * longest, 10**6):
        with mock.patch("gtcbmuf.data.corpus.POOL", size):
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
def test_frames_are_aligned_for_any_lengths_of_names(tmp_path: Path, length: int) -> None:
    path = tmp_path / "corpus.h5"
    with CorpusWriter(
        path, phones=["a" * length], target_phone=[0, 0, 0, 0], attributes={}
    ) as writer:
        for split in SPLITS:
            writer.add(split, make_utterance(f"{split}{'x' * length}", 3))
    corpus = open_corpus(path)
    for split in SPLITS:
        assert corpus.split(split).features.flags.aligned
        assert corpus.split(split).targets.flags.aligned


def test_unaligned_frames_are_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5")
    with (
        h5py.File(tmp_path / "corpus.h5") as good,
        h5py.File(tmp_path / "odd.h5", "w", userblock_size=512, libver="v110") as odd,
    ):
        odd.attrs.update(good.attrs)
        for name in good:
            odd[f"x{name}"] = np.zeros(1, np.uint8)
            good.copy(name, odd)
    with pytest.raises(
        UserError, match=r"features is not aligned: it starts at byte \d+; expected"
    ):
        open_corpus(tmp_path / "odd.h5")
