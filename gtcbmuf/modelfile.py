"""A trained model on disk, in HDF5, with what whoever uses it must know of its training data.

Version 2 of the format: attributes format = "gtcbmuf-model", version = 2, widths, activation,
context, normalisation, sha256 and target_counts_sha256; datasets weights (n,) float32, laid out as
`gtcbmuf.model` says, and target_counts (C,) int64.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.errors import UserError
from gtcbmuf.model import Shape
from gtcbmuf.storage import (
    READ_ERRORS,
    get_attributes,
    get_dataset,
    reason,
    replacing,
    set_attributes,
    writing,
)

FORMAT = "gtcbmuf-model"
VERSION = 2


@dataclass(frozen=True)
class SavedModel:
    """A model as it is in its file.

    Attributes:
        vector: (n,) float32.
        shape: of the MLP.
        context: frames on each side of the classified one.
        target_counts: (C,) int64, how often each target occurred in training.
        normalisation: of the features, as `gtcbmuf.corpus.Corpus.normalisation`.
    """

    vector: NDArray[np.float32]
    shape: Shape
    context: int
    target_counts: NDArray[np.int64]
    normalisation: str


def sha256(array: NDArray[Any]) -> str:
    """Hash of an array's bits, in hexadecimal."""
    return hashlib.sha256(array.data).hexdigest()


def save_model(path: Path, model: SavedModel) -> None:
    """Write a model beside `path`, then rename it; an earlier one is replaced.

    Raises:
        UserError: it cannot be written.
    """
    attributes = {
        "format": FORMAT,
        "version": VERSION,
        "sha256": sha256(model.vector),
        "widths": model.shape.widths,
        "activation": model.shape.activation,
        "context": model.context,
        "target_counts_sha256": sha256(model.target_counts),
        "normalisation": model.normalisation,
    }
    with (
        writing(path),
        replacing(path) as beside,
        h5py.File(beside, "w", libver="v110") as file,
    ):
        set_attributes(file, attributes)
        file["weights"] = model.vector
        file["target_counts"] = model.target_counts


def load_model(path: Path) -> SavedModel:
    """Read a saved model.

    Raises:
        UserError: no such file, no model, another version, or damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            attributes = get_attributes(file)
            if attributes.get("format") != FORMAT or attributes.get("version") != VERSION:
                raise UserError(
                    f"{path}: not a model of format version {VERSION} (one that was trained before "
                    "is to be trained again)"
                )
            widths = tuple(int(width) for width in attributes["widths"])
            model = SavedModel(
                get_dataset(file, "weights")[:],
                Shape(widths, str(attributes["activation"])),
                int(attributes["context"]),
                get_dataset(file, "target_counts")[:],
                str(attributes["normalisation"]),
            )
            digests = attributes["sha256"], attributes["target_counts_sha256"]
    except READ_ERRORS as error:
        raise UserError(f"{path}: cannot be read as a model: {reason(error)}") from None
    if model.vector.shape != (model.shape.parameters,) or sha256(model.vector) != digests[0]:
        raise UserError(f"{path}: damaged: its weights are not those that were saved")
    counts = model.target_counts
    if counts.shape != widths[-1:] or sha256(counts) != digests[1]:
        raise UserError(f"{path}: damaged: its counts of targets are not those that were saved")
    return model
