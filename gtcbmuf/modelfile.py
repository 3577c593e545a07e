"""A trained model on disk, in HDF5.

Version 1 of the format: attributes format = "gtcbmuf-model", version = 1, widths, activation,
context, sha256; dataset weights (n,) float32, laid out as `gtcbmuf.model` says.
"""

import hashlib
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.errors import UserError
from gtcbmuf.model import Shape
from gtcbmuf.storage import (
    READ_ERRORS,
    get_attributes,
    get_dataset,
    replacing,
    set_attributes,
    writing,
)

FORMAT = "gtcbmuf-model"
VERSION = 1


def sha256(vector: NDArray[np.float32]) -> str:
    """Hash of a vector's bits, in hexadecimal."""
    return hashlib.sha256(vector.data).hexdigest()


def save_model(path: Path, vector: NDArray[np.float32], shape: Shape, context: int) -> None:
    """Write a model beside `path`, then rename it.

    Args:
        path: of the file; an earlier one is replaced.
        vector: (n,) float32.
        shape: of the MLP.
        context: frames on each side of the classified one.

    Raises:
        UserError: it cannot be written.
    """
    attributes = {
        "format": FORMAT,
        "version": VERSION,
        "sha256": sha256(vector),
        "widths": shape.widths,
        "activation": shape.activation,
        "context": context,
    }
    with (
        writing(path),
        replacing(path) as beside,
        h5py.File(beside, "w", libver="v110") as file,
    ):
        set_attributes(file, attributes)
        file["weights"] = vector


def load_model(path: Path) -> tuple[NDArray[np.float32], Shape, int]:
    """Vector, shape and context of a saved model.

    Raises:
        UserError: no such file, no model, another version, or damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            attributes = get_attributes(file)
            if attributes.get("format") != FORMAT or attributes.get("version") != VERSION:
                raise UserError(f"{path}: not a model of format version {VERSION}")
            vector = get_dataset(file, "weights")[:]
            widths = tuple(int(width) for width in attributes["widths"])
            shape = Shape(widths, str(attributes["activation"]))
            context, digest = int(attributes["context"]), attributes["sha256"]
    except READ_ERRORS as error:
        raise UserError(f"{path}: cannot be read as a model: {error}") from None
    if vector.shape != (shape.parameters,) or sha256(vector) != digest:
        raise UserError(f"{path}: damaged: its weights are not those that were saved")
    return vector, shape, context
