"""HDF5 files on a disk that becomes full: written whole, or refused."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.launch import clean_environment

FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
{imports}

def write(path):
    {write}

def is_whole(path):
    {check}

whole, part = Path("whole"), Path("part")
write(whole)
size = whole.stat().st_size
refused = 0
for limit in range(0, size + 999, max(size // 40, 1)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
        write(part)
    except (OSError, UserError):
        refused += 1
        assert limit < size, limit
        continue
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    assert limit >= size, limit
    assert is_whole(part), limit
assert refused > 30, refused
"""

FILES = {
    "datasets": (
        "from gtcbmuf.base.errors import UserError; from gtcbmuf.base.hdf5 import *",
        """with create_file(path) as file:
        for size in (9, 4000, 40_000):
            file[str(size)] = np.full(size, 7, np.float32)""",
        "return all((data[:] == 7).all() for data in open_file(path).values())",
    ),
    "model": (
        "from gtcbmuf.acoustic.mlp import Architecture; from gtcbmuf.acoustic.model_file import *",
        """shape = Architecture((60, 80, 30), "relu")
    vector, counts = np.ones(shape.parameters, np.float32), np.arange(30)
    save_model(path, SavedModel(vector, shape, 1, counts, ""))""",
        "return (load_model(path).vector == 1).all()",
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_full_disk_is_noticed_whenever_it_becomes_full(kind: str, tmp_path: Path) -> None:
    imports, write, check = FILES[kind]
    code = FULL_DISK.format(imports=imports, write=write, check=check)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        cwd=tmp_path,
        env=clean_environment(),
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
