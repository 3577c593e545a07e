"""Speakers of recordings: folders, prefixes, patterns and tables."""

import unicodedata
from pathlib import Path

import pytest
from support.audio import Directory, make_directory, read_utterances
from support.launch import gtcbmuf

from gtcbmuf.data.corpus import open_corpus


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return make_directory(tmp_path)


def rename(directory: Directory, names: dict[str, str]) -> Directory:
    """Give recordings and alignments other paths, and write them."""
    for mapping in (directory.recordings, directory.alignments):
        for key in list(mapping):
            mapping[names[key]] = mapping.pop(key)
    return directory.write()


@pytest.fixture
def librispeech(directory: Directory) -> Directory:
    """Folders as in LibriSpeech: SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE."""
    names = {}
    for number, key in enumerate(directory.recordings):
        speaker, chapter = 100 + number // 2, 1000 + number
        names[key] = f"{speaker}/{chapter}/{speaker}-{chapter}-0000"
    return rename(directory, names)


def speakers_in(directory: Directory) -> dict[str, str]:
    return {name: x.speaker for name, x in read_utterances(directory.out).items()}


def table(directory: Directory, *, full: bool) -> Path:
    """Write the speakers of LibriSpeech, under full names or names of files."""
    path = directory.path / "utt2spk"
    names = {key: key.replace("/", "-") if full else Path(key).name for key in directory.recordings}
    path.write_text("".join(f"{name} {key[:3]}\n" for key, name in names.items()))
    return path


def test_nested_folders_belong_to_one_speaker(librispeech: Directory) -> None:
    summary = librispeech.make()
    examples = ", ".join(f"{x}-{y}-{x}-{y}-0000 -> {x}" for x, y in ((100, 1000), (101, 1002)))
    rule = f"the first folder below {librispeech.audio} (--speakers folder:2 takes the second)"
    assert f"\n12 speakers, by {rule}: {examples}, 102-" in summary
    speakers = speakers_in(librispeech)
    assert all(speaker == name[:3] for name, speaker in speakers.items())
    corpus = open_corpus(librispeech.out)
    split_speakers = [set(split.speakers) for split in (corpus.train, corpus.valid, corpus.test)]
    assert sum(map(len, split_speakers)) == len(set().union(*split_speakers)) == 12


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("folder:1", "folder 1 below {audio}"),
        ("prefix:3", "the first 3 characters of the file name"),
        (r"pattern:/(\d+)-\d+-\d+$", r"the pattern /(\d+)-\d+-\d+$ in the path"),
        ("full", "{path}/utt2spk"),
        ("short", "{path}/utt2spk"),
    ],
)
def test_all_rules_find_the_speakers(librispeech: Directory, rule: str, words: str) -> None:
    librispeech.make()
    expected = read_utterances(librispeech.out)
    if rule in ("full", "short"):
        rule = str(table(librispeech, full=rule == "full"))
    words = words.format(audio=librispeech.audio, path=librispeech.path)
    assert f"\n12 speakers, by {words}: 100-1000-" in librispeech.make(speakers=rule)
    assert open_corpus(librispeech.out).attributes["speakers"] == rule
    utterances = read_utterances(librispeech.out)
    assert utterances.keys() == expected.keys()
    for name, utterance in utterances.items():
        assert utterance.speaker == expected[name].speaker
        assert (utterance.features == expected[name].features).all()


def test_the_folder_of_a_speaker_may_be_deeper(librispeech: Directory) -> None:
    """As in TIMIT: DIALECT/SPEAKER/UTTERANCE."""
    assert "\n24 speakers, by folder 2 below " in librispeech.make(speakers="folder:2")
    assert speakers_in(librispeech)["100-1000-100-1000-0000"] == "1000"


def test_a_recording_outside_of_folders_is_its_own_speaker(directory: Directory) -> None:
    names = {key: key for key in directory.recordings}
    rename(directory, names | {"s00/a": "x/y/c", "s00/b": "alone.1"})
    directory.file("s01/a").rename(directory.file("s01/a", ".WAV"))
    directory.file("s01/._a").write_bytes(b"\0\5\x16\7")  # a hidden file of macOS
    summary = directory.make()
    assert "0 of 24 excluded" in summary
    assert ", or by recording outside of folders: alone.1 -> alone.1, s01-a -> s01, " in summary
    speakers = speakers_in(directory)
    assert speakers["x-y-c"] == "x"
    assert speakers["alone.1"] == "alone.1"
    assert speakers["s01-a"] == "s01"


def test_recordings_without_folders(directory: Directory) -> None:
    rename(directory, {key: key.replace("/", "_") for key in directory.recordings})
    assert "\n24 speakers, by recording, because they are in no folders: s00_a ->" in (
        directory.make()
    )
    assert "\n12 speakers, by " in directory.make(speakers="pattern:(.+)_")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("folder:2", "no speaker: s00/a.wav: in 1 folders; expected 2 or more"),
        ("prefix:3", "no speaker: s00/a.wav: expected a file name of 3 or more characters"),
        ("pattern:/(.*)a", "no speaker: s00/a.wav: expected a match of the pattern /(.*)a"),
    ],
)
def test_a_recording_without_a_speaker_is_excluded(
    directory: Directory, rule: str, reason: str
) -> None:
    names = {key: f"{key[:3]}/{key[:3]}/{key[:3]}{key[-1]}a" for key in directory.recordings}
    rename(directory, names | {"s00/a": "s00/a"})
    directory.excludes({"s00-a": reason}, speakers=rule)


def test_an_utterance_without_an_entry_is_excluded(librispeech: Directory) -> None:
    path = table(librispeech, full=False)
    first, *lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines) + "another 7\n")
    librispeech.excludes({"100-1000-100-1000-0000": f"no speaker in {path}"}, speakers=str(path))
    librispeech.out.unlink()
    librispeech.log.unlink()
    path.write_text("another 7\n")
    librispeech.fails(
        f"more than 5 % .*no speaker in {path}.*; expected lines such as "
        "100-1000-100-1000-0000 SPEAKER, or 100-1000-0000 SPEAKER$",
        speakers=str(path),
    )
    path.write_text("".join([first, *lines]) + "100-1000-100-1000-0000 7\n")
    librispeech.fails(
        "utt2spk: 100-1000-100-1000-0000: second speaker of .*; expected one", speakers=str(path)
    )


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("folders", "--speakers folders: no such rule or file; expected folder, folder:N, prefix"),
        ("nowhere/utt2spk", "--speakers nowhere/utt2spk: no such rule or file; expected folder, "),
        ("folder:0", "--speakers folder:0: expected folder:N with a number N from 1 to 99999"),
        ("folder:", "--speakers folder:: expected folder:N with a number N from 1"),
        ("prefix:two", "--speakers prefix:two: expected prefix:N with a number N from 1"),
        ("pattern:(a", r"--speakers pattern:\(a: expected a regular expression: missing \), "),
        ("pattern:a", "--speakers pattern:a: 0 groups; expected one, such as "),
        ("pattern:(a)(b)", r"--speakers pattern:\(a\)\(b\): 2 groups; expected one, such as "),
    ],
)
def test_invalid_rules(directory: Directory, rule: str, message: str) -> None:
    directory.write().fails(message, speakers=rule)


def test_the_command_line(librispeech: Directory) -> None:
    command = ("corpus", "import-audio", librispeech.audio, "--out", librispeech.out)
    process = gtcbmuf(*command, "--speakers", "prefix:2")
    assert process.returncode == 2
    assert "leave no speaker for train: of 2 speakers, 2 are in no list" in process.stderr
    assert "with --speakers 'pattern:(.+)', each utterance is its own speaker" in process.stderr
    process = gtcbmuf(*command, "--speakers", "prefix:3")
    assert "\n12 speakers, by the first 3 characters of the file name: 100-" in process.stdout


# Unicode


def decompose(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.fixture
def accented(directory: Directory) -> Directory:
    """Speakers with an accent, in the composed form."""
    return rename(directory, {key: f"é{key[:3]}/ü{key[-1]}" for key in directory.recordings})


def test_names_of_tables_match_in_any_unicode_form(accented: Directory) -> None:
    lists = {split: accented.path / split for split in ("valid", "test")}
    lists["valid"].write_text("és03\n")
    lists["test"].write_text("és07-üa\nés07-üb\n")
    speakers = accented.path / "utt2spk"
    speakers.write_text("".join(f"{k.replace('/', '-')} {k[:4]}\n" for k in accented.recordings))
    options = {"speakers": str(speakers), **{split: str(path) for split, path in lists.items()}}
    expected = accented.bytes(**options)
    for path in (*lists.values(), speakers):
        path.write_text(decompose(path.read_text()))
    accented.make(**options)
    assert {decompose(x) for x in speakers_in(accented)} == {
        decompose(k.replace("/", "-")) for k in accented.recordings
    }
    speakers.write_text(unicodedata.normalize("NFC", speakers.read_text()))
    assert accented.bytes(**options) == expected


def test_textgrids_match_in_any_unicode_form(accented: Directory) -> None:
    expected = accented.bytes()
    for key in accented.alignments:
        path = accented.audio / decompose(f"{key}.TextGrid")
        path.parent.mkdir(exist_ok=True)
        accented.file(key, ".TextGrid").rename(path)
    assert accented.bytes() == expected


def test_two_unicode_forms_of_a_folder_are_one_speaker(accented: Directory) -> None:
    folder = accented.audio / decompose("és00")
    folder.mkdir()
    accented.file("és00/üa").rename(folder / "üa.wav")
    assert "\n12 speakers, by " in accented.make()
    assert accented.log.read_text().startswith("0 of 24 ")


def test_names_with_blanks(directory: Directory) -> None:
    spaced = {key: key.replace("s0", "Speaker 0") for key in directory.recordings}
    spaced["s00/a"] = "Speaker/a"  # the first word of all others
    rename(directory, spaced)
    listed = directory.path / "valid"
    listed.write_text("Speaker 01\n Speaker 02\t\n")
    directory.make(valid=str(listed))
    assert set(open_corpus(directory.out).valid.speakers) == {"Speaker 01", "Speaker 02"}
    names = [key.replace("/", "-") for key in directory.recordings]
    of_table = directory.path / "table"
    of_table.write_text("".join(f"{name}  {name[-3:]} {name[-1]}\n" for name in names))
    directory.make(speakers=str(of_table))
    assert speakers_in(directory) == {name: f"{name[-3:]} {name[-1]}" for name in names}
