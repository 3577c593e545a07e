"""The tests in tests/mpi on real ranks."""

import sys
from pathlib import Path

import pytest
from support.launch import mpirun

FILES = sorted((Path(__file__).parent / "mpi").glob("test_*.py"))


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_on_ranks(file: Path, ranks: int) -> None:
    done = mpirun(
        ranks,
        *(
            sys.executable,
            "-m",
            "mpi4py",
            "-m",
            "pytest",
            "-x",
            "-q",
            "--color=no",
            "-p",
            "no:cacheprovider",
        ),
        file,
        env={"GTCBMUF_TEST_RANKS": str(ranks), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
