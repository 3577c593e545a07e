"""Copies a run directory before each of its first writes, as a killed job would leave it.

python tests/support/first_writes.py COPIES ARGUMENTS runs `gtcbmuf ARGUMENTS --out COPIES/run`. The
state before the n-th write is COPIES/n. The last copy is the first that holds config.toml.
"""

import os
import shutil
import sys
from pathlib import Path

from gtcbmuf.cli.main import main

_WRITES = ("os.mkdir", "os.rename", "os.remove")
copies, words = Path(sys.argv[1]), sys.argv[2:]
out = copies / "run"
count, copying = 0, False


def hook(event: str, arguments: tuple[object, ...]) -> None:
    """Copy the run directory before Python's audited event, if that is a write in it."""
    global count, copying
    is_write = event in _WRITES or (event == "open" and str(arguments[1])[:1] in ("w", "x"))
    if not is_write or copying or not str(arguments[0]).startswith(str(out)):
        return
    copying = True
    if out.exists() and not (copies / str(count - 1) / "config.toml").exists():
        shutil.copytree(out, copies / str(count))
        count += 1
    copying = False


sys.addaudithook(hook)
os.chdir(copies)
main([*words, "--out", str(out)])
