"""Model files: a trained model in HDF5, with the facts about its training data that users need.

Version 3 of the format has these attributes:

- format = "gtcbmuf-model" and version = 3;
- context, normalisation, sample_rate and frame_shift_ms (0 if unknown);
- sha256, target_counts_sha256 and phones_sha256;
- widths and activation for an MLP, network (its name) and feature_dim for another network.

It has four datasets: weights, (n,) float32 in the network's layout, target_counts, (C,) int64, and
phones (text) with target_phone, (C,) uint16. The last two are empty if the phones are unknown.

Version 2 lacks the phones, their hash, the sample rate and the frame shift.
"""

import hashlib
from dataclasses import dataclass
from itertools import zip_longest
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
    text_array,
)
from gtcbmuf.data.corpus import Corpus

FORMAT = "gtcbmuf-model"
VERSION = 3
_VERSIONS = (2, VERSION)  # that can be read


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
        phones: names of the phones of the training data; empty if they are unknown.
        target_phone: index of each target's phone, (C,); empty if the phones are unknown.
        sample_rate: sample rate of the training data in Hz; 0 if it is unknown.
        frame_shift_ms: time from a frame to the next in ms; 0 if it is unknown.
    """

    vector: NDArray[np.float32]
    architecture: Architecture | None
    context: int
    target_counts: NDArray[np.int64]
    normalisation: str
    network: str = ""
    feature_dim: int = 0
    phones: tuple[str, ...] = ()
    target_phone: tuple[int, ...] = ()
    sample_rate: int = 0
    frame_shift_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.architecture is not None:
            feature_dim = self.architecture.widths[0] // (2 * self.context + 1)
            object.__setattr__(self, "feature_dim", feature_dim)

    @classmethod
    def of(cls, model: Model, vector: NDArray[np.float32], corpus: Corpus) -> "SavedModel":
        """Return the content of a model file for a network with these parameters.

        Args:
            model: the network.
            vector: the network's parameters, (n,) float32.
            corpus: the training data.
        """
        return cls(
            vector,
            model.architecture if isinstance(model, MLP) else None,
            model.context,
            corpus.train.counts(corpus.target_count),
            corpus.normalisation,
            network_name(model),
            corpus.feature_dim,
            corpus.phones if corpus.has_phones else (),
            tuple(corpus.target_phone.tolist()) if corpus.has_phones else (),
            corpus.sample_rate,
            corpus.frame_shift_ms,
        )

    def find_difference(self, corpus: Corpus) -> str:
        """Find the first difference between the training data and a corpus.

        What one of them does not state is not compared.

        Returns:
            The difference in words, as the end of a sentence about the model; empty if there is
            none.
        """
        width = 2 * self.context + 1
        inputs = self.architecture.widths[0] if self.architecture else width * self.feature_dim
        if inputs != width * corpus.feature_dim:
            return (
                f"takes {inputs} inputs, but {corpus.path} gives {width * corpus.feature_dim}: "
                f"{width} frames of {corpus.feature_dim} features"
            )
        if self.phones and corpus.has_phones:
            for number, (trained, given) in enumerate(zip_longest(self.phones, corpus.phones)):
                if trained != given:
                    return (
                        f"was trained with {_phone(trained)} as phone {number}, but {corpus.path} "
                        f"has {_phone(given)}"
                    )
        if (targets := len(self.target_counts)) != corpus.target_count:
            return f"has {targets} targets, but {corpus.path} has {corpus.target_count}"
        if self.phones and corpus.has_phones:
            for target, phone in enumerate(corpus.target_phone.tolist()):
                if phone != self.target_phone[target]:
                    return (
                        f"was trained with target {target} for "
                        f"{self.phones[self.target_phone[target]]!r}, but in {corpus.path} it is "
                        f"for {corpus.phones[phone]!r}"
                    )
        facts = {
            "features with normalisation =": (self.normalisation, corpus.normalisation),
            "audio with a sample rate in Hz of": (self.sample_rate, corpus.sample_rate),
            "frames with a shift in ms of": (self.frame_shift_ms, corpus.frame_shift_ms),
        }
        for what, (of_model, of_corpus) in facts.items():
            if of_model and of_corpus and of_model != of_corpus:
                return f"was trained on {what} {of_model}, but {corpus.path} has {of_corpus}"
        return ""

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


def _phone(name: str | None) -> str:
    return "no phone" if name is None else repr(name)


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
        "phones_sha256": _hash_phones(model),
        "normalisation": model.normalisation,
        "sample_rate": model.sample_rate,
        "frame_shift_ms": model.frame_shift_ms,
    }
    with writing(path), replacing(path) as temporary, create_file(temporary) as file:
        set_attributes(file, attributes)
        file["weights"] = model.vector
        file["target_counts"] = model.target_counts
        file["phones"] = text_array(model.phones)
        file["target_phone"] = np.array(model.target_phone, np.uint16)


def _hash_phones(model: SavedModel) -> str:
    """Return the hash of the phones and of the targets' phones."""
    return hashlib.sha256(repr((model.phones, model.target_phone)).encode()).hexdigest()


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
        >>> saved = SavedModel(vector, mlp.architecture, 0, np.ones(2, np.int64), "speaker")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(Path(folder, "model.h5"), saved)
        ...     load_model(Path(folder, "model.h5")).architecture
        Architecture(widths=(4, 2), activation='relu')
    """
    path = Path(path)
    try:
        with open_file(path) as file:
            attributes = get_attributes(file)
            version = attributes.get("version")
            if attributes.get("format") != FORMAT or version not in _VERSIONS:
                raise UserError(
                    f"{path}: not a model of format version {VERSION}; retrain models of older "
                    "versions"
                )
            model = _content(file, attributes)
            digests = attributes["sha256"], attributes["target_counts_sha256"]
            if version == VERSION and _hash_phones(model) != attributes["phones_sha256"]:
                raise UserError(f"{path}: damaged: the phones are not the saved ones")
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
        *(_content_of_version_3(file, attributes) if attributes["version"] == VERSION else ()),
    )


def _content_of_version_3(
    file: h5py.File, attributes: dict[str, Any]
) -> tuple[tuple[str, ...], tuple[int, ...], int, float]:
    """Read the phones, the phone of each target, the sample rate and the frame shift."""
    return (
        tuple(name.decode() for name in get_dataset(file, "phones")[:].tolist()),
        tuple(get_dataset(file, "target_phone")[:].tolist()),
        int(attributes["sample_rate"]),
        float(attributes["frame_shift_ms"]),
    )
