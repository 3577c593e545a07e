"""Commands as a user would start them. No process outlives its test."""

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
    """Find a program in this environment, or else on PATH (a site's mpirun)."""
    own = Path(sys.executable).parent / name
    path = str(own) if own.exists() else shutil.which(name)
    assert path is not None, f"no program {name}"
    return path


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    # Not made at import, because scripts/fuzz ends by os._exit, which would not remove it.
    return tempfile.TemporaryDirectory(prefix="tests-")


def clean_environment() -> dict[str, str]:
    """Copy the environment without the variables of a launcher, and with a new TMPDIR.

    A killed mpirun of Open MPI leaves a folder named after its process id in TMPDIR. A later mpirun
    with the same id would not start there.
    """
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_LAUNCHER_PREFIXES) or name.startswith(_SETTINGS)
    }
    return {**variables, "TMPDIR": tempfile.mkdtemp(dir=_scratch().name)}


def run(
    *command: str | Path, timeout: float = 120, env: dict[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. After the timeout, kill all its processes and fail."""
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
            f"still running after {timeout} s: {command}\n{out[-4000:]}\n{err[-4000:]}"
        ) from None
    # Open MPI 5's mpirun ends some of its own messages with a NUL.
    err = err.replace("\0", "")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until a condition holds, at most a minute, while a process is running."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def mpirun(ranks: int, *command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command on a number of ranks."""
    return run(program("mpirun"), "-n", str(ranks), *command, **options)  # type: ignore[arg-type]


def gtcbmuf(
    *arguments: str | Path, ranks: int = 0, **options: object
) -> subprocess.CompletedProcess[str]:
    """Run `gtcbmuf` on `ranks` ranks, or without a launcher if `ranks` is 0."""
    if ranks:
        return mpirun(ranks, program("gtcbmuf"), *arguments, **options)
    return run(program("gtcbmuf"), *arguments, **options)  # type: ignore[arg-type]
