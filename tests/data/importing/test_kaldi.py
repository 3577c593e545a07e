"""Import of Kaldi's files, which Kaldi's own code writes."""

from pathlib import Path

import h5py
import kaldi_native_io as kio
import numpy as np
import pytest
from support.kaldi import (
    PDFS,
    Directory,
    cut,
    make_directory,
    read_utterances,
    speaker_of,
    write_statistics,
)
from support.launch import gtcbmuf

from gtcbmuf.base.errors import UserError
from gtcbmuf.data import features
from gtcbmuf.data.corpus import SPLITS, open_corpus
from gtcbmuf.data.importing.kaldi import import_kaldi


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return make_directory(tmp_path)


def speakers_of(path: Path, split: str) -> set[str]:
    return {u.speaker for u in read_utterances(path).values() if u.split == split}


@pytest.mark.parametrize(
    ("kind", "text"),
    [("float", False), ("double", False), ("compressed", False), ("float", True)],
)
@pytest.mark.parametrize("normalise", ["speaker", "utterance", "none"])
def test_a_corpus_holds_the_features_and_targets(
    directory: Directory, kind: str, text: bool, normalise: str
) -> None:
    directory.write(kind, text=text).make(normalise=normalise)
    utterances = read_utterances(directory.out)
    assert set(utterances) == set(directory.features)
    matrices = {
        line.split()[0]: kio.FloatMatrix.read(line.split()[1]).numpy().copy()
        for line in directory.feats.read_text().splitlines()
    }
    for name, utterance in utterances.items():
        match normalise:
            case "none":
                expected = matrices[name]
            case "utterance":
                (expected,) = features.normalise([matrices[name]])
            case _:
                names = [other for other in matrices if speaker_of(other) == speaker_of(name)]
                normalised = features.normalise([matrices[other] for other in names])
                expected = normalised[names.index(name)]
        np.testing.assert_array_equal(utterance.features, expected.astype(np.float16))
        np.testing.assert_array_equal(utterance.targets, directory.targets[name])
        assert utterance.speaker == speaker_of(name)
        # Float, double and text are exact. Kaldi's compression is lossy.
        error = np.abs(matrices[name] - directory.features[name]).max()
        assert error < (0.1 if kind == "compressed" else 1e-5)


@pytest.mark.parametrize("scope", ["speaker", "utterance"])
def test_kaldis_statistics_normalise_as_ours(directory: Directory, scope: str) -> None:
    directory.write()
    names: dict[str, list[str]] = {}
    for utterance in directory.features:
        names.setdefault(speaker_of(utterance) if scope == "speaker" else utterance, []).append(
            utterance
        )
    directory.make(cmvn=write_statistics(directory, names))
    with_statistics = read_utterances(directory.out)
    attributes = open_corpus(directory.out).attributes
    assert attributes["normalisation"] == "statistics"
    assert attributes["cmvn"].endswith("cmvn.scp")
    directory.make(normalise=scope)
    for name, utterance in read_utterances(directory.out).items():
        np.testing.assert_allclose(
            with_statistics[name].features, utterance.features, rtol=2e-3, atol=2e-3
        )


def test_invalid_statistics(directory: Directory) -> None:
    directory.write()
    names = {speaker_of(utterance): [utterance] for utterance in directory.features}
    del names["s03"]
    table = write_statistics(directory, names)
    directory.fails("s03-0: no statistics of this utterance or of speaker s03 in", cmvn=table)
    assert "3 of 36 excluded" in directory.make(cmvn=table, most_bad=0.1)
    directory.out.unlink()
    Path(f"{directory.out}.log").unlink()
    table.write_text(table.read_text() + f"s03 {directory.path / 'none.ark'}:4\n")
    directory.fails("cmvn.scp: s03: .*no such file", cmvn=table)
    places = directory.feats.read_text().splitlines()
    table.write_text("".join(f"{speaker_of(p)} {p.split()[1]}\n" for p in places[::3]))
    directory.fails(r"cmvn.scp: s00: .*expected finite statistics of shape \(2, 6\)", cmvn=table)


def test_every_target_is_its_own_phone(directory: Directory) -> None:
    directory.write().make()
    with h5py.File(directory.out) as file:
        assert file["phones"].asstr()[:].tolist() == [str(target) for target in range(PDFS)]
        assert file["target_phone"][:].tolist() == list(range(PDFS))
        assert file.attrs["targets"] == b"pdf"
    assert open_corpus(directory.out).target_count == PDFS


def test_the_same_files_give_the_same_bytes(directory: Directory) -> None:
    directory.write().make()
    first = directory.out.read_bytes()
    directory.make()
    assert directory.out.read_bytes() == first


def test_speakers_are_drawn_by_share_of_the_frames(directory: Directory) -> None:
    directory.write().make(valid="0.25", test="0.1")
    speakers = [speakers_of(directory.out, split) for split in SPLITS]
    assert len(set.union(*speakers)) == sum(map(len, speakers)) == 12
    corpus = open_corpus(directory.out)
    lengths = [len(corpus.split(split)) for split in SPLITS]
    shares = np.array(lengths) / sum(lengths)
    np.testing.assert_allclose(shares, [0.65, 0.25, 0.1], atol=0.06)


def test_utterances_are_drawn_by_share_of_the_frames(directory: Directory) -> None:
    directory.write().make(split_by="utterance")
    corpus = open_corpus(directory.out)
    assert corpus.attributes["split_by"] == "utterance"
    assert set(corpus.valid.speakers) <= set(corpus.train.speakers)


def test_without_utt2spk_an_utterance_is_a_speaker(directory: Directory) -> None:
    directory.write().make(utt2spk=None)
    assert all(name == u.speaker for name, u in read_utterances(directory.out).items())
    with h5py.File(directory.out) as file:
        assert file.attrs["speakers"] == b"one per utterance"


def test_splits_by_lists(directory: Directory) -> None:
    directory.write()
    speakers, utterances = directory.path / "speakers", directory.path / "utterances"
    speakers.write_text("s03\ns04 s04-0 s04-1\n")
    utterances.write_text("s07-0\ns07-1\ns07-2\n")
    directory.make(valid=str(speakers), test=str(utterances))
    assert speakers_of(directory.out, "valid") == {"s03", "s04"}
    assert speakers_of(directory.out, "test") == {"s07"}
    directory.make(valid="0.1", test=str(utterances))
    assert speakers_of(directory.out, "test") == {"s07"}


def test_a_listed_speaker_without_usable_utterances_is_excluded(directory: Directory) -> None:
    for number in range(3):
        del directory.targets[f"s04-{number}"]
    speakers = directory.write().path / "speakers"
    speakers.write_text("s03\ns04\n")
    directory.make(valid="0.1", test=str(speakers), most_bad=0.2)
    assert speakers_of(directory.out, "test") == {"s03"}


@pytest.mark.parametrize(
    ("valid", "test", "match"),
    [
        ("s07-0\ns07-2\n", "s01\n", "speaker s07: .*not s07-1"),
        ("s07\n", "s07-0\ns07-1\ns07-2\n", "speaker s07 is in both lists"),
        ("s07-9\n", "s01\n", "unknown names s07-9; expected names"),
        ("\n", "s01\n", "lists no usable utterance; expected at least one"),
        (b"\xff\xfe\n", "s01\n", "cannot be read as UTF-8 text"),
    ],
)
def test_invalid_lists(directory: Directory, valid: str | bytes, test: str, match: str) -> None:
    directory.write()
    lists = directory.path / "valid", directory.path / "test"
    for path, text in zip(lists, (valid, test), strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    directory.fails(match, valid=str(lists[0]), test=str(lists[1]))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"valid": "0.6", "test": "0.4"}, "leave no speaker for train: of 12 speakers, 12 are"),
        ({"valid": "1.5"}, "--valid 1.5: expected a share"),
        ({"valid": "nan"}, "--valid nan: expected a share"),
        ({"test": "nowhere"}, "nowhere: cannot be read"),
        ({"normalise": "all"}, "--normalise all: expected speaker, utterance, none"),
        ({"most_bad": 2.0}, "--most-bad 2: expected a share"),
        ({"utt2spk": Path("nowhere")}, "nowhere: cannot be read"),
    ],
)
def test_invalid_options(directory: Directory, options: dict[str, object], match: str) -> None:
    directory.write().fails(match, **options)


def test_an_unwritable_corpus(directory: Directory) -> None:
    directory.write()
    directory.out.parent.touch()  # a file in place of the folder
    with pytest.raises(UserError, match=r"corpus\.h5: cannot be written: ") as error_info:
        directory.make()
    assert "\n" not in str(error_info.value)


@pytest.mark.parametrize(
    "name", ["feats.scp", "feats.ark", "ali.1.gz", "ali.2", "utt2spk", "valid"]
)
def test_no_input_is_replaced(directory: Directory, name: str) -> None:
    directory.write()
    (directory.path / "valid").write_text("s00\n")
    before = (directory.path / name).read_bytes()
    options = {"utt2spk": directory.utt2spk, "valid": str(directory.path / "valid")}
    with pytest.raises(UserError, match=f"--out .*{name}: this file is read; expected another"):
        import_kaldi(
            directory.feats,
            [f"{directory.path}/ali.*"],
            directory.path / name,
            **options,  # type: ignore[arg-type]
        )
    assert (directory.path / name).read_bytes() == before


def add_faults(directory: Directory) -> dict[str, str]:
    """Give each of some utterances another fault. Return the reasons that the log must state."""
    directory.features["s00-1"][[3, 5], 2] = np.nan
    frames = len(directory.features["s00-1"])
    directory.features["s01-1"][0, 0] = np.inf
    directory.features["s02-1"] = np.zeros((0, 0), np.float32)
    directory.features["s03-1"] = directory.features["s03-1"][:-1]
    directory.features["s04-1"] = directory.features["s04-1"][:, :3]
    del directory.features["s05-1"]
    del directory.targets["s06-1"]
    directory.targets["s07-1"] = directory.targets["s07-1"][:0]
    return {
        "s00-1": f"NaN or infinite features in 2 of {frames} frames, from frame 3",
        "s01-1": "NaN or infinite features in 1 of",
        "s02-1": "empty matrix",
        "s03-1": "targets",
        "s04-1": "3 features per frame, not 5",
        "s06-1": "no alignment",
        "s07-1": "0 targets",
        "s08-1": "no speaker",
    }


def test_unusable_utterances_are_excluded_and_named(directory: Directory) -> None:
    reasons = add_faults(directory)
    directory.write()
    lines = directory.utt2spk.read_text().splitlines(keepends=True)
    directory.utt2spk.write_text("".join(line for line in lines if not line.startswith("s08-1")))
    directory.fails(r"more than 5 % \(--most-bad\) of 35 utterances .*s06-1: no alignment; s08-1")
    summary = directory.make(most_bad=0.25)
    assert f"8 of 35 excluded, see {directory.out}.log" in summary
    head, *log = Path(f"{directory.out}.log").read_text().splitlines()
    assert head == "8 of 35 utterances excluded"
    reasons_in_log = dict(line.split(": ", 1) for line in log)
    assert set(reasons_in_log) == set(reasons)
    assert all(reason in reasons_in_log[name] for name, reason in reasons.items())
    assert set(read_utterances(directory.out)) == set(directory.features) - set(reasons)


def test_features_beyond_float16(directory: Directory) -> None:
    directory.features["s00-0"][0, 0] = 1e5
    directory.write().make()
    assert "s00-0" in read_utterances(directory.out)
    directory.make(normalise="none")
    assert "s00-0" not in read_utterances(directory.out)


def test_a_split_without_usable_utterances(directory: Directory) -> None:
    for number in range(3):
        directory.features[f"s07-{number}"][0] = np.nan
    (directory.path / "list").write_text("s07\n")
    directory.write().fails(
        "corpus.h5: no usable utterance in test .*s07-0: NaN",
        test=str(directory.path / "list"),
        most_bad=0.5,
    )


def test_the_number_of_pdfs_covers_the_alignments(directory: Directory) -> None:
    assert directory.write().make().endswith(f"\n{PDFS} targets")
    assert directory.make(pdfs=PDFS + 3).endswith(f"\n{PDFS + 3} targets")
    assert open_corpus(directory.out).target_count == PDFS + 3
    directory.out.unlink()
    directory.out.with_name("corpus.h5.log").unlink()
    directory.fails(
        f"--pdfs {PDFS - 1}: expected {PDFS} to 65536, because pdf-id {PDFS - 1} occurs",
        pdfs=PDFS - 1,
    )
    directory.fails("--pdfs 65537: expected 20 to 65536", pdfs=65537)


def test_the_summary_states_the_speakers(directory: Directory) -> None:
    examples = "s00-0 -> s00, s01-0 -> s01, s02-0 -> s02"
    assert f"\n12 speakers, by {directory.utt2spk}: {examples}\n" in directory.write().make()
    summary = directory.make(utt2spk=None)
    assert "\n36 speakers, by utterance, because there is no --utt2spk: s00-0 -> s00-0, " in summary
    assert open_corpus(directory.out).normalisation == "utterance"
    default = read_utterances(directory.out)
    directory.make(utt2spk=None, normalise="utterance")
    assert all(
        (utterance.features == read_utterances(directory.out)[name].features).all()
        for name, utterance in default.items()
    )


def test_a_missing_extra_is_refused(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.write()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    directory.fails(r"pip install 'gtcbmuf\[kaldi\]'")


def test_command_line(directory: Directory) -> None:
    directory.write("compressed")
    words = ("corpus", "import-kaldi", "--feats", directory.feats, "--out", directory.out)
    process = gtcbmuf(*words, "--ali", f"{directory.path}/ali.*", "--utt2spk", directory.utt2spk)
    assert (process.returncode, process.stderr) == (0, "")
    assert "27 utterances in train, 3 utterances in valid, 6 utterances in test" in process.stdout
    assert "0 of 36 excluded" in process.stdout
    cut(directory.path / "feats.ark", 0.5)
    for ali, match in (("nowhere.*", "nowhere.*: no such files"), ("ali.*", "feats.scp: s")):
        process = gtcbmuf(*words, "--ali", f"{directory.path}/{ali}")
        assert process.returncode == 2
        assert process.stderr.startswith("gtcbmuf: ")
        assert match in process.stderr
        assert process.stderr.count("\n") == 1
