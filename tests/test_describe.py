"""`corpus info` and `corpus verify`."""

from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from launch import gtcbmuf
from tiny import write_corpus

from gtcbmuf import corpus, describe
from gtcbmuf.errors import UserError


def test_the_numbers_are_those_of_the_corpus(tmp_path: Path) -> None:
    write_corpus(tmp_path / "tiny.h5", train_frames=1234)
    opened = corpus.read(tmp_path / "tiny.h5")
    lines = describe.describe(opened).splitlines()
    assert "made_by = tests/tiny.py" in lines
    [train] = [line.split() for line in lines if line.startswith("train ")]
    assert train[2:] == ["1,234", str(len(opened.train.ends)), "3"]
    shares = [float(word) for line in lines[lines.index("") :] for word in percentages(line)]
    assert len(shares) == len(opened.phones)
    assert sum(shares) == pytest.approx(100, abs=0.1)
    assert shares == sorted(shares, reverse=True)


def percentages(line: str) -> list[str]:
    words = line.split()
    return [before for before, after in pairwise(words) if after == "%"]


def test_targets_that_training_never_sees_are_named(tmp_path: Path) -> None:
    write_corpus(tmp_path / "tiny.h5", train_frames=1, targets=3)
    opened = corpus.read(tmp_path / "tiny.h5")
    unseen = sorted({0, 1, 2} - set(opened.train.targets.tolist()))
    assert f"without a train frame: {unseen[0]}, {unseen[1]}" in describe.describe(opened)


def test_pdf_ids_are_counted_and_not_listed(tmp_path: Path) -> None:
    path = tmp_path / "pdfs.h5"
    write_corpus(path, train_frames=1, targets=3)
    with h5py.File(path, "r+") as file:
        file.attrs["targets"] = np.bytes_("pdf")
    told = describe.describe(corpus.read(path)).splitlines()
    assert told[-1] == "3 pdf-ids, 2 of them without a train frame"
    assert told[-2] == ""


def test_an_utterance_is_drawn(tmp_path: Path) -> None:
    write_corpus(tmp_path / "tiny.h5", train_frames=300)
    opened = corpus.read(tmp_path / "tiny.h5")
    describe.picture(opened, opened.test.names[-1], tmp_path / "new" / "utterance.png")
    assert (tmp_path / "new/utterance.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="no utterance 'nobody'; there is 'train-0000'"):
        describe.picture(opened, "nobody", tmp_path / "nobody.png")


def test_the_commands(tmp_path: Path) -> None:
    path = tmp_path / "tiny.h5"
    write_corpus(path, train_frames=300)
    assert gtcbmuf("corpus", "info", path).returncode == 0
    assert "every byte is as it was written" in gtcbmuf("corpus", "verify", path).stdout
    damaged = bytearray(path.read_bytes())
    place = damaged.rindex(opened_features(path)[:64])
    damaged[place] ^= 1
    path.write_bytes(damaged)
    done = gtcbmuf("corpus", "verify", path)
    assert done.returncode == 2
    assert done.stderr == f"gtcbmuf: {path}: damaged: train: features of frames 0 to 299\n"


def opened_features(path: Path) -> bytes:
    return corpus.read(path).train.features.tobytes()
