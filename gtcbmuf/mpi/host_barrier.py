"""A barrier for the ranks of a host that have to share its cores.

MPI's barriers poll. With more ranks than cores, every poll takes a core from a rank that has work
to do: a barrier of 32 ranks on 2 cores took 7,500 us with MPICH and takes about 200 us here.
"""

import ctypes
import platform
import sys
import time
from typing import Any

import numpy as np
from mpi4py import MPI
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from gtcbmuf.base.jit import kernel

#: Number of the system call futex on Linux, by machine.
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221, "s390x": 238}
_WAIT, _WAKE, _ALL = 0, 1, 2**31 - 1
#: Seconds after which a waiting rank calls MPI, which makes no progress between its calls.
_PATIENCE = 0.01


@intrinsic
def _fetch_add(typing_context: Any, counters: Any, place: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = cgutils.get_item_pointer(  # type: ignore[no-untyped-call]
            context, builder, signature.args[0], array, [arguments[1]]
        )
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int64(counters, types.intp, types.int64), generate


@kernel("(i8[::1], i8, i8)")
def fetch_add(counters: NDArray[np.int64], place: int, value: int) -> int:
    """counters[place] += value, atomically among processes; return the number before."""
    return _fetch_add(counters, place, value)  # type: ignore[call-arg]


#: Whether `HostBarrier` works: not with NUMBA_DISABLE_JIT=1.
CAN_SLEEP = hasattr(fetch_add, "py_func")


class HostBarrier:
    """A barrier among ranks that share memory. A waiting rank sleeps.

    Args:
        comm: the ranks; the barrier calls MPI now and then, so that messages to others arrive.
        counters: (2,) int64, zeros, shared by the ranks: arrivals, and finished barriers.

    Examples:
        >>> barrier = HostBarrier(MPI.COMM_SELF, np.zeros(2, np.int64))
        >>> barrier()
    """

    def __init__(self, comm: MPI.Comm, counters: NDArray[np.int64]) -> None:
        self._comm, self._counters, self._done = comm, counters, 0
        self._system_call = ctypes.CDLL(None, use_errno=True).syscall
        self._number = _FUTEX.get(platform.machine())
        seconds = ctypes.c_long * 2
        self._patience = seconds(0, int(_PATIENCE * 1e9))
        low_half = 0 if sys.byteorder == "little" else 4
        self._address = ctypes.c_void_p(counters[1:].ctypes.data + low_half)

    def __call__(self) -> None:
        """Wait until all ranks have called; collective."""
        self._done += 1
        if fetch_add(self._counters, 0, 1) + 1 == self._done * self._comm.size:
            fetch_add(self._counters, 1, 1)
            self._futex(_WAKE, _ALL, None)
            return
        while fetch_add(self._counters, 1, 0) < self._done:
            self._futex(_WAIT, (self._done - 1) & 0xFFFFFFFF, self._patience)
            self._comm.Iprobe()

    def _futex(self, operation: int, value: int, patience: Any) -> None:
        if self._number is None:
            time.sleep(1e-4 if operation == _WAIT else 0)
            return
        number, word = ctypes.c_long(self._number), ctypes.c_uint(value)
        self._system_call(number, self._address, ctypes.c_int(operation), word, patience, None, 0)
