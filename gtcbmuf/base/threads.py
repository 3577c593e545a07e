"""Numbers of threads of NumPy's and Numba's libraries, which they read from the environment."""

import os
import re

from gtcbmuf.base.errors import UserError

_OPENMP = "OMP_NUM_THREADS"
_LIBRARIES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def set_threads() -> None:
    """Set the variables of all libraries: by default to OMP_NUM_THREADS, and that to 1.

    More than one BLAS thread per rank is several times slower where ranks share cores. The
    libraries read the variables when they are loaded. So call this before NumPy is imported.

    Raises:
        UserError: a variable is not a number of threads.
    """
    threads = _read(_OPENMP)
    if threads is None:
        threads = os.environ[_OPENMP] = "1"
    for variable in _LIBRARIES:
        os.environ[variable] = _read(variable) or threads


def _read(variable: str) -> str | None:
    """Read a number of threads. Of a list, as OpenMP has it for nested levels, the first counts.

    Returns:
        The number's digits, or None if the variable is not set or empty.

    Raises:
        UserError: the value is neither a number from 1 nor a list of them.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        return None
    numbers = [part.strip() for part in value.split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,4}", number) for number in numbers):
        raise UserError(f"{variable}={value}: expected a number of threads from 1 to 99999")
    return numbers[0]
