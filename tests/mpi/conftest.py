"""Fixtures of tests for any number of ranks. All ranks run every test together.

`pytest tests/mpi` runs the tests on one rank. tests/test_under_mpi.py uses 2, 4 and 8 ranks.
"""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gtcbmuf.mpi import launcher

WORLD = launcher.start()

from gtcbmuf.core import kernels  # noqa: E402, F401  (the first Topology compiles them)
from gtcbmuf.mpi.topology import Topology  # noqa: E402


def pytest_sessionstart() -> None:
    expected = int(os.environ.get("GTCBMUF_TEST_RANKS", "1"))
    assert WORLD.size == expected, f"a world of {WORLD.size} ranks instead of {expected}"
    Topology(WORLD, 1).free()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """End the job with a report if a test fails on a rank, because other ranks would wait."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed and WORLD.size > 1:
        print(f"\nrank {WORLD.rank}: {item.nodeid}\n{report.longreprtext}", file=sys.stderr)
        sys.stderr.flush()
        WORLD.Abort(1)


#: Group sizes: all that are possible, but of 8 ranks only two groups of 4, to save time.
SIZES = [4] if WORLD.size == 8 else [m for m in (1, 2, 4) if WORLD.size % m == 0]


@pytest.fixture(scope="module", params=SIZES)
def topology(request: pytest.FixtureRequest) -> Iterator[Topology]:
    """A topology of each of the group sizes."""
    topology = Topology(WORLD, request.param)
    yield topology
    topology.free()
