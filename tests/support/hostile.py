"""Readers of untrusted bytes, each with valid seeds, a mutation of bytes, and a check.

A check passes if the reader accepts the bytes, or refuses them in one line with its documented
error. `scripts/fuzz` calls the checks. It also fails on a crash, after 10 s, or at a gigabyte.
"""

import gzip
import hashlib
import io
import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.launch import ROOT

from gtcbmuf.acoustic.mlp import Architecture
from gtcbmuf.acoustic.model_file import SavedModel, load_model, save_model
from gtcbmuf.base.errors import UserError
from gtcbmuf.config.loading import load_config
from gtcbmuf.core import wire
from gtcbmuf.data.corpus import SPLITS, find_damage, open_corpus
from gtcbmuf.data.corpus_writer import CorpusWriter, Utterance
from gtcbmuf.data.importing.ctm import read_ctm
from gtcbmuf.data.importing.kaldi_alignments import KaldiAlignments
from gtcbmuf.data.importing.kaldi_tables import read_scp
from gtcbmuf.data.importing.phone_names import map_labels
from gtcbmuf.data.importing.textgrid import read_textgrids
from gtcbmuf.training.checkpoint_files import (
    Checkpoint,
    begin_checkpoint,
    publish_checkpoint,
    read_checkpoint,
    read_rank,
    write_rank,
)

#: Mutates bytes of an unknown format.
Generic = Callable[[bytes], bytes]


def mutate_bytes(data: bytes, generic: Generic, dice: random.Random) -> bytes:
    """Mutate bytes without knowledge of their format."""
    return generic(data)


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        seeds: valid inputs.
        check: function that reads an input and checks the reader's behaviour.
        change: function that mutates an input so that it still passes the reader's first checks.
    """

    seeds: list[bytes]
    check: Callable[[bytes], None]
    change: Callable[[bytes, Generic, random.Random], bytes] = mutate_bytes


def value_unless_refused(read: Callable[[], Any], error: type[Exception] = UserError) -> Any:
    """Return the value of a reader, or None if it refuses its input in one line."""
    try:
        return read()
    except error as raised:
        lines = str(raised).splitlines()
    assert len(lines) == 1, lines
    return None


# Messages: 2 bytes for the number of integers of the sum, 2 for their bound, then the words


class Bounded(np.ndarray):
    """An array without negative indices, which NumPy would count from the end."""

    def __getitem__(self, index: Any) -> Any:
        assert not isinstance(index, int | np.integer) or index >= 0, f"index {index}"
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        assert not isinstance(index, int | np.integer) or index >= 0, f"index {index}"
        super().__setitem__(index, value)


def message(folder: Path) -> Target:
    """The reader of messages. Without compilation, an index out of bounds raises an error."""

    def check(data: bytes) -> None:
        n = int.from_bytes(data[:2], "little") % 4097
        bound = int.from_bytes(data[2:4], "little") + 1
        body = data[4:]
        words = np.frombuffer(body[: len(body) & -4], "<u4").view(Bounded)
        values, coder = np.zeros(n, np.int32), wire.Coder(n)
        for name, buffer in vars(coder).items():
            setattr(coder, name, buffer.view(Bounded))
        tally = value_unless_refused(
            lambda: coder.add(words, 1.0, bound, values.view(Bounded)), wire.WireError
        )
        if tally is not None:
            assert tally.tobytes() == words[4 : wire.HEADER].tobytes()
            assert np.count_nonzero(values) == words[2]
        assert np.abs(values).max(initial=0) <= bound

    def change(data: bytes, generic: Generic, dice: random.Random) -> bytes:
        data = generic(data)
        if len(data) < 20 or dice.random() < 0.2:
            return data
        n = int.from_bytes(data[:2], "little") % 4097
        form, count = data[4] | data[5] << 8, int.from_bytes(data[12:16], "little") % (n + 1)
        if dice.random() < 0.5:  # a form that a sender could choose
            k = wire.rice_parameter(n - count, count)
            codes = k | dice.choice([31, *range(6)]) << 5 | dice.randrange(4) << 10
            form = dice.choice([codes, codes, 0x8000 + dice.randrange(34)])
        return data[:4] + struct.pack("<3If", 0x47540000 | form, n, count, 1.0) + data[20:]

    seeds = []
    stream = np.random.default_rng(0)
    for n, density, size in (
        *((1, 1.0, 1), (40, 0.5, 1), (300, 0.02, 3), (4096, 0.001, 1), (4096, 0.05, 2)),
        *((4096, 0.1, 30), (100, 1.0, 30000), (0, 0.0, 1)),
    ):
        numbers = np.rint(size * stream.standard_normal(n)).clip(-size, size)
        values = np.where(stream.random(n) < density, numbers, 0).astype(np.int32)
        words = np.zeros(wire.max_words(n, size), np.uint32)
        encoded = wire.Coder(n).encode(values, 1.0, np.array([n, -size]), words)
        seeds.append(struct.pack("<2H", n, size - 1) + encoded.tobytes())
    return Target(seeds, check, change)


# Text


def configuration(folder: Path) -> Target:
    """The reader of configurations: a TOML file, then an assignment after each NUL."""
    path = folder / "run.toml"

    def check(data: bytes) -> None:
        text, *assignments = data.split(b"\0")
        path.write_bytes(text)
        words = [assignment.decode(errors="surrogateescape") for assignment in assignments]
        value_unless_refused(lambda: load_config(str(path), words))

    recipes = ROOT / "gtcbmuf/config/recipes"
    seeds = [recipe.read_bytes() for recipe in sorted(recipes.iterdir())]
    seeds += [
        b"[model]\nhidden = [64, 0]\n\0train.epochs=3\0exchange.kind=gtc\0corpus.path=a b",
        b"train.epochs = 0xff\nmodel = {hidden = [1_0], context = 2}\n[corpus]\npath = '''x'''\n",
        b'[train]\ncheckpoint_every = "5 steps"\nseed = 2024-01-01T00:00:00Z\ndecay = +inf',
    ]
    return Target(seeds, check)


_TIERS = '"IntervalTier"\n"phones"\n0\n0.5\n2\n0\n0.2\n"AH0"\n0.2\n0.5\n"t"\n'
_SHORT = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n0.5\n<exists>\n1\n{_TIERS}'
_LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.2
            text = "AH0_B"
        intervals [2]:
            xmin = 0.2
            xmax = 0.5
            text = "t_E"
    item [2]:
        class = "TextTier"
        name = "points"
        xmin = 0
        xmax = 0.5
        points: size = 1
        points [1]:
            number = 0.1
            mark = "x"
"""


def textgrid(folder: Path) -> Target:
    """The reader of TextGrids, including the mapping of labels to phones."""
    path = folder / "a.TextGrid"

    def read() -> None:
        map_labels(read_textgrids(folder, {"a": folder / "a.wav"}).label_numbers)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        value_unless_refused(read)

    seeds = [_SHORT.encode(), _LONG.encode(), _LONG.encode("utf-16")]
    return Target(seeds, check)


def ctm(folder: Path) -> Target:
    """The reader of CTM files, including the mapping of labels to phones."""
    path = folder / "a.ctm"
    recordings = {"a": folder / "a.wav", "b-c": folder / "b/c.wav"}

    def check(data: bytes) -> None:
        path.write_bytes(data)
        value_unless_refused(lambda: map_labels(read_ctm(path, recordings).label_numbers))

    seeds = [b"a 1 0.0 0.25 AH0_B\na 1 0.25 0.1 t_E\n", b";; comment\nc A 0 1e-1 sil 0.99\n"]
    return Target(seeds, check)


def scp(folder: Path) -> Target:
    """The reader of Kaldi's scp tables, which locate the matrix of each utterance."""
    path, matrix = folder / "feats.scp", folder / "feats.ark"
    matrix.write_bytes(b"")

    def check(data: bytes) -> None:
        path.write_bytes(data)
        value_unless_refused(lambda: read_scp(path))

    lines = [f"a {matrix}:12", f"b gunzip -c {matrix} |", f"c {matrix}[0:3]", "d copy-feats x - |"]
    return Target([f"{line}\n".encode() for line in ["\n".join(lines[:2]), *lines[2:]]], check)


def alignments(folder: Path) -> Target:
    """The reader of Kaldi's alignment archives: text, binary or gzipped."""
    path = folder / "ali"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        value_unless_refused(lambda: KaldiAlignments([path], io.BytesIO(), path))

    def change(data: bytes, generic: Generic, dice: random.Random) -> bytes:
        if dice.random() < 0.8:
            try:
                return gzip.compress(generic(gzip.decompress(data)), 1)
            except (OSError, EOFError, zlib.error):
                pass  # not gzipped
        return generic(data)

    numbers = b"".join(b"\4" + n.to_bytes(4, "little") for n in (0, 7, 7, 65535))
    binary = b"a \0B\4\4\0\0\0" + numbers + b"b \0B\4\0\0\0\0"
    text = b"a 1 1 0 12\nb \nc 3\n"
    return Target([text, binary, gzip.compress(text), gzip.compress(binary)], check, change)


# HDF5


def checksum(data: bytes) -> int:
    """Compute Jenkins' lookup3, the checksum at the end of HDF5's structures."""
    mask = 0xFFFFFFFF
    full = max((len(data) - 1) // 12, 0) * 12
    words = struct.unpack(f"<{full // 4 + 3}I", data[:full] + data[full:].ljust(12, b"\0"))
    a = b = c = 0xDEADBEEF + len(data) & mask
    for i in range(0, len(words), 3):
        a, b, c = a + words[i] & mask, b + words[i + 1] & mask, c + words[i + 2] & mask
        # The three variables change in turns.
        if i < len(words) - 3:
            for by in (4, 6, 8, 16, 19, 4):
                a = (a - c & mask) ^ (c << by & mask | c >> 32 - by)
                a, b, c = b, c + b & mask, a
        else:
            for by in (14, 11, 25, 16, 4, 14, 24):
                c = (c ^ b) - (b << by & mask | b >> 32 - by) & mask
                a, b, c = b, c, a
    return b


def structures(data: bytes) -> list[tuple[int, int]]:
    """Find the structures with a checksum in a valid HDF5 file: begin and end of their bytes."""
    begins = [match.start() for match in re.finditer(rb"\x89HDF\r|OHDR\x02|OCHK", data)]
    extents = []
    for begin, following in zip(begins, [*begins[1:], len(data)], strict=True):
        ends = [
            end
            for end in range(begin + 8, following - 3)
            if data[end : end + 4] == checksum(data[begin:end]).to_bytes(4, "little")
        ]
        extents.append((begin, ends[0]))
    return extents


def _hdf5(path: Path, read: Callable[[], Any], seed: bytes) -> Target:
    """A reader of HDF5 files. The mutation changes structures, and corrects their checksums."""
    places = structures(seed)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        value_unless_refused(read)

    def change(data: bytes, generic: Generic, dice: random.Random) -> bytes:
        changed = bytearray(data[: len(seed)].ljust(len(seed), b"\0"))
        for _ in range(dice.randint(1, 4)):
            begin, end = dice.choice(places)
            at = dice.randrange(begin + 4, end)
            match dice.randrange(4):
                case 0:
                    changed[at] ^= 1 << dice.randrange(8)
                case 1:
                    changed[at] = dice.choice([0, 1, 2, 3, 4, 6, 9, 127, 255, dice.randrange(256)])
                case 2:
                    number = dice.choice(
                        [0, 1, 2**31, 2**32 - 1, 2**62, 2**64 - 1, begin, len(seed)]
                    )
                    size = min(dice.choice([2, 4, 8]), end - at)
                    changed[at : at + size] = number.to_bytes(8, "little")[:size]
                case 3:
                    other, beyond = dice.choice(places)
                    source = dice.randrange(other, beyond)
                    size = min(dice.randint(1, 32), beyond - source, end - at)
                    changed[at : at + size] = changed[source : source + size]
        for begin, end in places:
            if changed[begin:end] != seed[begin:end]:
                changed[end : end + 4] = checksum(bytes(changed[begin:end])).to_bytes(4, "little")
        return bytes(changed)

    return Target([seed], check, change)


SHAPE = Architecture((6, 5, 4), "sigmoid")
VECTOR = np.arange(SHAPE.parameters, dtype=np.float32)


def write_model(path: Path) -> None:
    """Write a small model."""
    counts = np.arange(SHAPE.widths[-1])
    model = SavedModel(VECTOR, SHAPE, 1, counts, "speaker")
    save_model(path, replace(model, phones=("sil", "ç"), target_phone=(0, 0, 1, 1)))


def read_model(path: Path) -> object:
    """Read all content of a model."""
    model = load_model(path)
    read = (model.vector.tobytes(), model.target_counts.tobytes(), model.normalisation)
    of_data = model.phones, model.target_phone, model.sample_rate, model.frame_shift_ms
    return *read, model.architecture, model.context, *of_data


def write_corpus(path: Path, **facts: str | int | float | bool) -> None:
    """Write a small corpus, with some facts as attributes."""
    stream = np.random.default_rng(0)
    attributes = {"source": "tests", "seed": 1, "hours": 0.5, **facts}
    with CorpusWriter(
        path, phones=["sil", "ç"], target_phone=[0, 0, 1], attributes=attributes
    ) as writer:
        for i, split in enumerate(("train", "train", *SPLITS)):
            features = stream.normal(size=(i + 1, 3)).astype(np.float32)
            targets = stream.integers(0, 3, i + 1).astype(np.uint16)
            writer.add(split, Utterance(f"{i}", f"speaker of {split}", features, targets))


def read_corpus(path: Path) -> object:
    """Read all content of a corpus.

    Raises:
        UserError: the corpus is damaged. The reading or `verify` has detected it.
    """
    corpus = open_corpus(path)
    frames = [
        (
            *(split.features.tobytes(), split.targets.tobytes(), split.ends.tobytes()),
            *(split.names, split.speakers, split.counts(corpus.target_count).tobytes()),
        )
        for split in map(corpus.split, SPLITS)
    ]
    faults = find_damage(path)
    if faults:
        raise UserError("; ".join(faults))
    return frames, repr(corpus.attributes), corpus.phones, corpus.target_phone.tobytes()


STATE = {"residual": np.arange(7, dtype=np.float32), "delta": np.zeros(0, np.float32)}
OWN = {"loss": 1 / 3, "bytes_sent": 2**40}
SHARED = {"epoch": 2, "last": float("inf"), "config": {"train": {"seed": 2**61}}, "fer": [0.5]}


def write_checkpoint(folder: Path) -> Path:
    """Write a small checkpoint of two ranks."""
    part = begin_checkpoint(folder, 1)
    hashes = [write_rank(part, rank, STATE, OWN) for rank in range(2)]
    return publish_checkpoint(part, SHARED, hashes)


def checkpoint_content(path: Path) -> object:
    """Read all content of a checkpoint."""
    whole = read_checkpoint(path)
    ranks = []
    for rank in range(len(whole.hashes)):
        state, own = read_rank(whole, rank)
        ranks.append(({name: array.tobytes() for name, array in state.items()}, own))
    return whole.shared, ranks


def model(folder: Path) -> Target:
    """The reader of model files."""
    path = folder / "model.h5"
    write_model(path)
    return _hdf5(path, lambda: read_model(path), path.read_bytes())


def corpus_file(folder: Path) -> Target:
    """The reader of corpora: opening, frames and verification."""
    path = folder / "corpus.h5"
    write_corpus(path)
    return _hdf5(path, lambda: read_corpus(path), path.read_bytes())


def rank_file(folder: Path) -> Target:
    """The reader of a rank's checkpoint file. The hash is always correct."""
    path = write_checkpoint(folder)
    file = path / "rank-00000.h5"

    def read() -> None:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        read_rank(Checkpoint(path, {}, (digest,)), 0)

    return _hdf5(file, read, file.read_bytes())


def manifest(folder: Path) -> Target:
    """The reader of a checkpoint's manifest. The hash is mostly correct."""
    path = write_checkpoint(folder)
    file = path / "manifest.json"
    seed = file.read_bytes()

    def check(data: bytes) -> None:
        file.write_bytes(data)
        whole = value_unless_refused(lambda: read_checkpoint(path))
        if whole:
            value_unless_refused(lambda: read_rank(whole, 0))

    def change(data: bytes, generic: Generic, dice: random.Random) -> bytes:
        try:
            text = json.loads(data)["manifest"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return generic(data)
        if not isinstance(text, str) or dice.random() < 0.1:
            return generic(data)
        text = generic(text.encode(errors="replace")).decode(errors="replace")
        digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()
        return json.dumps({"sha256": digest, "manifest": text}).encode()

    return Target([seed], check, change)


#: Targets by their names in scripts/fuzz. Each function takes an empty folder.
TARGETS: dict[str, Callable[[Path], Target]] = {
    "wire": message,
    "config": configuration,
    "corpus": corpus_file,
    "model": model,
    "manifest": manifest,
    "rank": rank_file,
    "textgrid": textgrid,
    "ctm": ctm,
    "scp": scp,
    "alignments": alignments,
}


# Every byte


def flip_every_byte(file: Path, read: Callable[[], object], stride: int = 1) -> NDArray[np.int64]:
    """Flip a bit in each byte of a file, or in one of `stride`; count the flips by their result.

    They are detected, harmless or missed, in this order.

    A harmless flip leaves the content unchanged, as in the gaps of an HDF5 file. A missed flip
    changes the content without an error.
    """
    content, expected = file.read_bytes(), read()
    places = range(0, len(content), stride)
    detected = harmless = 0
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        try:
            same = read() == expected
        except UserError:
            detected += 1
        else:
            harmless += same
    file.write_bytes(content)
    return np.array([detected, harmless, len(places) - detected - harmless])


def every_byte(folder: Path) -> dict[str, NDArray[np.int64]]:
    """Call `flip_every_byte` for a model, a corpus and all files of a checkpoint."""
    model_path, corpus_path = folder / "model.h5", folder / "corpus.h5"
    write_model(model_path)
    write_corpus(corpus_path)
    whole = write_checkpoint(folder)
    files = sorted(whole.iterdir())
    return {
        "model": flip_every_byte(model_path, lambda: read_model(model_path)),
        "corpus": flip_every_byte(corpus_path, lambda: read_corpus(corpus_path)),
        "checkpoint": sum(
            (flip_every_byte(file, lambda: checkpoint_content(whole)) for file in files),
            np.zeros(3, np.int64),
        ),
    }
