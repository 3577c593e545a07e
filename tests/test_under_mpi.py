"""The tests in tests/mpi on real ranks, all in one job. Pytest alone runs them on one rank."""

import sys

import pytest
from support.launch import ROOT, mpirun


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_on_ranks(ranks: int) -> None:
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
        ROOT / "tests/mpi",
        env={"GTCBMUF_TEST_RANKS": str(ranks), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
