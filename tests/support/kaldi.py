"""Files of Kaldi experiments, written by Kaldi's own code."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import h5py
import kaldi_native_io as kio
import numpy as np
import pytest

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import SPLITS
from gtcbmuf.data.importing.kaldi import import_kaldi

DIM = 5
PDFS = 20


@dataclass
class Directory:
    """The files of an experiment. `make_directory` makes 12 speakers with 3 utterances each."""

    path: Path
    features: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]

    @property
    def feats(self) -> Path:
        return self.path / "feats.scp"

    @property
    def out(self) -> Path:
        return self.path / "out" / "corpus.h5"

    def write(self, kind: str = "float", *, text: bool = False) -> "Directory":
        """Write feats.scp, ali.1.gz (binary), ali.2 (text) and utt2spk."""
        writers = {
            "float": kio.FloatMatrixWriter,
            "double": kio.DoubleMatrixWriter,
            "compressed": kio.CompressedMatrixWriter,
        }
        ark = f"{self.path}/feats.ark,{self.feats}"
        with writers[kind](f"ark,{'t,' if text else ''}scp:{ark}") as writer:
            for name, matrix in self.features.items():
                if kind == "compressed":
                    writer.write(name, matrix, kio.CompressionMethod.kAutomaticMethod)
                else:
                    writer.write(name, matrix.astype(np.float64 if kind == "double" else "f4"))
        half = len(self.targets) // 2
        items = [(name, targets.tolist()) for name, targets in self.targets.items()]
        for part, where in ((items[:half], "ark:ali.1"), (items[half:], "ark,t:ali.2")):
            with kio.Int32VectorWriter(where.replace(":", f":{self.path}/")) as vectors:
                for name, values in part:
                    vectors.write(name, values)
        plain = self.path / "ali.1"
        (self.path / "ali.1.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
        names = dict.fromkeys([*self.features, *self.targets])
        self.utt2spk.write_text("".join(f"{name} {speaker_of(name)}\n" for name in names))
        return self

    @property
    def utt2spk(self) -> Path:
        return self.path / "utt2spk"

    def make(self, **options: object) -> str:
        """Import the experiment to `out`; return the summary of the import."""
        options = {"utt2spk": self.utt2spk, **options}
        return import_kaldi(self.feats, [f"{self.path}/ali.*"], self.out, **options)  # type: ignore[arg-type]

    def fails(self, match: str, **options: object) -> None:
        """Assert that the import fails with one line that matches, and leaves no file."""
        with pytest.raises(UserError, match=match) as error_info:
            self.make(**options)
        assert "\n" not in str(error_info.value)
        assert not self.out.parent.exists() or not list(self.out.parent.iterdir())


def speaker_of(name: str) -> str:
    return name.split("-")[0]


def make_runs(stream: np.random.Generator, frames: int) -> np.ndarray:
    """Draw the targets of some frames. A target lasts for 2 to 5 frames."""
    durations = stream.integers(2, 6, frames)
    return np.repeat(stream.integers(0, PDFS, frames), durations)[:frames].astype(np.int32)


def make_directory(path: Path) -> Directory:
    stream = np.random.default_rng(0)
    names = [f"s{speaker:02}-{number}" for speaker in range(12) for number in range(3)]
    lengths = {name: int(stream.integers(20, 60)) for name in names}
    return Directory(
        path,
        {name: stream.normal(3, 2, (n, DIM)).astype(np.float32) for name, n in lengths.items()},
        {name: make_runs(stream, n) for name, n in lengths.items()},
    )


def write_statistics(directory: Directory, names: dict[str, list[str]]) -> Path:
    """Write the statistics of some utterances for each name, as compute-cmvn-stats does."""
    table = directory.path / "cmvn.scp"
    with kio.DoubleMatrixWriter(f"ark,scp:{directory.path}/cmvn.ark,{table}") as writer:
        for name, utterances in names.items():
            frames = np.concatenate([directory.features[u] for u in utterances]).astype("f8")
            sums = np.append(frames.sum(axis=0), len(frames))
            squares = np.append(np.square(frames).sum(axis=0), 0)
            writer.write(name, np.stack([sums, squares]))
    return table


@dataclass
class Stored:
    """An utterance of a corpus."""

    split: str
    speaker: str
    features: np.ndarray
    targets: np.ndarray


def read_utterances(path: Path) -> dict[str, Stored]:
    """Read the utterances of a corpus by name."""
    utterances = {}
    with h5py.File(path) as file:
        for split in SPLITS:
            group = file[split]
            ends = np.cumsum(group["lengths"][:])
            names, speakers = group["names"].asstr()[:], group["speakers"].asstr()[:]
            for name, speaker, end, length in zip(
                names, speakers, ends, group["lengths"][:], strict=True
            ):
                frames = slice(end - length, end)
                utterances[name] = Stored(
                    split, speaker, group["features"][frames], group["targets"][frames]
                )
    return utterances


def cut(path: Path, share: float) -> None:
    """Keep only the first share of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
