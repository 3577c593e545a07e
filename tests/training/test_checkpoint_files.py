"""Checkpoints on disk: what is written comes back, what is damaged is named."""

import hashlib
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gtcbmuf.base.errors import UserError
from gtcbmuf.training.checkpoint_files import (
    Checkpoint,
    begin_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    publish_checkpoint,
    read_checkpoint,
    read_rank,
    write_rank,
)

STATES = [
    {"exchange.residual": np.arange(7, dtype=np.float32) + rank, "filter.delta": np.zeros(0, "f4")}
    for rank in range(3)
]
OWN = {"loss": 1 / 3, "seconds": 0.1, "bytes_sent": 2**40}
SHARED = {"epoch": 2, "last": float("inf"), "rate": 1e-3 / 3, "config": {"train": {"seed": 2**61}}}


def save(folder: Path, step: int) -> Path:
    part = begin_checkpoint(folder, step)
    hashes = [write_rank(part, r, state, OWN) for r, state in enumerate(STATES)]
    return publish_checkpoint(part, SHARED, hashes)


def load(path: Path) -> None:
    """Read all of it, and make sure that it is what was written."""
    whole = read_checkpoint(path)
    assert whole.shared == SHARED
    for rank, expected in enumerate(STATES):
        state, own = read_rank(whole, rank)
        assert own == OWN
        assert state.keys() == expected.keys()
        for name, array in state.items():
            assert array.tobytes() == expected[name].tobytes()


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoints", 12)
    assert path.name == "step-00000012"
    load(path)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 20, 100, 100_000_000):
        save(tmp_path, step)
    unfinished = begin_checkpoint(tmp_path, 200)
    copy = tmp_path / "step-00000005.bak"
    copy.mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        *("step-100000000", "step-00000100", "step-00000020", "step-00000005")
    ]
    prune_checkpoints(tmp_path, 3)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        *("step-100000000", "step-00000100", "step-00000020")
    ]
    assert not unfinished.exists()
    prune_checkpoints(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [copy.name, "step-100000000"]


def test_one_that_was_written_is_kept_rather_than_later_ones_that_could_not_be_read(
    tmp_path: Path,
) -> None:
    for step in (5, 10, 15):
        save(tmp_path, step)
    (tmp_path / "step-00000015" / "rank-00000.h5").unlink()  # so the run went on from step 10
    save(tmp_path, 12)
    prune_checkpoints(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000012"]


def test_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 5)
    load(save(tmp_path, 5))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("checkpoints"), 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_any_changed_byte_is_named(whole: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(sorted(whole.iterdir())))
    before = file.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    changed = bytearray(before)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(data.draw(st.sampled_from([bytes(changed), before[:place]])))
    try:
        with pytest.raises(UserError, match=re.escape(str(whole))) as caught:
            load(whole)
        assert "\n" not in str(caught.value)
    finally:
        file.write_bytes(before)


def test_a_missing_file_is_named(whole: Path) -> None:
    (whole / "rank-00001.h5").rename(whole / "away")
    with pytest.raises(UserError, match=r"rank-00001.h5: damaged checkpoint"):
        load(whole)
    (whole / "away").rename(whole / "rank-00001.h5")
    load(whole)


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "step-00000001").mkdir()
    with pytest.raises(UserError, match="damaged checkpoint"):
        read_checkpoint(tmp_path / "step-00000001")


@pytest.mark.parametrize(
    "text",
    [
        5000 * "[",
        "[]",
        '{"format": "gtcbmuf-checkpoint", "version": 2, "shared": [], "hashes": []}',
        '{"format": "gtcbmuf-checkpoint", "version": 2, "shared": {}, "hashes": 5}',
    ],
)
def test_a_manifest_of_another_form_is_refused_whatever_its_hash(tmp_path: Path, text: str) -> None:
    digest = hashlib.sha256(text.encode()).hexdigest()
    for content in (text, json.dumps({"sha256": digest, "manifest": text})):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(UserError, match="damaged checkpoint"):
            read_checkpoint(tmp_path)


@pytest.mark.parametrize("loss", ["of variable length", np.bytes_("text"), h5py.Empty("f8")])
def test_numbers_of_another_form_are_refused_whatever_the_hash(
    tmp_path: Path, loss: object
) -> None:
    with h5py.File(tmp_path / "rank-00000.h5", "w") as file:
        file.attrs["loss"] = loss
    refuse_rank(tmp_path)


@pytest.mark.parametrize(
    "array", [np.zeros(3, "c8"), h5py.SoftLink("/x"), h5py.ExternalLink("x", "/"), h5py.Empty("f4")]
)
def test_arrays_of_another_form_are_refused_whatever_the_hash(
    tmp_path: Path, array: object
) -> None:
    with h5py.File(tmp_path / "rank-00000.h5", "w") as file:
        file["residual"] = array
    refuse_rank(tmp_path)


def refuse_rank(folder: Path) -> None:
    digest = hashlib.sha256((folder / "rank-00000.h5").read_bytes()).hexdigest()
    with pytest.raises(UserError, match=r"rank-00000.h5: damaged checkpoint"):
        read_rank(Checkpoint(folder, {}, (digest,)), 0)
