"""Model files: round trips and refused files."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support import hostile

from gtcbmuf.acoustic.mlp import MLP, Architecture
from gtcbmuf.acoustic.model_file import SavedModel, load_model, save_model, sha256
from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import open_corpus

SHAPE = Architecture((6, 5, 4), "sigmoid")
VECTOR = np.random.default_rng(0).normal(size=SHAPE.parameters).astype(np.float32)
COUNTS = np.array([5, 0, 2**40, 7])
MODEL = replace(
    SavedModel(VECTOR, SHAPE, 3, COUNTS, "speaker"),
    phones=("sil", "ç"),
    target_phone=(0, 0, 1, 1),
    sample_rate=16000,
    frame_shift_ms=10.0,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Path of a saved model."""
    path = tmp_path / "model.h5"
    save_model(path, MODEL)
    return path


def refusal(path: Path) -> str:
    """Return the message with which `load_model` refuses a file: one line that names it."""
    with pytest.raises(UserError) as error_info:
        load_model(path)
    message = str(error_info.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{path}: ")
    return message


@pytest.mark.parametrize("shape", [SHAPE, Architecture((3, 2), "relu")])
def test_a_model_reads_back_as_saved(tmp_path: Path, shape: Architecture) -> None:
    vector = np.full(shape.parameters, -0.0, np.float32)
    vector[:3] = np.inf, 1e-45, np.pi
    counts = np.arange(shape.widths[-1])
    save_model(tmp_path / "model.h5", SavedModel(vector, shape, 0, counts, "none"))
    loaded = load_model(tmp_path / "model.h5")
    assert loaded.vector.dtype == np.float32
    assert loaded.vector.tobytes() == vector.tobytes()
    assert (loaded.architecture, loaded.context, loaded.normalisation) == (shape, 0, "none")
    np.testing.assert_array_equal(loaded.target_counts, counts)


def test_the_training_data_read_back(path: Path) -> None:
    loaded = load_model(path)
    assert (loaded.phones, loaded.target_phone) == (MODEL.phones, MODEL.target_phone)
    assert (loaded.sample_rate, loaded.frame_shift_ms) == (16000, 10.0)


def test_a_model_of_version_2_has_unknown_training_data(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
        for name in ("phones_sha256", "sample_rate", "frame_shift_ms"):
            del file.attrs[name]
        del file["phones"], file["target_phone"]
    loaded = load_model(path)
    np.testing.assert_array_equal(loaded.vector, VECTOR)
    assert (loaded.phones, loaded.target_phone, loaded.sample_rate) == ((), (), 0)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({}, ""),
        ({"phones": ("sil", "c")}, "with 'c' as phone 1, but CORPUS has 'ç'"),
        ({"phones": ("sil",)}, "with no phone as phone 1, but CORPUS has 'ç'"),
        ({"phones": ("sil", "ç", "ž")}, "with 'ž' as phone 2, but CORPUS has no phone"),
        ({"target_phone": (0, 1, 1)}, "with target 1 for 'ç', but in CORPUS it is for 'sil'"),
        ({"normalisation": "none"}, "on features with normalisation = none, but CORPUS has speak"),
        ({"sample_rate": 8000}, "on audio with a sample rate in Hz of 8000, but CORPUS has 16000"),
        ({"frame_shift_ms": 12.5}, "on frames with a shift in ms of 12.5, but CORPUS has 10.0"),
        ({"phones": (), "target_phone": ()}, ""),
        ({"sample_rate": 0, "frame_shift_ms": 0.0, "normalisation": ""}, ""),
    ],
)
def test_the_first_difference_from_a_corpus_is_named(
    tmp_path: Path, change: dict[str, Any], difference: str
) -> None:
    path = tmp_path / "corpus.h5"
    facts = {"normalisation": "speaker", "sample_rate": 16000, "frame_shift_ms": 10.0}
    hostile.write_corpus(path, **facts)
    corpus = open_corpus(path)
    shape = Architecture((3, corpus.target_count), "relu")
    vector = np.zeros(shape.parameters, np.float32)
    model = SavedModel.of(MLP(shape, capacity=1), vector, corpus)
    found = replace(model, **change).find_difference(corpus).replace(str(path), "CORPUS")
    assert found.startswith(f"was trained {difference}" if difference else "")
    assert bool(found) == bool(difference)


def test_an_earlier_model_is_replaced_without_other_files(path: Path) -> None:
    save_model(path, replace(MODEL, vector=VECTOR + 1, context=5))
    loaded = load_model(path)
    np.testing.assert_array_equal(loaded.vector, VECTOR + 1)
    assert loaded.context == 5
    assert list(path.parent.iterdir()) == [path]


def test_the_hash_covers_the_bytes_of_the_weights(path: Path) -> None:
    digest = hashlib.sha256(VECTOR.tobytes()).hexdigest()
    assert sha256(VECTOR) == digest
    with h5py.File(path) as file:
        assert file.attrs["sha256"] == digest.encode()
        assert file["weights"][:].tobytes() == VECTOR.tobytes()
        assert file.attrs["widths"].tolist() == [6, 5, 4]
    assert sha256(np.array([0.0], np.float32)) != sha256(np.array([-0.0], np.float32))


@pytest.mark.parametrize(("name", "array"), [("weights", VECTOR), ("target_counts", COUNTS)])
def test_every_flipped_byte_of_an_array_is_detected(
    path: Path, name: str, array: np.ndarray
) -> None:
    with h5py.File(path) as file:
        offset = file[name].id.get_offset()
    raw = path.read_bytes()
    assert raw[offset : offset + array.nbytes] == array.tobytes()
    for i in range(array.nbytes):
        damaged = bytearray(raw)
        damaged[offset + i] ^= 1 << i % 8
        path.write_bytes(damaged)
        assert "damaged" in refusal(path)


def test_no_flipped_bit_changes_a_model_undetected(path: Path) -> None:
    detected, _, missed = hostile.flip_every_byte(path, lambda: hostile.read_model(path), stride=3)
    assert missed == 0
    assert detected > VECTOR.nbytes // 3


def test_a_truncated_model_is_refused(path: Path) -> None:
    raw = path.read_bytes()
    for length in [*range(0, len(raw), 101), len(raw) - 1]:
        path.write_bytes(raw[:length])
        assert "cannot be read as a model" in refusal(path)


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.h5").endswith("as a model: No such file or directory")
    refusal(tmp_path)
    (tmp_path / "text.h5").write_text("some text\n" * 100)
    refusal(tmp_path / "text.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["weights"] = VECTOR
    assert "not a model of format version 3" in refusal(tmp_path / "foreign.h5")


@pytest.mark.parametrize(
    "key",
    [
        "format",
        "version",
        "widths",
        "activation",
        "context",
        "sha256",
        "normalisation",
        "target_counts_sha256",
        "phones_sha256",
        "sample_rate",
        "frame_shift_ms",
    ],
)
def test_a_missing_attribute_is_refused(path: Path, key: str) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs[key]
    refusal(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("version", 1, "version 3"),
        ("widths", [6, 5, 5], "damaged"),
        ("widths", 6, "cannot be read"),
        ("context", "three", "cannot be read"),
        ("sha256", np.bytes_("0" * 64), "damaged"),
        ("target_counts_sha256", np.bytes_("0" * 64), "damaged: the target counts"),
        ("phones_sha256", np.bytes_("0" * 64), "damaged: the phones"),
        ("activation", np.bytes_("tanh"), "tanh"),
        ("activation", "sigmoid", "neither numbers nor text of fixed length"),
    ],
)
def test_an_attribute_that_contradicts_the_weights_is_refused(
    path: Path, key: str, value: object, message: str
) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs[key] = value
    assert message in refusal(path)


def test_no_memory_is_allocated_for_weights_outside_the_file(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["weights"]
        file.create_dataset("weights", (2**50,), np.float32)
    assert "weights is not contiguous" in refusal(path)  # HDF5 has not allocated the dataset
    with h5py.File(path, "r+") as file:
        del file["weights"]
        file.create_dataset("weights", (2**50,), np.float32, external=[("x", 0, 2**52)])
    assert "weights is not contiguous" in refusal(path)

    save_model(path, MODEL)
    content = bytearray(path.read_bytes())
    length, size = VECTOR.size.to_bytes(8, "little"), VECTOR.nbytes.to_bytes(8, "little")
    for begin, end in hostile.structures(bytes(content)):
        changed = content[begin:end].replace(length, (2**40).to_bytes(8, "little"))
        content[begin:end] = changed.replace(size, (2**42).to_bytes(8, "little"))
        content[end : end + 4] = hostile.checksum(bytes(content[begin:end])).to_bytes(4, "little")
    path.write_bytes(content)
    assert "cannot be read as a model" in refusal(path)


def test_weights_of_another_type_are_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["weights"]
        file["weights"] = VECTOR.astype(np.float64)
    assert "damaged" in refusal(path)
    with h5py.File(path, "r+") as file:
        del file["weights"]
        file.create_group("weights")
    refusal(path)
