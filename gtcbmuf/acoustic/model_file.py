"""Model files: a trained model in HDF5, with the facts about its training data that users need.

Version 2 of the format has these attributes:

- format = "gtcbmuf-model" and version = 2;
- context, normalisation, sha256 and target_counts_sha256;
- widths and activation for an MLP, network (its name) and feature_dim for another network.

It has two datasets: weights, (n,) float32 in the network's layout, and target_counts, (C,) int64.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.acoustic.mlp import MLP, Architecture
from gtcbmuf.acoustic.model import BuildModel, Model
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import reason, replacing, writing
from gtcbmuf.base.hdf5 import (
    READ_ERRORS,
    create_file,
    get_attributes,
    get_dataset,
    open_file,
    set_attributes,
)

FORMAT = "gtcbmuf-model"
VERSION = 2


@dataclass(frozen=True)
class SavedModel:
    """The content of a model file.

    Attributes:
        vector: the parameters, (n,) float32.
        architecture: architecture of the MLP; None for another network.
        context: number of input frames on each side of the classified frame.
        target_counts: number of training frames of each target, (C,) int64.
        normalisation: normalisation of the features, as in
            `gtcbmuf.data.corpus.Corpus.normalisation`.
        network: name of the network's class; empty for the MLP.
        feature_dim: features per frame D. For the MLP it follows from the architecture.
    """

    vector: NDArray[np.float32]
    architecture: Architecture | None
    context: int
    target_counts: NDArray[np.int64]
    normalisation: str
    network: str = ""
    feature_dim: int = 0

    def __post_init__(self) -> None:
        if self.architecture is not None:
            feature_dim = self.architecture.widths[0] // (2 * self.context + 1)
            object.__setattr__(self, "feature_dim", feature_dim)

    @classmethod
    def of(
        cls,
        model: Model,
        vector: NDArray[np.float32],
        target_counts: NDArray[np.int64],
        normalisation: str,
        feature_dim: int,
    ) -> "SavedModel":
        """Return the content of a model file for a network with these parameters.

        Args:
            model: the network.
            vector: the network's parameters, (n,) float32.
            target_counts, normalisation, feature_dim: see the attributes.
        """
        architecture = model.architecture if isinstance(model, MLP) else None
        network = network_name(model)
        facts = (model.context, target_counts, normalisation, network, feature_dim)
        return cls(vector, architecture, *facts)

    def build(self, capacity: int, build: BuildModel | None = None) -> Model:
        """Build the network of this model.

        Args:
            capacity: largest number of frames per call.
            build: function that builds the network, if it is not the MLP.

        Raises:
            UserError: the network is not the MLP and `build` is missing, or `build` returns
                another network.
        """
        if self.architecture is not None:
            return MLP(self.architecture, capacity, self.context)
        if build is None:
            raise UserError(
                f"the model is a {self.network}, not the MLP of this package: call gtcbmuf.score "
                "from Python, with the function that builds the network as build"
            )
        model = build(self.feature_dim, len(self.target_counts), capacity)
        facts = type(model).__qualname__, model.parameters, model.context
        if facts != (self.network, self.vector.size, self.context):
            raise UserError(
                f"the model is a {self.network} of {self.vector.size:,} parameters with context "
                f"{self.context}, not a {facts[0]} of {facts[1]:,} with context {facts[2]}"
            )
        return model


def network_name(model: Model) -> str:
    """Return the name of the network's class; empty for the MLP."""
    return "" if isinstance(model, MLP) else type(model).__qualname__


def sha256(array: NDArray[Any]) -> str:
    """Return the SHA-256 hash of the array's bytes, in hexadecimal."""
    return hashlib.sha256(array.data).hexdigest()


def save_model(path: Path, model: SavedModel) -> None:
    """Write a model file. It is written beside `path`, then renamed, and replaces an earlier file.

    Raises:
        UserError: the file cannot be written.
    """
    facts: dict[str, Any] = {"network": model.network, "feature_dim": model.feature_dim}
    if model.architecture is not None:
        facts = {"widths": model.architecture.widths, "activation": model.architecture.activation}
    attributes = {
        "format": FORMAT,
        "version": VERSION,
        "sha256": sha256(model.vector),
        **facts,
        "context": model.context,
        "target_counts_sha256": sha256(model.target_counts),
        "normalisation": model.normalisation,
    }
    with writing(path), replacing(path) as temporary, create_file(temporary) as file:
        set_attributes(file, attributes)
        file["weights"] = model.vector
        file["target_counts"] = model.target_counts


def load_model(path: Path | str) -> SavedModel:
    """Read a saved model.

    Args:
        path: path of the model file, such as `model.h5` in a run directory.

    Raises:
        UserError: the file does not exist, is not a model, has another version or is damaged.

    Examples:
        >>> import tempfile
        >>> mlp = MLP(Architecture((4, 2), "relu"), capacity=1)
        >>> vector = mlp.initial(np.random.default_rng(0))
        >>> saved = SavedModel.of(mlp, vector, np.ones(2, np.int64), "speaker", feature_dim=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(Path(folder, "model.h5"), saved)
        ...     load_model(Path(folder, "model.h5")).architecture
        Architecture(widths=(4, 2), activation='relu')
    """
    path = Path(path)
    try:
        with open_file(path) as file:
            attributes = get_attributes(file)
            if attributes.get("format") != FORMAT or attributes.get("version") != VERSION:
                raise UserError(
                    f"{path}: not a model of format version {VERSION}; retrain models of older "
                    "versions"
                )
            model = _content(file, attributes)
            digests = attributes["sha256"], attributes["target_counts_sha256"]
    except READ_ERRORS as error:
        raise UserError(f"{path}: cannot be read as a model: {reason(error)}") from None
    architecture, counts = model.architecture, model.target_counts
    if model.vector.ndim != 1 or sha256(model.vector) != digests[0]:
        raise UserError(f"{path}: damaged: the weights are not the saved ones")
    if architecture and model.vector.size != architecture.parameters:
        raise UserError(f"{path}: damaged: the weights are not the saved ones")
    targets = architecture.widths[-1:] if architecture else counts.shape[:1]
    if counts.shape != targets or sha256(counts) != digests[1]:
        raise UserError(f"{path}: damaged: the target counts are not the saved ones")
    return model


def _content(file: h5py.File, attributes: dict[str, Any]) -> SavedModel:
    context = int(attributes["context"])
    architecture, network = None, str(attributes.get("network", ""))
    if not network:
        widths = tuple(int(width) for width in attributes["widths"])
        architecture = Architecture(widths, str(attributes["activation"]))
    return SavedModel(
        get_dataset(file, "weights")[:],
        architecture,
        context,
        get_dataset(file, "target_counts")[:],
        str(attributes["normalisation"]),
        network,
        int(attributes.get("feature_dim", 0)),
    )
