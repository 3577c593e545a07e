"""`corpus info` and `corpus verify`."""

import zlib
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.corpora import write_corpus
from support.launch import gtcbmuf

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.data.corpus_format import format_user_block, hash_content
from gtcbmuf.data.inspection import describe_corpus, draw_utterance


def test_the_description_has_the_numbers_of_the_corpus(tmp_path: Path) -> None:
    write_corpus(tmp_path / "tiny.h5", train_frames=1234)
    corpus = open_corpus(tmp_path / "tiny.h5")
    lines = describe_corpus(corpus).splitlines()
    assert "made_by = tests/support/corpora.py" in lines
    train, speakers = [line.split() for line in lines if line.startswith("train ")]
    assert train[2:] == ["1,234", str(len(corpus.train.ends)), "3"]
    assert sorted(speakers[1::3]) == [f"train-speaker-{i}" for i in range(3)]
    assert set(speakers[3::3]) == {"h,", "h"}
    shares = [float(word) for line in lines[lines.index("") :] for word in find_percentages(line)]
    assert len(shares) == len(corpus.phones)
    assert sum(shares) == pytest.approx(100, abs=0.1)
    assert shares == sorted(shares, reverse=True)


def find_percentages(line: str) -> list[str]:
    return [number for number, unit in pairwise(line.split()) if unit == "%"]


def test_targets_without_a_train_frame_are_named(tmp_path: Path) -> None:
    write_corpus(tmp_path / "tiny.h5", train_frames=1, targets=3)
    corpus = open_corpus(tmp_path / "tiny.h5")
    unseen = sorted({0, 1, 2} - set(corpus.train.targets.tolist()))
    assert f"without a train frame: {unseen[0]}, {unseen[1]}" in describe_corpus(corpus)


def test_pdf_ids_are_counted_and_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "pdfs.h5"
    write_corpus(path, train_frames=1, targets=3)
    with h5py.File(path, "r+") as file:
        file.attrs["targets"] = np.bytes_("pdf")
    lines = describe_corpus(open_corpus(path)).splitlines()
    assert lines[-1] == "3 pdf-ids, 2 of them without a train frame"
    assert lines[-2] == ""


def test_an_utterance_is_drawn(tmp_path: Path) -> None:
    write_corpus(tmp_path / "tiny.h5", train_frames=300)
    corpus = open_corpus(tmp_path / "tiny.h5")
    draw_utterance(corpus, corpus.test.names[-1], tmp_path / "new" / "utterance.png")
    assert (tmp_path / "new/utterance.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(
        UserError, match="no utterance 'nobody'; expected a name such as 'train-0000'"
    ):
        draw_utterance(corpus, "nobody", tmp_path / "nobody.png")


def test_the_commands(tmp_path: Path) -> None:
    path = tmp_path / "tiny.h5"
    write_corpus(path, train_frames=300)
    assert gtcbmuf("corpus", "info", path).returncode == 0
    assert "every byte is as it was written" in gtcbmuf("corpus", "verify", path).stdout
    damaged = bytearray(path.read_bytes())
    place = damaged.rindex(feature_bytes(path)[:64])
    damaged[place] ^= 1
    path.write_bytes(damaged)
    process = gtcbmuf("corpus", "verify", path)
    assert process.returncode == 2
    assert process.stderr == f"gtcbmuf: {path}: damaged: train: features of frames 0 to 299\n"


def test_verify_names_features_that_are_not_finite(tmp_path: Path) -> None:
    """Other programs write such files with right hashes."""
    path = tmp_path / "foreign.h5"
    write_corpus(path, train_frames=300)
    corpus = open_corpus(path)
    second, last = corpus.train.names[1], corpus.test.names[-1]
    with h5py.File(path, "r+") as file:
        train = file["train/features"]
        train[corpus.train.ends[0] : corpus.train.ends[0] + 2, 3] = np.nan
        file["test/features"][-1] = np.inf
        for split in ("train", "test"):
            file[f"{split}/features_crc32"][0] = zlib.crc32(file[f"{split}/features"][:].tobytes())
    with path.open("r+b") as raw:
        raw.write(format_user_block(hash_content(path)))
    process = gtcbmuf("corpus", "verify", path)
    assert process.returncode == 2
    assert process.stderr == (
        f"gtcbmuf: {path}: NaN or infinite features: train: 2 frames of 1 utterances: {second} "
        f"(2 frames); test: 1 frames of 1 utterances: {last} (1 frames)\n"
    )


def feature_bytes(path: Path) -> bytes:
    return open_corpus(path).train.features.tobytes()
