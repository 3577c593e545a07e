"""The command line: what it loads before it knows the command."""

import sys

from support.launch import run

CODE = """
import sys
from gtcbmuf.cli.main import main, parser
parser()
print(*(name for name in ("numpy", "numba", "mpi4py", "msgspec") if name in sys.modules))
"""


def test_numpy_is_loaded_after_its_number_of_threads_is_set() -> None:
    """With a thread for each core and rank, a step is a hundred times slower."""
    done = run(sys.executable, "-c", CODE)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
