"""Alignments of words made of tones, whose times are known."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.audio import RATE, sf
from support.launch import gtcbmuf

from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.data.importing.textgrid import read_tiers

#: Frequencies of the tones of each phone, in Hz.
TONES = {"A": (300, 700), "B": (1200, 1800), "C": (2600, 3300), "D": (4500, 6000)}
LEXICON = {"ab": ["A", "B"], "cad": ["C", "A", "D"], "dab": ["D", "A", "B"], "bcd": ["B", "C", "D"]}


@dataclass
class Speech:
    """Recordings below `wav` with a text beside each, and a lexicon.

    Attributes:
        path: folder of everything.
        truth: begin of each phone in seconds, and the end of the last, of each recording.
    """

    path: Path
    truth: dict[str, list[float]]

    def align(self, *words: object, ranks: int = 0) -> str:
        """Run the command, and return what it printed."""
        done = self.run(*words, ranks=ranks)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *words: object, ranks: int = 0):  # type: ignore[no-untyped-def]
        lexicon = ("--lexicon", self.path / "lexicon.txt")
        wav = self.path / "wav"
        return gtcbmuf("corpus", "align", wav, *lexicon, *words, ranks=ranks)

    def errors(self, folder: Path) -> np.ndarray:
        """Return the errors of all boundaries of words with silence around, in seconds."""
        errors = []
        for key, times in self.truth.items():
            words, phones = read_tiers(folder / f"{key}.TextGrid")
            assert (words.name, phones.name) == ("words", "phones")
            assert all(before[1] == after[0] for before, after in pairwise(phones.times))
            spoken = [
                t for t, label in zip(phones.times, phones.labels, strict=True) if label != "sil"
            ]
            found = [begin for begin, _ in spoken] + [spoken[-1][1]]
            assert len(found) == len(times)
            errors += np.abs(np.subtract(found, times)).tolist()
        return np.array(errors)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def speak(stream: np.random.Generator) -> tuple[np.ndarray, str, list[float]]:
    """Speak three words without a pause, between silences."""
    words = stream.choice(list(LEXICON), 3).tolist()
    seconds = [0.2, *(stream.uniform(0.08, 0.16) for word in words for _ in LEXICON[word]), 0.2]
    phones = ["", *(phone for word in words for phone in LEXICON[word]), ""]
    parts = []
    for phone, duration in zip(phones, seconds, strict=True):
        times = np.arange(round(duration * RATE)) / RATE
        tones = [np.sin(2 * np.pi * f * times) for f in TONES.get(phone, ())]
        parts.append(6000 * np.sum(tones, axis=0) if tones else np.zeros(len(times)))
    samples = np.concatenate(parts) + stream.normal(0, 30, sum(map(len, parts)))
    bounds = np.cumsum([len(part) for part in parts])[:-1] / RATE
    return samples.astype(np.int16), " ".join(words), bounds.tolist()


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Speech:
    path, stream = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    truth = {}
    for speaker in range(4):
        folder = path / "wav" / f"s{speaker}"
        folder.mkdir(parents=True)
        for number in range(9):
            samples, text, bounds = speak(stream)
            sf.write(folder / f"{number:02}.wav", samples, RATE)
            (folder / f"{number:02}.txt").write_text(f"{text.capitalize()}!\n")
            truth[f"s{speaker}/{number:02}"] = bounds
    lines = (f"{word.upper()} {' '.join(phones)}\n" for word, phones in LEXICON.items())
    (path / "lexicon.txt").write_text("".join(lines) + "AB(2) A D B\n")
    return Speech(path, truth)


@pytest.fixture(scope="module")
def aligned(speech: Speech) -> tuple[Path, str]:
    """The TextGrids, and what the command printed."""
    folder = speech.path / "grids"
    return folder, speech.align("--to", folder)


def test_boundaries_are_found_from_a_flat_start(speech: Speech, aligned: tuple[Path, str]) -> None:
    folder, text = aligned
    assert f"{folder}: 36 utterances" in text
    assert "0 of 36 left out" in text
    errors = speech.errors(folder)
    assert np.median(errors) < 0.01
    assert np.quantile(errors, 0.9) < 0.03
    assert names_in(speech.path / "grids.align") == ["arguments.json", "model.h5"]


def test_words_have_their_names_and_times(speech: Speech, aligned: tuple[Path, str]) -> None:
    words, phones = read_tiers(aligned[0] / "s0/00.TextGrid")
    text = (speech.path / "wav/s0/00.txt").read_text().lower().rstrip("!\n").split()
    assert [label for label in words.labels if label] == text
    assert words.times[-1][-1] == phones.times[-1][-1]
    ends = {time for times in phones.times for time in times}
    assert {time for times in words.times for time in times} <= ends


def test_ranks_align_and_import_in_one_command(speech: Speech) -> None:
    ctm, corpus = speech.path / "ranks.ctm", speech.path / "corpus.h5"
    printed = speech.align("--to", ctm, "--out", corpus, "--valid", "0.25", ranks=2)
    assert len({line.split()[0] for line in ctm.read_text().splitlines()}) == 36
    assert f"{ctm}: 36 utterances" in printed
    done = gtcbmuf(
        *("corpus", "import-audio", speech.path / "wav", "--alignments", ctm, "--valid", "0.25"),
        *("--out", speech.path / "imported.h5"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace("imported.h5", "corpus.h5") in printed
    assert open_corpus(corpus).digest == open_corpus(speech.path / "imported.h5").digest
    assert open_corpus(corpus).phones == ("sil", *TONES)


def test_a_model_aligns_once(speech: Speech, aligned: tuple[Path, str]) -> None:
    folder, model = speech.path / "again", speech.path / "grids.align/model.h5"
    text = speech.align("--to", folder, "--model", model)
    assert "round" not in text
    assert re.search(r"round 1: [\d.]+ % of .* a frame, \d.*; at most \d.* more\n", aligned[1])
    assert " more" not in aligned[1].split("round ")[-1]
    for key in speech.truth:  # the model is that of the last round
        grids = [path / f"{key}.TextGrid" for path in (folder, aligned[0])]
        assert grids[0].read_bytes() == grids[1].read_bytes()
    assert sorted(path.name for path in speech.path.glob("again*")) == ["again", "again.log"]
    rate = speech.run("--to", folder, "--model", model, "--sample-rate", 8000)
    assert rate.returncode == 2
    assert "sample rate in Hz of 16000, but" in rate.stderr


@pytest.fixture
def changed(speech: Speech, tmp_path: Path) -> Speech:
    """A copy of the speech, for tests that change its texts."""
    shutil.copytree(speech.path / "wav", tmp_path / "wav")
    shutil.copy(speech.path / "lexicon.txt", tmp_path)
    return Speech(tmp_path, speech.truth)


def test_bad_texts_are_left_out_with_their_reasons(changed: Speech) -> None:
    wav = changed.path / "wav"
    (wav / "s0/00.txt").write_text("ab xylophone zebra\n")
    (wav / "s0/01.txt").write_text("zebra\n")
    (wav / "s0/02.txt").unlink()
    (wav / "s0/03.txt").write_text("dab " * 40)
    (wav / "s0/04.txt").write_text("bcd bcd bcd\n")
    (wav / "s0/05.wav").write_bytes(b"no audio")
    refused = changed.run("--to", changed.path / "grids")
    assert refused.returncode == 2
    assert "more than 5 % (--most-bad) of 36 utterances are unusable" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not list(changed.path.glob("grids*"))
    text = changed.align("--to", changed.path / "grids", "--most-bad", "0.2")
    assert "2 unknown words: zebra (2), xylophone (1)" in text
    log = (changed.path / "grids.log").read_text()
    for name, reason in {
        "s0-00": "unknown words: xylophone, zebra",
        "s0-01": "unknown words: zebra",
        "s0-02": "no text",
        "s0-03": "frames for a text of 360 states or more",
        "s0-05": "expected an intact audio file",
    }.items():
        assert any(line.startswith(name) and reason in line for line in log.splitlines()), log
    assert not (changed.path / "grids/s0/05.TextGrid").exists()
    # A later alignment removes what an earlier one wrote of a recording that it leaves out.
    assert (changed.path / "grids/s0/07.TextGrid").exists()
    (wav / "s0/07.txt").write_text("zebra\n")
    model = ("--model", changed.path / "grids.align/model.h5")
    refused = changed.run("--to", changed.path / "grids", *model)
    assert refused.returncode == 2
    assert not (changed.path / "grids.part").exists()
    changed.align("--to", changed.path / "grids", *model, "--most-bad", "0.2")
    assert not (changed.path / "grids/s0/07.TextGrid").exists()
    assert (changed.path / "grids/s0/06.TextGrid").exists()


def test_an_interrupted_alignment_ends_with_the_same_bytes(speech: Speech, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole.ctm", tmp_path / "parted.ctm"
    speech.align("--to", whole)
    interrupt(speech, parted, "module._finish = lambda *arguments: os._exit(3)")
    other = speech.run("--to", parted, "--resume", "--speakers", "prefix:1")
    assert other.returncode == 2
    assert "parted.ctm.align was begun with another speakers; use the same" in other.stderr
    lenient = ("--to", parted, "--resume", "--most-bad", "0.3")
    assert "after round 2" in speech.align(*lenient)
    assert parted.read_bytes() == whole.read_bytes()
    model = (tmp_path / "parted.ctm.align/model.h5").read_bytes()
    again = speech.align(*lenient, "--out", tmp_path / "corpus.h5")
    assert again.startswith(f"{parted}: this alignment is already finished; align other")
    assert open_corpus(tmp_path / "corpus.h5").phones == ("sil", *TONES)
    assert (tmp_path / "parted.ctm.align/model.h5").read_bytes() == model
    other = speech.run("--to", parted, "--resume", "--speakers", "prefix:1")
    assert other.returncode == 2
    assert "parted.ctm.align was begun with another speakers; use the same" in other.stderr


def interrupt(speech: Speech, to: Path, change: str) -> None:
    """Start an alignment of two rounds, with a change that makes it exit with status 3."""
    script = (
        "import os, sys; from pathlib import Path; from mpi4py import MPI\n"
        "from gtcbmuf.alignment import align as module\n"
        f"module.MOST_ROUNDS = 2\n{change}\n"
        "module.align(MPI.COMM_WORLD, Path(sys.argv[1]), Path(sys.argv[2]), lexicon=sys.argv[3])\n"
    )
    words = [speech.path / "wav", to, speech.path / "lexicon.txt"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, check=False)
    assert done.returncode == 3, done.stderr


def test_an_alignment_killed_while_it_tidies_up_is_finished(changed: Speech) -> None:
    to = changed.path / "grids"
    # The corpus goes, and then a kill comes.
    change = (
        "unlink = Path.unlink\n"
        "def unlink_and_exit(path, **options):\n"
        "    unlink(path, **options)\n"
        "    if path.name == 'corpus-2.h5': os._exit(3)\n"
        "Path.unlink = unlink_and_exit"
    )
    interrupt(changed, to, change)
    assert "this alignment is already finished" in changed.align("--to", to, "--resume")
    assert names_in(changed.path / "grids.align") == ["arguments.json", "model.h5"]


def test_a_recording_that_goes_is_named_and_the_alignment_can_be_resumed(changed: Speech) -> None:
    to, wav = changed.path / "grids", changed.path / "wav/s0"
    interrupt(changed, to, "module._finish = lambda *arguments: os._exit(3)")
    (wav / "00.wav").rename(wav / "other.wav")
    done = changed.run("--to", to, "--resume")
    assert done.returncode == 2
    assert f"gtcbmuf: {changed.path}/wav: no recording s0-00, which was there" in done.stderr
    (wav / "other.wav").rename(wav / "00.wav")
    assert "36 utterances" in changed.align("--to", to, "--resume")


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("file", "--to {}: expected a folder, or a file whose name ends with .ctm"),
        ("folder.ctm", "--to {}: a folder; expected a file"),
        ("file/phones.ctm", "--to {}: cannot be written: {path}/file is not a folder"),
        ("lexicon.ctm", "--to {}: this file is read; expected another one"),
        ("mine", "--to {}: an alignment would replace {path}/mine.align/diary; expected another"),
        (".", "--to .: expected a folder, or a file whose name ends with .ctm"),
    ],
)
def test_a_place_that_cannot_take_the_alignment_is_refused_first(
    changed: Speech, to: str, message: str
) -> None:
    path = changed.path
    (path / "file").touch()
    (path / "folder.ctm").mkdir()
    (path / "lexicon.txt").rename(path / "lexicon.ctm")
    (path / "mine.align").mkdir()
    (path / "mine.align/diary").touch()
    before = sorted(path.rglob("*"))
    place = Path(to) if to == "." else path / to
    words = ("--lexicon", path / "lexicon.ctm", "--to", place)
    done = gtcbmuf("corpus", "align", path / "wav", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"gtcbmuf: {message.format(place, path=path)}")
    assert done.stderr.count("\n") == 1
    assert sorted(path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--texts", "nowhere"), "--texts nowhere: no such file or directory"),
        (("--set", "train.epoch=2"), "--set: unknown key train.epoch; did you mean train.epochs?"),
        (("--lexicon", "nowhere"), "nowhere: cannot be read as UTF-8 text: "),
        (("--model", "nowhere.h5"), "nowhere.h5: cannot be read as a model"),
        (("--sample-rate", "4000"), "--sample-rate 4000: expected 8000 Hz or more"),
        (("--out", "c.h5", "--valid", "2"), "--valid 2: expected a share above 0 and below 1"),
        (("--out", "c.h5", "--speakers", "prefix:0"), "--speakers prefix:0: expected prefix:N"),
        (("--out", "c.h5", "--normalise", "all"), "--normalise all: expected"),
    ],
)
def test_invalid_arguments(
    speech: Speech, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = speech.run("--to", tmp_path / "grids", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"gtcbmuf: {message}")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "out", ["lexicon.txt", "model.h5", "wav/s0/00.wav", "to.ctm", "to.ctm.log"]
)
def test_a_corpus_replaces_nothing_that_is_read(changed: Speech, out: str) -> None:
    (changed.path / "model.h5").touch()
    before = {path: path.read_bytes() for path in changed.path.rglob("*") if path.is_file()}
    model = ("--model", changed.path / "model.h5") if out == "model.h5" else ()
    done = changed.run("--to", changed.path / "to.ctm", "--out", changed.path / out, *model)
    assert done.returncode == 2
    fault = "the alignment is written there" if out.startswith("to") else "this file is read"
    assert done.stderr.startswith(f"gtcbmuf: --out {changed.path / out}: {fault}")
    assert before == {path: path.read_bytes() for path in changed.path.rglob("*") if path.is_file()}


def test_grids_of_the_user_beside_the_recordings_stay(changed: Speech) -> None:
    grid = changed.path / "wav/s0/00.TextGrid"
    grid.write_text("made by hand")
    done = changed.run("--to", changed.path / "wav")
    assert done.returncode == 2
    assert f"has TextGrids, such as {grid}, which would be replaced" in done.stderr
    assert grid.read_text() == "made by hand"
    grid.unlink()
    for _ in range(2):  # those of an alignment are replaced
        assert "36 utterances" in changed.align("--to", changed.path / "wav")
    assert grid.exists()


def test_a_ctm_has_no_names_with_blanks(changed: Speech) -> None:
    (changed.path / "wav/s0").rename(changed.path / "wav/s 0")
    done = changed.run("--to", changed.path / "phones.ctm")
    assert done.returncode == 2
    assert "a CTM cannot hold the blanks in 's 0-00'; expected a folder" in done.stderr
    assert not list(changed.path.glob("phones*"))
