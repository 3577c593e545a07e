"""Provenance of a result: command, versions, processor, commit."""

import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("gtcbmuf", "numpy", "numba", "h5py", "mpi4py", "mpich", "openmpi", "msgspec")


def environment() -> dict[str, Any]:
    """Describe this process: command, start, versions, processor, threads and commit.

    Returns:
        Values by name, ready for JSON. The commit is None outside a checkout.
    """
    import threadpoolctl

    return {
        "command": command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "threads": [
            {key: pool.get(key) for key in ("internal_api", "version", "num_threads")}
            for pool in threadpoolctl.threadpool_info()
        ],
        **_commit(),
    }


def provenance() -> dict[str, str]:
    """Return the columns "command" and "commit", which tell how to reproduce a table."""
    facts = environment()
    return {"command": shlex.join(facts["command"]), "commit": short_commit(facts)}


def short_commit(facts: Mapping[str, Any]) -> str:
    """Return the first 12 digits of a commit, with a + if the source had uncommitted changes.

    Args:
        facts: description of the process from `environment`.

    Examples:
        >>> short_commit({"commit": "0123456789abcdef", "dirty": True})
        '0123456789ab+'
    """
    return str(facts.get("commit"))[:12] + ("+" if facts.get("dirty") else "")


def command() -> list[str]:
    """Return the command line of this process, without the program's folder."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Return the name of this host's processor model, or its architecture if no model is known."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> dict[str, Any]:
    """Return the commit of this package's checkout, and whether the package has changes.

    Only uncommitted changes inside the package count, because a study may write results outside it.
    """
    source = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str | None:
        try:
            process = subprocess.run(
                ["git", "-C", str(source), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return process.stdout.strip() if process.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    tracked = git("ls-files", "--error-unmatch", str(Path(__file__).resolve()))
    if commit is None or tracked is None:
        return {"commit": None, "dirty": None}
    changes = git("status", "--porcelain", "-uno", "--", ".")
    return {"commit": commit, "dirty": None if changes is None else changes != ""}
