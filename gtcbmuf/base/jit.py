"""Numba kernels: a decorator, and compilation before the first call.

Numba's cache is not safe if several processes write it at once. So a kernel states its types, and
`compile_kernels` compiles all kernels of the imported modules or loads them from the cache. Under
MPI the ranks take turns (`gtcbmuf.mpi.topology.Topology`). A program runs without the cache if it
has to (`gtcbmuf.base.kernel_cache`).
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core.sigutils import normalize_signature

from gtcbmuf.base.kernel_cache import attach_cache

F = TypeVar("F", bound=Callable[..., Any])

_pending: list[tuple[Any, str]] = []


def kernel(types: str) -> Callable[[F], F]:
    """Turn a function of numbers and arrays into a compiled kernel that runs without the GIL.

    Args:
        types: types of the arguments in Numba's notation: "(f4[::1], f4, i8)".

    Examples:
        >>> from gtcbmuf.core.kernels import add_scaled  # @kernel("(f4[::1], f4, f4[::1])")
        >>> import numpy as np
        >>> vector = np.ones(2, np.float32)
        >>> add_scaled(np.array([1, 2], np.float32), np.float32(0.5), vector)
        >>> vector.tolist()
        [1.5, 2.0]
    """

    def decorate(function: F) -> F:
        # "numpy": division by zero raises no exception. Exceptions would prevent vectorised loops.
        compiled = numba.njit(error_model="numpy", nogil=True)(function)
        attach_cache(compiled)
        _pending.append((compiled, types))
        return compiled  # type: ignore[return-value]

    return decorate


def has_pending() -> bool:
    """Return whether an imported module has kernels that this process has not compiled."""
    return bool(_pending)


def compile_kernels() -> None:
    """Compile the kernels of all imported modules, or load them from Numba's cache."""
    while _pending:
        compiled, types = _pending.pop(0)
        if hasattr(compiled, "compile"):  # with NUMBA_DISABLE_JIT=1 it is a plain function
            # A tuple, as for kernels that another kernel calls: text would be another key in the
            # cache, under which all ranks would compile and write them at once.
            compiled.compile(normalize_signature(types)[0])  # type: ignore[no-untyped-call]
