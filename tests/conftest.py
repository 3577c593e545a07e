"""Options of the test run, and what its tests need."""

from pathlib import Path
from typing import Any

import hypothesis
import pytest
from support import segments
from support.needs import require

SEGMENTS = pytest.StashKey[set[Path]]()
#: Files to begin with, so that all workers end at about the same time.
LONGEST = (
    *("test_slurm.py", "test_resume.py", "test_under_mpi.py", "test_train.py", "test_pages.py"),
    *("test_workers_per_rank.py", "test_align.py"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write tests/training/golden.json anew from what the methods do now",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): programs and permissions; support/needs.py")


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[SEGMENTS] = segments.segments()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # the last process of the test run
        segments.remove(segments.segments() - session.config.stash[SEGMENTS])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)  # stable


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Not in a fixture: pytest would list every test that is skipped, not the reason once.
    for mark in item.iter_markers("needs"):
        require(*mark.args)


# No example has a deadline: the first one compiles a kernel, and machines are busy.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(params=["compiled", "interpreted"])
def form(request: pytest.FixtureRequest) -> Any:
    """A function that gives a kernel in one of its two forms."""
    if request.param == "compiled":
        return lambda kernel: kernel
    return lambda kernel: kernel.py_func
