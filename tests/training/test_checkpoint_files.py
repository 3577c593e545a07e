"""Checkpoint files: round trips, pruning, and refused files."""

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
NUMBERS = {"loss": 1 / 3, "seconds": 0.1, "bytes_sent": 2**40}
SHARED = {"epoch": 2, "last": float("inf"), "rate": 1e-3 / 3, "config": {"train": {"seed": 2**61}}}


def save(folder: Path, step: int) -> Path:
    part = begin_checkpoint(folder, step)
    hashes = [write_rank(part, r, state, NUMBERS) for r, state in enumerate(STATES)]
    return publish_checkpoint(part, SHARED, hashes)


def load(path: Path) -> None:
    """Read a checkpoint and compare it with the data that `save` wrote."""
    checkpoint = read_checkpoint(path)
    assert checkpoint.shared == SHARED
    for rank, expected in enumerate(STATES):
        state, numbers = read_rank(checkpoint, rank)
        assert numbers == NUMBERS
        assert state.keys() == expected.keys()
        for name, array in state.items():
            assert array.tobytes() == expected[name].tobytes()


def test_a_checkpoint_reads_back_as_written(tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoints", 12)
    assert path.name == "step-00000012"
    load(path)


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
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


def test_a_new_checkpoint_replaces_damaged_ones_of_later_steps(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(tmp_path, step)
    (tmp_path / "step-00000015" / "rank-00000.h5").unlink()  # so the run continued from step 10
    save(tmp_path, 12)
    prune_checkpoints(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000012"]


def test_a_second_checkpoint_of_a_step_replaces_the_first(tmp_path: Path) -> None:
    save(tmp_path, 5)
    load(save(tmp_path, 5))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("checkpoints"), 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_a_changed_byte_is_refused(path: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(sorted(path.iterdir())))
    content = file.read_bytes()
    offset = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[offset] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(data.draw(st.sampled_from([bytes(changed), content[:offset]])))
    try:
        with pytest.raises(UserError, match=re.escape(str(path))) as error_info:
            load(path)
        assert "\n" not in str(error_info.value)
    finally:
        file.write_bytes(content)


def test_a_missing_file_is_refused(path: Path) -> None:
    (path / "rank-00001.h5").rename(path / "away")
    with pytest.raises(UserError, match=r"rank-00001.h5: damaged checkpoint"):
        load(path)
    (path / "away").rename(path / "rank-00001.h5")
    load(path)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "step-00000001").mkdir()
    with pytest.raises(UserError, match="damaged checkpoint"):
        read_checkpoint(tmp_path / "step-00000001")


@pytest.mark.parametrize(
    "text",
    [
        5000 * "[",
        "[]",
        '{"format": "gtcbmuf-checkpoint", "version": 3, "shared": [], "hashes": []}',
        '{"format": "gtcbmuf-checkpoint", "version": 3, "shared": {}, "hashes": 5}',
    ],
)
def test_a_malformed_manifest_is_refused_despite_its_hash(tmp_path: Path, text: str) -> None:
    digest = hashlib.sha256(text.encode()).hexdigest()
    for content in (text, json.dumps({"sha256": digest, "manifest": text})):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(UserError, match="damaged checkpoint"):
            read_checkpoint(tmp_path)


@pytest.mark.parametrize("loss", ["of variable length", np.bytes_("text"), h5py.Empty("f8")])
def test_malformed_numbers_are_refused_despite_the_hash(tmp_path: Path, loss: object) -> None:
    with h5py.File(tmp_path / "rank-00000.h5", "w") as file:
        file.attrs["loss"] = loss
    refuse_rank(tmp_path)


@pytest.mark.parametrize(
    "array", [np.zeros(3, "c8"), h5py.SoftLink("/x"), h5py.ExternalLink("x", "/"), h5py.Empty("f4")]
)
def test_malformed_arrays_are_refused_despite_the_hash(tmp_path: Path, array: object) -> None:
    with h5py.File(tmp_path / "rank-00000.h5", "w") as file:
        file["residual"] = array
    refuse_rank(tmp_path)


def refuse_rank(folder: Path) -> None:
    digest = hashlib.sha256((folder / "rank-00000.h5").read_bytes()).hexdigest()
    with pytest.raises(UserError, match=r"rank-00000.h5: damaged checkpoint"):
        read_rank(Checkpoint(folder, {}, (digest,)), 0)
