"""Starts commands the way a user would, and leaves no process behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_LAUNCHER_PREFIXES = (
    "OMPI_",
    "PMI",
    "PRTE_MCA_ess",
    "PRTE_LAUNCHED",
    "MPI_LOCAL",
    "HYDI_",
    "SLURM_",
)
_SETTINGS = ("OMPI_MCA_", "OMPI_ALLOW_", "PMIX_MCA_")


def program(name: str) -> str:
    """Path of a program of this environment, or else of PATH (a site's mpirun)."""
    own = Path(sys.executable).parent / name
    found = str(own) if own.exists() else shutil.which(name)
    assert found is not None, f"{name} is nowhere"
    return found


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    # Made only when it is needed: scripts/fuzz ends by os._exit, which removes nothing.
    return tempfile.TemporaryDirectory(prefix="tests-")


def clean_environment() -> dict[str, str]:
    """The environment without what a launcher of this very process left in it, with a TMPDIR.

    Where Open MPI's mpirun was killed, it leaves a folder named after its process there, and one
    that later happens to be that number does not start.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_LAUNCHER_PREFIXES) or name.startswith(_SETTINGS)
    }
    return {**kept, "TMPDIR": tempfile.mkdtemp(dir=_scratch().name)}


def run(
    *command: str | Path, timeout: float = 120, env: dict[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run to the end; when the time is up, kill everything that it started and fail."""
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**clean_environment(), **(env or {})},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(
            f"not done after {timeout} s: {command}\n{out[-4000:]}\n{err[-4000:]}"
        ) from None
    # Open MPI 5's mpirun ends some of its own messages with a NUL.
    err = err.replace("\0", "")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_until(happens: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait for what a process that goes on is to bring about; a minute at most."""
    deadline = time.monotonic() + 60
    while not happens():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def mpirun(ranks: int, *command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command on that many ranks."""
    return run(program("mpirun"), "-n", str(ranks), *command, **options)  # type: ignore[arg-type]


def gtcbmuf(
    *arguments: str | Path, ranks: int = 0, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run the command line, on `ranks` ranks, or with no launcher."""
    if ranks:
        return mpirun(ranks, program("gtcbmuf"), *arguments, **options)
    return run(program("gtcbmuf"), *arguments, **options)  # type: ignore[arg-type]
