"""A corpus made of Kaldi's features and alignments; needs the extra `kaldi`.

kaldi_native_io (Kaldi's own code) reads the features, one matrix at a time. Alignments are read
here instead: its reader of archives takes a truncated one for a shorter one. No entry of an scp
is ever given to a shell.
"""

import glob
import gzip
import importlib.util
import io
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from gtcbmuf import corpus
from gtcbmuf.errors import UserError
from gtcbmuf.importing import (
    NORMALISATIONS,
    Frames,
    LeftOut,
    normalised,
    read_lines,
    split_speakers,
    write_corpus,
)
from gtcbmuf.storage import writing

#: Names and features (frames, dim) of the utterances of a speaker.
Speaker = list[tuple[str, NDArray[np.float32]]]

_TARGETS = 1 << 16  # a corpus numbers its targets with 16 bits
_LONGEST = 1 << 24  # frames: two days of speech; more is no alignment
_LONGEST_NAME = 1024
_CONVERT = (
    'convert them: ali-to-pdf final.mdl ark:"gunzip -c ali.1.gz|" ark:- '
    "(or ali-to-phones --per-frame)"
)
_CHAIN = (
    "most alignments have a third of their features' frames: a chain model's; expected those of a "
    f"model with a target per frame, such as tri3b; then {_CONVERT}"
)
_GUNZIP = re.compile(r"(?:gunzip -c|gzip -c?dc?|zcat)\s+([^\s'\"`$;&|<>()\\*?]+)\s*\|")
_PLACE = re.compile(r"(.+?)(?::\d+)?")


def import_kaldi(
    feats: Path,
    ali: str,
    out: Path,
    *,
    utt2spk: Path | None = None,
    pdfs: int | None = None,
    valid: str = "0.1",
    test: str = "0.1",
    normalise: str = "speaker",
    cmvn: Path | None = None,
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
        pdfs: number of the pdf-ids that there are, of which the last may occur nowhere here; by
            default one more than the largest.
        valid: a share of the speakers, or a file that lists utterances or speakers, a line each.
        test: likewise; the utterances of neither are for training.
        normalise: "speaker" or "utterance": mean 0 and variance 1 over its frames; or "none".
        cmvn: instead, an scp of the statistics (`compute-cmvn-stats`) of each speaker or utterance
            to take mean and variance from.
        most_bad: the largest share of the utterances that may be left out.

    Raises:
        UserError: the extra is not installed, an argument makes no sense, a file is missing or
            damaged, too many utterances cannot be used, the alignments hold transition-ids, or
            the splits would share a speaker or lack one.
    """
    _need_kaldi_native_io()
    if normalise not in NORMALISATIONS:
        raise UserError(f"normalise is {normalise!r}; expected {' or '.join(NORMALISATIONS)}")

    from importlib.metadata import version

    if utt2spk is None and normalise == "speaker":
        normalise = "utterance"  # each is a speaker of its own
    places = _read_places(feats)
    statistics = {} if cmvn is None else _read_places(cmvn)
    speaker_of = {name: name for name in places} if utt2spk is None else _read_table(utt2spk)
    archives = [Path(path) for path in sorted(glob.glob(ali))]
    if not archives:
        raise UserError(f"{ali}: no such files; expected the archives of alignments, as a pattern")

    with ExitStack() as stack:
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            spool = stack.enter_context(tempfile.TemporaryFile(dir=out.parent))
        alignments = _Alignments(archives, spool, out)
        left_out = LeftOut(len(places), most_bad)
        speakers = _pair(places, alignments, speaker_of, utt2spk, left_out)
        known = {*places, *speaker_of, *speaker_of.values()}
        split_of = split_speakers(speakers, known, {"valid": valid, "test": test})
        seen = alignments.target_count
        if pdfs is not None and not seen <= pdfs <= _TARGETS:
            raise UserError(
                f"--pdfs {pdfs}: expected {seen} at least, as pdf-id {seen - 1} occurs, and "
                f"{_TARGETS} at most"
            )
        # Nobody told us the phones, so each target stands for itself.
        target_phone = range(pdfs or seen)
        writer = corpus.Writer(
            out,
            phones=[str(target) for target in target_phone],
            target_phone=target_phone,
            attributes={
                "source": "kaldi",
                "kaldi_native_io": version("kaldi_native_io"),
                "feats": str(feats),
                "ali": ali,
                "targets": "pdf",
                "speakers": "one per utterance" if utt2spk is None else str(utt2spk),
                "valid": valid,
                "test": test,
                "normalisation": normalise if cmvn is None else "statistics",
                **({} if cmvn is None else {"cmvn": str(cmvn)}),
            },
        )
        normaliser = None
        if cmvn is not None:
            normaliser = _Normaliser(cmvn, statistics, speaker_of)
            normalise = "none"
        reader = _Reader(feats, places, alignments, normaliser, left_out)
        line = write_corpus(writer, speakers, split_of, reader.read, left_out, normalise=normalise)
        alone = "" if utt2spk else "; each utterance is a speaker of its own, without --utt2spk"
        return f"{line}; {len(target_phone)} targets{alone}"


def read_features(
    feats: Path,
    dim: int,
    normalisation: str,
    *,
    utt2spk: Path | None = None,
    cmvn: Path | None = None,
) -> Iterator[Speaker]:
    """Return an iterator over the speakers, each with all its utterances.

    Args:
        feats, utt2spk, cmvn: as of `import_kaldi`.
        dim: features of a frame that are expected.
        normalisation: of the features that a model was trained on, as
            `gtcbmuf.corpus.Corpus.normalisation`; these ones become such.

    Raises:
        UserError: the extra is not installed, a file is missing or damaged, features cannot be
            used, or what the normalisation takes is not given.
    """
    _need_kaldi_native_io()
    if normalisation == "speaker" and utt2spk is None:
        raise UserError("the model takes features normalised by speaker: give --utt2spk")
    if (normalisation == "statistics") != (cmvn is not None):
        needs = "give --cmvn" if cmvn is None else f"it goes without --cmvn {cmvn}"
        raise UserError(f"the model takes features with normalisation = {normalisation}: {needs}")
    places = _read_places(feats)
    speaker_of = {name: name for name in places} if utt2spk is None else _read_table(utt2spk)
    normaliser = None
    if cmvn is not None:
        normaliser = _Normaliser(cmvn, _read_places(cmvn), speaker_of)
    speakers: dict[str, list[str]] = {}
    for name in places:
        if name not in speaker_of:
            raise UserError(f"{feats}: {name}: no speaker in {utt2spk}")
        if normaliser and (lack := normaliser.lack(name)):
            raise UserError(f"{feats}: {name}: {lack}")
        speakers.setdefault(speaker_of[name], []).append(name)

    def read(name: str) -> NDArray[np.float32]:
        matrix = _read_matrix(feats, name, places[name], "features")
        if matrix.shape[1] != dim:
            raise UserError(f"{feats}: {name}: {matrix.shape[1]} features a frame; expected {dim}")
        if not len(matrix) or not np.isfinite(matrix).all():
            raise UserError(f"{feats}: {name}: no frames, or features that are no numbers")
        return normaliser.apply(name, matrix) if normaliser else matrix

    over = normalisation if normalisation in NORMALISATIONS else "none"
    return (
        list(zip(names, normalised([read(name) for name in names], over), strict=True))
        for names in speakers.values()
    )


def _need_kaldi_native_io() -> None:
    if importlib.util.find_spec("kaldi_native_io") is None:
        raise UserError(
            "Kaldi's files need kaldi_native_io, which is not installed: "
            "pip install 'gtcbmuf[kaldi]'"
        )


def _read_table(path: Path) -> dict[str, str]:
    """Read lines of a name and what belongs to it: an scp, or an utt2spk."""
    table: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        words = line.split(maxsplit=1)
        if len(words) != 2:
            raise UserError(f"{path}: line {number}: {line!r}: expected two words at least")
        name, rest = words
        if table.setdefault(name, rest.strip()) != rest.strip():
            raise UserError(f"{path}: line {number}: {name} has another line already")
    if not table:
        raise UserError(f"{path}: no line in it; expected one per utterance")
    return table


def _read_places(path: Path) -> dict[str, str]:
    """Read an scp: names and where the matrix of each is."""
    places = _read_table(path)
    for name, place in places.items():
        _check_place(path, name, place)
    return places


def _check_place(table: Path, name: str, place: str) -> None:
    """Refuse what is no file, and what Kaldi would give to a shell."""
    where = f"{table}: {name}: {place!r}"
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
    if not os.path.isfile(path):  # pathlib's raises if the name is too long
        raise UserError(f"{where}: no such file; expected a matrix there")


class _Alignments:
    """The targets of every utterance, moved to a file, so that each can be had by its name.

    Args:
        archives: to read.
        spool: an open, empty file.
        out: what is being made with it.

    Attributes:
        target_count: one more than the largest target.

    Raises:
        UserError: an archive cannot be read, or holds no pdf-ids, or the disk is full.
    """

    def __init__(self, archives: Sequence[Path], spool: IO[bytes], out: Path) -> None:
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
                with writing(out):
                    spool.write(targets.astype(np.uint16).tobytes())
                np.add.at(counts, targets, 1)
                np.add.at(repeats, targets[1:][targets[1:] == targets[:-1]], 1)
        with writing(out):
            spool.flush()
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
        line = file.readline(_LONGEST)  # no more: a gzipped line can be a thousand times its file
        if len(line) == _LONGEST:
            raise ValueError("this is no vector of int32")
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


def _pair(
    places: Mapping[str, str],
    alignments: _Alignments,
    speaker_of: Mapping[str, str],
    utt2spk: Path | None,
    left_out: LeftOut,
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
    return speakers


class _Normaliser:
    """Takes mean and variance from Kaldi's statistics.

    Args:
        table: the scp, to name it.
        places: of the statistics of each speaker or utterance.
        speaker_of: the speaker of each utterance.
    """

    def __init__(
        self, table: Path, places: Mapping[str, str], speaker_of: Mapping[str, str]
    ) -> None:
        self._table, self._places, self._speaker_of = table, places, speaker_of

    def lack(self, name: str) -> str:
        """Why an utterance cannot be normalised; nothing if it can."""
        owner = self._owner(name)
        if owner in self._places:
            return ""
        return f"no statistics for it or {owner} in {self._table}"

    def _owner(self, name: str) -> str:
        return name if name in self._places else self._speaker_of[name]

    def apply(self, name: str, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an utterance normalised; there must be statistics for it.

        Raises:
            UserError: the statistics cannot be read, or are none for such features.
        """
        owner = self._owner(name)
        place = self._places[owner]
        # Sums and sums of squares, and after the former how many frames they are of.
        statistics = _read_matrix(self._table, owner, place, "statistics", np.float64)
        expected = (2, matrix.shape[1] + 1)
        good = statistics.shape == expected and np.isfinite(statistics).all()
        if not good or not statistics[0, -1] > 0:
            raise UserError(
                f"{self._table}: {owner}: {place}: a matrix {statistics.shape}; expected the "
                f"statistics {expected}, numbers, of features of dimension {matrix.shape[1]}, of "
                "a frame at least"
            )
        mean, square = statistics[:, :-1] / statistics[0, -1]
        deviation = np.sqrt(np.maximum(square - mean**2, 1e-10))
        normal: NDArray[np.float32] = ((matrix - mean) / deviation).astype(np.float32)
        return normal


class _Reader:
    """Reads features and their targets, and leaves out what cannot be used.

    Args:
        feats: the scp, to name it.
        places: of the matrices.
        alignments: which must have as many targets as there are frames.
        normaliser: of the features, if Kaldi's statistics are to be used.
        left_out: takes what cannot be used.
    """

    def __init__(
        self,
        feats: Path,
        places: Mapping[str, str],
        alignments: _Alignments,
        normaliser: _Normaliser | None,
        left_out: LeftOut,
    ) -> None:
        self._feats, self._places, self._alignments = feats, places, alignments
        self._normaliser, self._left_out = normaliser, left_out
        self._dim = 0

    def read(self, name: str) -> Frames | None:
        """Return an utterance; nothing if it cannot be used.

        Raises:
            UserError: there is no matrix in its place, or too many utterances cannot be used.
        """
        matrix = _read_matrix(self._feats, name, self._places[name], "features")
        targets = self._alignments[name]
        self._dim = self._dim or matrix.shape[1]
        if not len(matrix):
            self._left_out.add(name, "no frames")
        elif matrix.shape[1] != self._dim:
            self._left_out.add(name, f"{matrix.shape[1]} features a frame, not {self._dim}")
        elif len(matrix) != len(targets):
            hint = _CHAIN if abs(3 * len(targets) - len(matrix)) < 3 else ""
            self._left_out.add(name, f"{len(matrix)} frames, but {len(targets)} targets", hint)
        elif self._normaliser is None:
            return matrix, targets
        elif lack := self._normaliser.lack(name):
            self._left_out.add(name, lack)
        else:
            return self._normaliser.apply(name, matrix), targets
        return None


def _read_matrix(
    table: Path, name: str, place: str, what: str, dtype: type[np.floating] = np.float32
) -> NDArray[np.floating]:
    """Read the matrix in a place that a table gives for a name.

    Raises:
        UserError: there is none.
    """
    from kaldi_native_io import DoubleMatrix, FloatMatrix

    kind = FloatMatrix if dtype is np.float32 else DoubleMatrix
    try:
        with _without_gzip(place) as plain:
            # A copy: the array itself is a view of what the matrix will free.
            return np.array(kind.read(plain).numpy(), dtype)
    except (OSError, EOFError, zlib.error, RuntimeError, ValueError, MemoryError):
        # What kaldi_native_io says has several lines, and bytes of the file in them.
        raise UserError(
            f"{table}: {name}: {place}: expected a matrix of {what} there: "
            "a truncated or damaged archive, or another file than the scp was made for"
        ) from None


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
