"""Where a result comes from: command, versions, processor, commit."""

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
    """What this process sees: command, versions, processor, threads, commit."""
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
    """How to make again what is being made: columns command and commit of a table."""
    told = environment()
    return {"command": shlex.join(told["command"]), "commit": short_commit(told)}


def short_commit(told: Mapping[str, Any]) -> str:
    """The commit that an `environment` tells of, with a + if there were changes beside it."""
    return str(told["commit"])[:12] + ("+" if told["dirty"] else "")


def command() -> list[str]:
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The name of this host's kind of processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> dict[str, Any]:
    """Commit of the checkout that this package runs from, if it does, and whether the package was
    changed since; results beside it may have been, by the study that asks.
    """
    source = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(source), *words], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    tracked = git("ls-files", "--error-unmatch", str(Path(__file__).resolve()))
    if commit is None or tracked is None:
        return {"commit": None, "dirty": None}
    changes = git("status", "--porcelain", "-uno", "--", ".")
    return {"commit": commit, "dirty": None if changes is None else changes != ""}
