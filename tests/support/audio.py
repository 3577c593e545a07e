"""Recordings and files of aligners, and what an import makes of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import open_corpus

sf = pytest.importorskip("soundfile")
pytest.importorskip("soxr")
pytest.importorskip("kaldi_native_fbank")

from gtcbmuf.data.importing.audio import import_audio  # noqa: E402

RATE = 16000
Interval = tuple[float, float, str]


# Files of aligners


def long_textgrid(tiers: dict[str, list[Interval]]) -> str:
    end = max(intervals[-1][1] for intervals in tiers.values())
    lines = [
        'File type = "ooTextFile"\nObject class = "TextGrid"\n',
        f"xmin = 0 \nxmax = {end!r} \ntiers? <exists> \nsize = {len(tiers)} \nitem []: ",
    ]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        lines.append(f'    item [{number}]:\n        class = "IntervalTier" ')
        lines.append(f'        name = "{name}" \n        xmin = 0 \n        xmax = {end!r} ')
        lines.append(f"        intervals: size = {len(intervals)} ")
        for i, (a, b, label) in enumerate(intervals, 1):
            lines.append(f"        intervals [{i}]:\n            xmin = {a!r} ")
            lines.append(f'            xmax = {b!r} \n            text = "{label}" ')
    return "\n".join(lines) + "\n"


def short_textgrid(tiers: dict[str, list[Interval]]) -> str:
    end = max(intervals[-1][1] for intervals in tiers.values())
    lines = [f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n{end!r}\n<exists>']
    lines.append(str(len(tiers)))
    for name, intervals in tiers.items():
        lines.append(f'"IntervalTier"\n"{name}"\n0\n{end!r}\n{len(intervals)}')
        lines += [f'{a!r}\n{b!r}\n"{label}"' for a, b, label in intervals]
    return "\n".join(lines) + "\n"


def ctm(alignments: dict[str, list[Interval]], names: dict[str, str] | None = None) -> str:
    lines = [";; comment\n"]
    for key, intervals in alignments.items():
        name = (names or {}).get(key, key.replace("/", "-"))
        lines += [f"{name} 1 {a!r} {b - a!r} {label or '<eps>'}\n" for a, b, label in intervals]
    return "".join(lines)


@dataclass
class Directory:
    """Recordings and alignments, by the path of the file without its suffix."""

    path: Path
    recordings: dict[str, np.ndarray]
    alignments: dict[str, list[Interval]]
    rate: int = RATE

    @property
    def audio(self) -> Path:
        return self.path / "audio"

    @property
    def out(self) -> Path:
        return self.path / "out" / "corpus.h5"

    @property
    def log(self) -> Path:
        return Path(f"{self.out}.log")

    def write(self, suffix: str = ".wav") -> "Directory":
        """Write the recordings, with long TextGrids beside them."""
        for key, samples in self.recordings.items():
            path = self.file(key, suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = {"subtype": "FLOAT"} if samples.dtype == np.float32 else {}
            sf.write(path, samples, self.rate, format=suffix[1:].upper(), **kind)
        for key in self.alignments:
            self.write_textgrid(key)
        return self

    def file(self, key: str, suffix: str = ".wav") -> Path:
        return self.audio / f"{key}{suffix}"

    def write_textgrid(self, key: str, tier: str = "phones") -> None:
        path = self.file(key, ".TextGrid")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(long_textgrid(self.tiers(key, tier)))

    def tiers(self, key: str, tier: str = "phones") -> dict[str, list[Interval]]:
        intervals = self.alignments[key]
        return {"words": [(0, intervals[-1][1], "hello")], tier: intervals}

    def make(self, **options: object) -> str:
        return import_audio(self.audio, self.out, **options)  # type: ignore[arg-type]

    def bytes(self, **options: object) -> bytes:
        self.make(**options)
        return self.out.read_bytes()

    def fails(self, match: str, **options: object) -> None:
        """Assert that the import fails with one line that matches, and leaves no file."""
        with pytest.raises(UserError, match=match) as error_info:
            self.make(**options)
        assert "\n" not in str(error_info.value)
        assert not self.out.parent.exists() or not list(self.out.parent.iterdir())

    def excludes(self, reasons: dict[str, str], **options: object) -> None:
        """Assert that the import excludes these utterances for these reasons, and no others."""
        self.make(most_bad=0.5, **options)
        head, *log = self.log.read_text().splitlines()
        assert head.startswith(f"{len(reasons)} of ")
        reasons_in_log = dict(line.split(": ", 1) for line in log)
        assert set(reasons_in_log) == set(reasons)
        for name, reason in reasons.items():
            assert reason in reasons_in_log[name]
        names = {key.replace("/", "-") for key in self.recordings}
        assert set(read_utterances(self.out)) == names - set(reasons)


def make_directory(path: Path) -> Directory:
    """Make 12 speakers with two recordings of noise each, and their alignments. Write no files."""
    stream = np.random.default_rng(0)
    keys = [f"s{speaker:02}/{part}" for speaker in range(12) for part in "ab"]
    recordings, alignments = {}, {}
    for key in keys:
        times = np.cumsum(stream.integers(20, 80, 6)) / 1000
        labels = ["", *stream.choice(["aa", "b", "ɕ", "tʰ"], 4), ""]
        bounds = [0.0, *times.tolist()]
        alignments[key] = [(a, b, str(x)) for (a, b), x in zip(pairwise(bounds), labels)]  # noqa: B905
        recordings[key] = stream.normal(0, 2000, round(times[-1] * RATE)).astype(np.int16)
    return Directory(path, recordings, alignments)


# Content of corpora


@dataclass
class Stored:
    """An utterance of a corpus."""

    speaker: str
    features: np.ndarray
    targets: np.ndarray


def read_utterances(path: Path) -> dict[str, Stored]:
    corpus = open_corpus(path)
    utterances = {}
    for split in (corpus.train, corpus.valid, corpus.test):
        begins = [0, *split.ends.tolist()]
        for name, speaker, frames in zip(
            split.names, split.speakers, map(slice, begins, begins[1:]), strict=True
        ):
            utterances[name] = Stored(speaker, split.features[frames], split.targets[frames])
    return utterances


def states_of(
    intervals: Iterable[tuple[int, int, str]], phones: Sequence[str], count: int, rate: int
) -> list[int]:
    """Compute the targets from intervals in samples, by a search for the centre of each frame."""
    targets = []
    for frame in range(count):
        centre = frame * (rate // 100) + rate * 25 // 1000 // 2
        ((a, b, label),) = ((a, b, x) for a, b, x in intervals if a <= centre < b)
        targets.append(3 * phones.index(label) + int(3 * (centre - a) / (b - a)))
    return targets
