"""Stdout on a full disk, and paths whose bytes are not text."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.launch import clean_environment, program

FULL = Path("/dev/full")
FULL_LINE = "gtcbmuf: stdout: cannot be written: No space left on device"
#: Not UTF-8.
NAME = b"run-\xff"

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("output")
    write_corpus(place / "corpus.h5", train_frames=500)
    return place


def execute(
    place: Path, *words: str | bytes, stdout: int = subprocess.PIPE, buffered: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """Run gtcbmuf in a folder, with or without Python's buffer of stdout."""
    variables = {**clean_environment(), "PYTHONUNBUFFERED": "" if buffered else "1"}
    return subprocess.run(
        [program("gtcbmuf"), *words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=place,
        env=variables,
        timeout=60,
    )


def train(place: Path, out: str | bytes, *more: str, **options: int) -> tuple[int, str]:
    """Train; return the status and stderr."""
    settings = ("corpus.path=corpus.h5", "model.hidden=[8]", "train.epochs=2")
    words = [word for setting in settings for word in ("--set", setting)]
    done = execute(place, "train", "sgd", *words, "--out", out, *more, **options)  # type: ignore[arg-type]
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("buffered", [True, False])
def test_training_continues_if_stdout_is_on_a_full_disk(place: Path, buffered: bool) -> None:
    with FULL.open("w") as full:
        status, error = train(place, f"full-{buffered}", stdout=full.fileno(), buffered=buffered)
    assert (status, error) == (0, f"{FULL_LINE}; training continues\n")
    assert json.loads((place / f"full-{buffered}/summary.json").read_text())["epochs"] == 2


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("words", ["corpus info corpus.h5", "topology sgd"])
def test_lost_output_is_a_user_error(place: Path, words: str, buffered: bool) -> None:
    with FULL.open("w") as full:
        done = execute(place, *words.split(), stdout=full.fileno(), buffered=buffered)
    assert (done.returncode, done.stderr.decode()) == (2, f"{FULL_LINE}\n")


def test_a_user_error_keeps_its_status_on_a_full_disk(place: Path) -> None:
    with FULL.open("w") as full:
        status, error = train(place, "none", "--set", "exchange.tua=1", stdout=full.fileno())
    assert status == 2
    assert error == "gtcbmuf: --set: unknown key exchange.tua; did you mean exchange.tau?\n"


@pytest.mark.parametrize("stderr", [">/dev/full", ">&-"])
def test_an_error_without_stderr_is_not_on_stdout(place: Path, stderr: str) -> None:
    command = f"{program('gtcbmuf')} report nowhere 2{stderr}"
    done = subprocess.run(["bash", "-c", command], cwd=place, stdout=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout) == (2, b"")


def test_a_path_may_hold_bytes_that_are_no_text(place: Path) -> None:
    status, error = train(place, NAME)
    assert (status, error) == (0, "")
    run = Path(os.fsdecode(os.path.join(os.fsencode(place), NAME)))
    command = json.loads((run / "environment.json").read_text())["command"]
    assert os.fsencode(command[-1]) == NAME

    status, error = train(place, NAME, "--resume")
    assert (status, error) == (0, "")
    status, error = train(place, NAME)
    assert (status, error) == (0, r"the earlier run in run-\udcff is now in run-\udcff.1" + "\n")

    page, plot = NAME + b".html", NAME + b".png"
    done = execute(place, "report", NAME, "--html", page, "--plot", plot)
    assert (done.returncode, done.stderr) == (0, b"")
    text = run.with_name(os.fsdecode(page)).read_text(encoding="utf-8")
    assert r"run-\udcff" in text
    assert run.with_name(os.fsdecode(plot)).exists()


def test_bytes_that_are_no_text_are_refused_in_a_setting(place: Path) -> None:
    done = execute(place, "train", "sgd", "--set", b"corpus.path=\xff.h5")
    assert done.returncode == 2
    assert done.stderr == b"gtcbmuf: --set 'corpus.path=\\udcff.h5': expected UTF-8\n"


def test_a_library_call_survives_a_full_disk(place: Path) -> None:
    code = (
        "import gtcbmuf, os; gtcbmuf.train('sgd', ['corpus.path=corpus.h5', 'model.hidden=[8]', "
        "'train.epochs=1'], 'library'); os._exit(0)"
    )
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=place,
            env=clean_environment(),
            timeout=60,
        )
    assert (done.returncode, done.stderr.decode()) == (0, f"{FULL_LINE}; training continues\n")


def test_a_device_or_a_link_is_not_replaced_by_a_file(place: Path) -> None:
    status, _ = train(place, "linked")
    assert status == 0
    (place / "page.html").symlink_to("pages.html")
    os.mkfifo(place / "pipe")
    reader = os.open(place / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        for out in ("page.html", "pipe"):
            done = execute(place, "report", "linked", "--html", out)
            assert (done.returncode, done.stderr) == (0, b"")
        assert os.read(reader, 15) == b"<!DOCTYPE html>"
    finally:
        os.close(reader)
    assert (place / "page.html").is_symlink()
    assert (place / "pages.html").read_text().startswith("<!DOCTYPE html>")
