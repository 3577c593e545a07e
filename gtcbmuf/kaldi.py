"""A corpus made of Kaldi's features and alignments; needs the extra `kaldi`.

kaldi_native_io (Kaldi's own code) reads the features, one matrix at a time. Alignments are read
here instead: its reader of archives takes a truncated one for a shorter one. No entry of an scp
is ever given to a shell.
"""

import glob
import gzip
import importlib.util
import io
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from gtcbmuf import corpus, features
from gtcbmuf.errors import UserError
from gtcbmuf.storage import replacing

NORMALISATIONS = ("speaker", "utterance", "none")

_SPLIT_SEED = 0  # of the speakers that a share draws
_TARGETS = 1 << 16  # a corpus numbers its targets with 16 bits
_LONGEST = 1 << 24  # frames: two days of speech; more is no alignment
_LONGEST_NAME = 1024
_NAMED = 3  # utterances that a message names
_CONVERT = (
    'convert them: ali-to-pdf final.mdl ark:"gunzip -c ali.1.gz|" ark:- '
    "(or ali-to-phones --per-frame)"
)
_GUNZIP = re.compile(r"(?:gunzip -c|gzip -c?dc?|zcat)\s+([^\s'\"`$;&|<>()\\*?]+)\s*\|")
_PLACE = re.compile(r"(.+?)(?::\d+)?")


def import_kaldi(
    feats: Path,
    ali: str,
    out: Path,
    *,
    utt2spk: Path | None = None,
    valid: str = "0.1",
    test: str = "0.1",
    normalise: str = "speaker",
    most_bad: float = 0.05,
) -> str:
    """Make the corpus `out` of Kaldi's features and alignments, and return a line about it.

    Utterances that cannot be used are left out; `out`.log, beside `out`, names each with the
    reason. The same arguments and files give the same corpus. Memory holds the frames of one
    speaker at a time.

    Args:
        feats: an scp: for each utterance where its matrix is, (frames, dim), of any format of
            Kaldi's, or `gunzip -c PATH |`.
        ali: a glob pattern of archives, gzipped or not, with a pdf-id (or phone) per frame.
        out: of the HDF5 file; an earlier one is replaced.
        utt2spk: the speaker of each utterance; without it each utterance is its own speaker.
        valid: a share of the speakers, or a file that lists utterances or speakers, a line each.
        test: likewise; the utterances of neither are for training.
        normalise: "speaker" or "utterance": mean 0 and variance 1 over its frames; or "none".
        most_bad: the largest share of the utterances that may be left out.

    Raises:
        UserError: the extra is not installed, an argument makes no sense, a file is missing or
            damaged, too many utterances cannot be used, the alignments hold transition-ids, or
            the splits would share a speaker or lack one.
    """
    if importlib.util.find_spec("kaldi_native_io") is None:
        raise UserError(
            "an import from Kaldi needs kaldi_native_io, which is not installed: "
            "pip install 'gtcbmuf[kaldi]'"
        )
    if normalise not in NORMALISATIONS:
        raise UserError(f"normalise is {normalise!r}; expected {' or '.join(NORMALISATIONS)}")
    if not 0 <= most_bad <= 1:
        raise UserError(f"most_bad is {most_bad:g}, but must be a share, from 0 to 1")

    from importlib.metadata import version

    from tqdm import tqdm

    places = _read_table(feats)
    for name, place in places.items():
        _check_place(feats, name, place)
    speaker_of = {name: name for name in places} if utt2spk is None else _read_table(utt2spk)
    archives = [Path(path) for path in sorted(glob.glob(ali))]
    if not archives:
        raise UserError(f"{ali}: no such files; expected the archives of alignments, as a pattern")

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent) as spool:
        alignments = _Alignments(archives, spool)
        left_out = _LeftOut(len(places.keys() | alignments.names()), most_bad)
        speakers = _pair(places, alignments, speaker_of, utt2spk, left_out)
        split_of = _split(speakers, {*places, *speaker_of}, {"valid": valid, "test": test})
        attributes = {
            "source": "kaldi",
            "kaldi_native_io": version("kaldi_native_io"),
            "feats": str(feats),
            "ali": ali,
            "targets": "pdf",
            "speakers": "one per utterance" if utt2spk is None else str(utt2spk),
            "valid": valid,
            "test": test,
            "normalise": normalise,
        }
        # Nobody told us the phones, so each target stands for itself.
        target_phone = range(alignments.target_count)
        used = dict.fromkeys(corpus.SPLITS, 0)
        with corpus.Writer(
            out,
            phones=[str(target) for target in target_phone],
            target_phone=target_phone,
            attributes=attributes,
        ) as writer:
            reader = _Reader(feats, alignments, left_out, largest=_largest(normalise))
            for speaker in tqdm(speakers, "import", unit="speaker", disable=None):
                split = split_of[speaker]
                frames = {
                    name: matrix
                    for name in speakers[speaker]
                    if (matrix := reader.read(name, places[name])) is not None
                }
                normalised = _normalise(list(frames.values()), normalise)
                for name, matrix in zip(frames, normalised, strict=True):
                    writer.add(split, corpus.Utterance(name, speaker, matrix, alignments[name]))
                used[split] += len(frames)
            for split, count in used.items():
                if not count:
                    raise UserError(f"{split} has no utterance that can be used{left_out.some()}")
    log = Path(f"{out}.log")
    with replacing(log) as beside:
        beside.write_text(left_out.text(), encoding="utf-8")
    counts = ", ".join(f"{count} utterances for {split}" for split, count in used.items())
    return f"{out}: {counts}; {len(left_out)} of {left_out.total} left out, see {log}"


def _read_table(path: Path) -> dict[str, str]:
    """Read lines of a name and what belongs to it: an scp, or an utt2spk."""
    table: dict[str, str] = {}
    for number, line in enumerate(_read_lines(path), 1):
        words = line.split(maxsplit=1)
        if len(words) != 2:
            raise UserError(f"{path}: line {number}: {line!r}: expected two words at least")
        name, rest = words
        if table.setdefault(name, rest.strip()) != rest.strip():
            raise UserError(f"{path}: line {number}: {name} has another line already")
    if not table:
        raise UserError(f"{path}: no line in it; expected one per utterance")
    return table


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as lines of text: {error}") from None


def _check_place(feats: Path, name: str, place: str) -> None:
    """Refuse what is no file, and what Kaldi would give to a shell."""
    where = f"{feats}: {name}: {place!r}"
    if place.endswith("]"):
        raise UserError(f"{where}: a part of a matrix; expected a whole one: run copy-feats first")
    if gunzip := _GUNZIP.fullmatch(place):
        path = Path(gunzip[1])
    elif "|" in place:
        raise UserError(
            f"{where}: a shell command, which is not run; "
            "expected FILE:OFFSET, or 'gunzip -c PATH |': run copy-feats first"
        )
    else:
        path = Path(cast(re.Match[str], _PLACE.fullmatch(place))[1])
    if not path.is_file():
        raise UserError(f"{where}: no such file; expected a matrix of features there")


class _Alignments:
    """The targets of every utterance, moved to a file, so that each can be had by its name.

    Args:
        archives: to read.
        spool: an open, empty file.

    Attributes:
        target_count: one more than the largest target.

    Raises:
        UserError: an archive cannot be read, or holds no pdf-ids.
    """

    def __init__(self, archives: Sequence[Path], spool: IO[bytes]) -> None:
        self._spool = spool
        self._where: dict[str, tuple[int, int]] = {}  # of each utterance: offset, targets
        counts = np.zeros(_TARGETS, np.int64)
        repeats = np.zeros(_TARGETS, np.int64)
        for archive in archives:
            for name, targets in _read_archive(archive):
                if name in self._where:
                    raise UserError(f"{archive}: {name}: a second alignment of this utterance")
                if len(targets) and not 0 <= targets.min() <= targets.max() < _TARGETS:
                    raise UserError(
                        f"{archive}: {name}: targets from {targets.min()} to {targets.max()}; "
                        f"expected 0 to {_TARGETS - 1}; if these are transition-ids, {_CONVERT}"
                    )
                self._where[name] = (spool.tell(), len(targets))
                spool.write(targets.astype(np.uint16).tobytes())
                np.add.at(counts, targets, 1)
                np.add.at(repeats, targets[1:][targets[1:] == targets[:-1]], 1)
        _refuse_transition_ids(archives[0], counts, repeats)
        self.target_count = int(counts.nonzero()[0].max(initial=-1)) + 1

    def names(self) -> set[str]:
        """Return the names of all utterances."""
        return set(self._where)

    def __getitem__(self, name: str) -> NDArray[np.uint16]:
        """Return the targets of an utterance: (frames,)."""
        offset, length = self._where[name]
        self._spool.seek(offset)
        return np.frombuffer(self._spool.read(2 * length), np.uint16)


def _refuse_transition_ids(
    archive: Path, counts: NDArray[np.int64], repeats: NDArray[np.int64]
) -> None:
    """Recognise transition-ids that are below 65536.

    In an alignment by transition-ids, a state is entered by one id and goes on with another, that
    of its self-loop: so half of the ids never stand on two frames in a row. A pdf-id or a phone
    that occurs often does. And no transition-id is 0, as one pdf-id is.

    Args:
        archive: to name.
        counts: (65536,) how often each id occurs.
        repeats: (65536,) how often each id follows itself.
    """
    frequent = counts >= 10
    single = np.count_nonzero(frequent & (repeats == 0))
    if not counts[0] and 3 * single > np.count_nonzero(frequent):
        raise UserError(
            f"{archive}: transition-ids, it seems: {single} of {np.count_nonzero(frequent)} "
            f"frequent ids never follow themselves, and none is 0; expected pdf-ids; {_CONVERT}"
        )


def _read_archive(path: Path) -> Iterator[tuple[str, NDArray[np.int32]]]:
    """Yield the utterances of an archive of int vectors, binary or text, and their vectors."""
    name = ""
    try:
        with path.open("rb") as file:
            plain = _unpacked(file)
            while name_bytes := _read_name(plain):
                name = name_bytes.decode()
                yield name, _read_vector(plain)
    except (OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        where = f"at or after {name}" if name else "at its beginning"
        raise UserError(
            f"{path}: {where}: expected an archive of alignments, a vector of int32 per utterance: "
            f"{str(error) or 'it ends too early'}"
        ) from None


def _unpacked(file: io.BufferedReader) -> io.BufferedReader:
    if file.peek(2)[:2] == b"\x1f\x8b":
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)))
    return file


def _read_name(file: BinaryIO) -> bytes:
    """Read up to the space after the next name; nothing at the file's end."""
    name = b""
    while (byte := file.read(1)) != b" ":
        if not byte and name:
            raise EOFError
        if not byte:
            break
        if not name and byte.isspace():
            continue
        name += byte
        if len(name) > _LONGEST_NAME or byte == b"\0" or byte.isspace():
            raise ValueError("this is no name of an utterance")
    return name


def _read_vector(file: io.BufferedReader) -> NDArray[np.int32]:
    """Read a vector as Kaldi's BasicVectorHolder writes it."""
    if file.peek(1)[:1] != b"\0":
        line = file.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return np.array([int(word) for word in line.split()], np.int32)
    head = _read_exactly(file, 7)
    length = int.from_bytes(head[3:], "little", signed=True)
    if head[:3] != b"\0B\4" or not 0 <= length < _LONGEST:
        raise ValueError("this is no vector of int32")
    # A 4, the size of what follows, stands before each number.
    sized = np.frombuffer(
        _read_exactly(file, 5 * length), np.dtype([("size", "i1"), ("value", "<i4")])
    )
    if not (sized["size"] == 4).all():
        raise ValueError("this is no vector of int32")
    return sized["value"].astype(np.int32)


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError
    return data


class _LeftOut:
    """The utterances that cannot be used, and why.

    Args:
        total: number of all utterances.
        most: the largest share of them that may be left out.
    """

    def __init__(self, total: int, most: float) -> None:
        self.total = total
        self._most = most
        self._reasons: dict[str, str] = {}
        self._thirds = 0

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, name: str, reason: str, *, third: bool = False) -> None:
        """Leave out an utterance; `third` if it has a third of the targets that it should have.

        Raises:
            UserError: these are too many.
        """
        self._reasons[name] = reason
        self._thirds += third
        if len(self) <= self._most * self.total:
            return
        if 2 * self._thirds > len(self):
            raise UserError(
                f"most alignments have a third of their features' frames{self.some()}: "
                "a chain model's; expected those of a model with a target per frame, such as "
                f"tri3b; then {_CONVERT}"
            )
        raise UserError(
            f"more than {100 * self._most:g} % (--most-bad) of {self.total} utterances "
            f"cannot be used{self.some()}"
        )

    def some(self) -> str:
        """Return the first ones with their reasons, to end a message with."""
        shown = [f"{name}: {reason}" for name, reason in self._reasons.items()][:_NAMED]
        return f" ({'; '.join(shown)})" if shown else ""

    def text(self) -> str:
        """Return all of them, a line each, after a line that counts them."""
        lines = [f"{len(self)} of {self.total} utterances were left out"]
        lines += [f"{name}: {reason}" for name, reason in self._reasons.items()]
        return "\n".join(lines) + "\n"


def _pair(
    places: Mapping[str, str],
    alignments: _Alignments,
    speaker_of: Mapping[str, str],
    utt2spk: Path | None,
    left_out: _LeftOut,
) -> dict[str, list[str]]:
    """Return the utterances of each speaker that have features and an alignment."""
    aligned = alignments.names()
    speakers: dict[str, list[str]] = {}
    for name in places:
        if name not in aligned:
            left_out.add(name, "no alignment")
        elif name not in speaker_of:
            left_out.add(name, f"no speaker in {utt2spk}")
        else:
            speakers.setdefault(speaker_of[name], []).append(name)
    for name in sorted(aligned - places.keys()):
        left_out.add(name, "no features")
    return speakers


def _split(
    speakers: Mapping[str, Sequence[str]], known: set[str], choices: Mapping[str, str]
) -> dict[str, str]:
    """Return the split of each speaker.

    Args:
        speakers: their utterances.
        known: names of all utterances, also of those that cannot be used.
        choices: for "valid" and "test", a share of the speakers or the path of a list.
    """
    split_of: dict[str, str] = {}
    counts: dict[str, int] = {}
    for split, choice in choices.items():
        try:
            share = float(choice)
        except ValueError:
            for speaker in _listed(Path(choice), speakers, known):
                if split_of.setdefault(speaker, split) != split:
                    raise UserError(f"{choice}: speaker {speaker} is in both lists") from None
            continue
        if not 0 < share < 1:
            raise UserError(f"--{split} {choice}: expected a share above 0 and below 1, or a file")
        counts[split] = max(1, round(share * len(speakers)))
    free = sorted(speakers.keys() - split_of.keys())
    if sum(counts.values()) >= len(free):
        raise UserError(
            f"{len(speakers)} speakers, {len(free)} of them in no list, are too few: "
            f"--valid {choices['valid']} and --test {choices['test']} leave none for train"
        )
    stream = np.random.default_rng(_SPLIT_SEED)
    order = iter([free[i] for i in stream.permutation(len(free))])
    for split, count in counts.items():
        split_of |= {next(order): split for _ in range(count)}
    return split_of | dict.fromkeys(order, "train")


def _listed(path: Path, speakers: Mapping[str, Sequence[str]], known: set[str]) -> list[str]:
    """Return the speakers that a list of utterances or speakers names."""
    listed = {words[0] for line in _read_lines(path) if (words := line.split())}
    if unknown := sorted(listed - known - speakers.keys()):
        raise UserError(
            f"{path}: {', '.join(unknown[:_NAMED])}: expected names of utterances or speakers"
        )
    chosen = []
    for speaker, names in speakers.items():
        missing = [name for name in names if name not in listed]
        if speaker in listed or not missing:
            chosen.append(speaker)
        elif len(missing) < len(names):
            raise UserError(
                f"{path}: speaker {speaker}: lists some of its utterances, but not {missing[0]}; "
                "expected all or none: no speaker is in two splits"
            )
    if not chosen:
        raise UserError(f"{path}: names no utterance that has features and an alignment")
    return chosen


class _Reader:
    """Reads features, and leaves out what cannot be used.

    Args:
        feats: the scp, to name it.
        alignments: which must have as many targets as there are frames.
        left_out: takes what cannot be used.
        largest: magnitude that a feature may have.
    """

    def __init__(
        self, feats: Path, alignments: _Alignments, left_out: _LeftOut, *, largest: float
    ) -> None:
        self._feats, self._alignments, self._left_out = feats, alignments, left_out
        self._largest = largest
        self._dim = 0

    def read(self, name: str, place: str) -> NDArray[np.float32] | None:
        """Return the features of an utterance: (frames, dim); nothing if it cannot be used.

        Raises:
            UserError: there is no matrix at `place`, or too many utterances cannot be used.
        """
        try:
            matrix = _read_matrix(place)
        except (OSError, EOFError, zlib.error, RuntimeError, ValueError, MemoryError):
            # What kaldi_native_io says has several lines, and bytes of the file in them.
            raise UserError(
                f"{self._feats}: {name}: {place}: expected a matrix of features there: "
                "a truncated or damaged archive, or another file than the scp was made for"
            ) from None
        frames, targets = len(matrix), len(self._alignments[name])
        self._dim = self._dim or matrix.shape[1]
        if not frames:
            self._left_out.add(name, "no frames")
        elif matrix.shape[1] != self._dim:
            self._left_out.add(name, f"{matrix.shape[1]} features a frame, not {self._dim}")
        elif frames != targets:
            third = abs(3 * targets - frames) < 3
            self._left_out.add(name, f"{frames} frames, but {targets} targets", third=third)
        elif not np.isfinite(matrix).all():
            self._left_out.add(name, "NaN or infinite features")
        elif np.abs(matrix).max() > self._largest:
            self._left_out.add(
                name, f"features beyond {self._largest:g}, which float16 cannot hold"
            )
        else:
            return matrix
        return None


def _read_matrix(place: str) -> NDArray[np.float32]:
    from kaldi_native_io import FloatMatrix

    with _without_gzip(place) as plain:
        # A copy: the array itself is a view of what the matrix will free.
        return np.array(FloatMatrix.read(plain).numpy(), np.float32)


@contextmanager
def _without_gzip(place: str) -> Iterator[str]:
    """Where a matrix can be read with no pipe."""
    gunzip = _GUNZIP.fullmatch(place)
    if not gunzip:
        yield place
        return
    with tempfile.NamedTemporaryFile() as plain:
        with gzip.open(gunzip[1]) as packed:
            shutil.copyfileobj(packed, plain)
        plain.flush()
        yield plain.name


def _largest(normalise: str) -> float:
    """The largest feature that can be used: what is not normalised must fit into float16."""
    return float(np.finfo(np.float16).max) if normalise == "none" else np.inf


def _normalise(matrices: list[NDArray[np.float32]], over: str) -> list[NDArray[np.float32]]:
    """Return all matrices of a speaker normalised, over "speaker", "utterance" or "none"."""
    if over == "speaker" and matrices:
        return features.normalise(matrices)
    if over == "utterance":
        return [features.normalise([matrix])[0] for matrix in matrices]
    return matrices
