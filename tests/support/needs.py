"""What a test needs of the system beside Python: `@pytest.mark.needs("git")`.

Names are of programs, or one of PERMISSIONS. Where something is missing, the test is skipped with
one line that says what to install; in CI, which installs everything, it fails.
"""

import os
import shutil
import subprocess
from functools import cache

import pytest

#: Debian's package of each program.
PACKAGES = {
    "chromium": "chromium",
    "gcc": "gcc libc6-dev",
    "git": "git",
    "ip": "iproute2",
    "munged": "munge",
    "nsenter": "util-linux",
    "ps": "procps",
    "sbatch": "slurm-client",
    "setpriv": "util-linux",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "tc": "iproute2",
    "unshare": "util-linux",
}


def _is_root() -> bool:
    return os.geteuid() == 0


def _has_namespaces() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount", "--mount-proc"]
    command += [] if _is_root() else ["--map-root-user"]
    return subprocess.run([*command, "true"], capture_output=True).returncode == 0


def _has_network_namespaces() -> bool:
    name = f"gtcbmuf-test-{os.getpid()}"  # pytest's workers ask at the same time
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return False
    subprocess.run(["ip", "netns", "del", name], check=True)
    return True


#: What no package brings.
PERMISSIONS = {
    "root": _is_root,
    "namespaces": _has_namespaces,
    "network namespaces": _has_network_namespaces,
}


@cache
def missing(*names: str) -> str | None:
    """One line about what this machine lacks of programs and permissions, if it lacks any."""
    # Debian has daemons in /usr/sbin, which is not on every user's PATH.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    programs = [name for name in names if name not in PERMISSIONS]
    if absent := [name for name in programs if shutil.which(name, path=path) is None]:
        packages = " ".join(dict.fromkeys(PACKAGES[name] for name in absent))
        install = f"apt-get install --no-install-recommends {packages}"
        return f"needs {', '.join(absent)}: {install}"
    # In this order: only root asks for a network namespace.
    for name, is_granted in PERMISSIONS.items():
        if name in names and not is_granted():
            return f"needs {name}, which this machine does not grant"
    return None


def require(*names: str) -> None:
    """Go on only if nothing is missing."""
    reason = missing(*names)
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
