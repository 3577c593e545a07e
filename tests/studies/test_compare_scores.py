"""`gtcbmuf compare`: models that were scored on the same utterances."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.launch import gtcbmuf

UTTERANCES, SPEAKERS = 120, 12
#: MPI is not needed.
WITHOUT_MPI = {"MPI4PY_LIBMPI": "/nonexistent"}


def scored(seed: int, *, share: float, speakers: int = SPEAKERS) -> list[dict[str, Any]]:
    """Utterances with random errors. Their lengths do not depend on the seed."""
    lengths = np.random.default_rng(0).integers(5, 60, UTTERANCES)
    stream = np.random.default_rng(seed)
    rows = []
    for number, phones in enumerate(map(int, lengths)):
        wrong = stream.binomial(phones, share / 3, 3)
        rows.append(
            {
                "name": f"u{number}",
                "speaker": f"s{number % speakers}",
                "fer": 0.0,
                "frames": 9 * phones,
                "frame_errors": int(stream.binomial(9 * phones, share)),
                "phones": phones,
                **dict(
                    zip(("insertions", "deletions", "substitutions"), map(int, wrong), strict=True)
                ),
            }
        )
    return rows


def write(path: Path, rows: Sequence[dict[str, Any]], **facts: str) -> Path:
    content = {"model": "m.h5", "corpus": "c.h5", "split": "test", "utterances": rows, **facts}
    path.write_text(json.dumps(content))
    return path


def compare(new: Sequence[Path], baseline: Sequence[Path]) -> str:
    done = gtcbmuf("compare", *new, "--baseline", *baseline, env=WITHOUT_MPI)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def table(text: str) -> dict[str, list[float]]:
    """Numbers of each row: baseline, new, difference, and the ends of both intervals."""
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    return {
        row[0].strip(): [float(n) for n in re.findall(r"[+-]?\d+\.\d+", "|".join(row[1:]))]
        for row in rows[2:]
    }


def test_the_difference_is_that_of_another_paired_bootstrap(tmp_path: Path) -> None:
    sides = {
        "new": [scored(seed, share=0.30) for seed in (1, 2, 3)],
        "baseline": [scored(seed, share=0.33) for seed in (4, 5)],
    }
    files = {
        side: [write(tmp_path / f"{side}{n}.json", rows) for n, rows in enumerate(models)]
        for side, models in sides.items()
    }
    text = compare(files["new"], files["baseline"])
    assert "test of c.h5: 120 utterances of 12 speakers\n" in text
    assert "3 models against a baseline of 2 models\n" in text
    rows = table(text)
    for rate, units, errors in (
        ("FER %", "frames", ("frame_errors",)),
        ("PER %", "phones", ("insertions", "deletions", "substitutions")),
    ):
        count = np.array([row[units] for row in sides["new"][0]])
        wrong = {
            side: np.mean([[sum(r[k] for k in errors) for r in rows] for rows in models], axis=0)
            for side, models in sides.items()
        }
        expected = [100 * wrong[side].sum() / count.sum() for side in ("baseline", "new")]
        more = wrong["new"] - wrong["baseline"]
        found = rows[rate]
        assert found[:2] == pytest.approx(expected, abs=0.005)
        assert found[2] == pytest.approx(expected[1] - expected[0], abs=0.005)
        speaker_of = np.arange(UTTERANCES) % SPEAKERS
        by_speaker = [np.bincount(speaker_of, values) for values in (more, count)]
        for ends, (errors_of, units_of) in (
            (found[3:5], (more, count)),
            (found[5:7], by_speaker),
        ):
            number = len(errors_of)
            times = np.random.default_rng(1).multinomial(number, np.full(number, 1 / number), 20000)
            low, high = np.percentile(100 * (times @ errors_of) / (times @ units_of), [2.5, 97.5])
            assert ends == pytest.approx([low, high], abs=0.1 * (high - low) + 0.005)


def test_equal_models_do_not_differ(tmp_path: Path) -> None:
    same = [write(tmp_path / f"{name}.json", scored(1, share=0.3)) for name in "abc"]
    for row in table(compare(same[:2], same[2:])).values():
        assert row[2:] == [0] * 5


def test_another_corpus_is_named(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", scored(1, share=0.3))
    other = write(tmp_path / "other.json", scored(2, share=0.3), corpus="d.h5")
    text = compare([other], [one])
    assert "test of c.h5: " in text
    assert f"{other} was scored on d.h5\n" in text
    assert "was scored" not in compare([one], [one])


def test_utterances_of_silence_have_no_interval_of_phones(tmp_path: Path) -> None:
    rows = scored(1, share=0.3)
    for row in rows[1:]:
        row["phones"] = 0
    file = write(tmp_path / "silent.json", rows)
    rate = next(line for line in compare([file], [file]).splitlines() if line.startswith("| PER"))
    assert rate.split("|")[-3].strip() == "-"


def test_few_speakers_are_not_relied_on(tmp_path: Path) -> None:
    few = write(tmp_path / "few.json", scored(1, share=0.3, speakers=3))
    assert "The interval over 3 speakers is too narrow to rely on." in compare([few], [few])
    one = write(tmp_path / "one.json", scored(1, share=0.3, speakers=1))
    text = compare([one], [one])
    assert "too narrow" not in text
    assert all(
        line.endswith(" - |") for line in text.splitlines() if line.startswith(("| F", "| P"))
    )


def test_unknown_phones_have_no_phone_error_rate(tmp_path: Path) -> None:
    keys = ("name", "speaker", "frames", "frame_errors")
    rows = [{key: row[key] for key in keys} for row in scored(1, share=0.3)]
    file = write(tmp_path / "pdf.json", rows)
    assert list(table(compare([file], [file]))) == ["FER %"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{}", "expected a file of `gtcbmuf score --out`: Object missing required field `corpus`"),
        ("not JSON", "expected a file of `gtcbmuf score --out`: JSON is malformed"),
        (None, "cannot be read: No such file or directory"),
        ([], "no utterances; expected at least one"),
        (slice(0, 119), "119 utterances; expected the 120 of "),
        ({"split": "valid"}, "scored on valid; expected test, as "),
        (
            {"frame_errors": 10_000},
            "utterance u0: 10,000 wrong frames; expected at most {first}, as many as it has",
        ),
        (
            slice(None, None, -1),
            "utterance u119 of s11 with {last} frames and {phones} phones; expected utterance u0 ",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_named(
    tmp_path: Path, content: str | list[Any] | slice | dict[str, Any] | None, fault: str
) -> None:
    rows = scored(1, share=0.3)
    good, bad = write(tmp_path / "good.json", rows), tmp_path / "bad.json"
    if isinstance(content, str):
        bad.write_text(content)
    elif isinstance(content, dict):
        facts = {key: value for key, value in content.items() if key == "split"}
        write(bad, [{**rows[0], **content}, *rows[1:]], **facts)
    elif content is not None:
        write(bad, rows[content] if isinstance(content, slice) else content)
    done = gtcbmuf("compare", bad, "--baseline", good, env=WITHOUT_MPI)
    assert done.returncode == 2
    counts = {"first": rows[0]["frames"], "last": rows[-1]["frames"], "phones": rows[-1]["phones"]}
    assert f"gtcbmuf: {bad}: {fault.format(**counts)}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_counts_once_on_a_side(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", scored(1, share=0.3))
    done = gtcbmuf("compare", file, "--baseline", file, file, env=WITHOUT_MPI)
    assert done.returncode == 2
    assert f"gtcbmuf: --baseline: {file} {file}: expected different files" in done.stderr
