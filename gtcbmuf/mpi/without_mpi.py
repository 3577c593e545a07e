"""A stand-in for mpi4py.MPI in a process that trains alone: no MPI library need be installed."""

import operator
import platform
import sys
from types import ModuleType
from typing import Any


def is_possible() -> bool:
    """Return whether no MPI library is loaded yet."""
    return isinstance(sys.modules.get("mpi4py.MPI"), _StandIn | None)


class _StandIn(ModuleType):
    """The module in the place of mpi4py.MPI."""


def install() -> Any:
    """Let `from mpi4py import MPI` import the stand-in, and return its world, of one worker.

    It holds the names that this package uses.
    """
    if isinstance(sys.modules.get("mpi4py.MPI"), _StandIn):
        return sys.modules["mpi4py.MPI"].COMM_WORLD
    module: Any = _StandIn("mpi4py.MPI")
    sys.modules["mpi4py.MPI"] = module
    for name in ("Comm", "Intracomm", "Request", "Status", "Group"):
        setattr(module, name, type(name, (), {}))
    module.Comm.Create_keyval = staticmethod(object)
    module.SUM, module.MAX, module.LOR = operator.add, max, operator.or_
    module.COMM_NULL, module.IN_PLACE, module.UINT32_T = object(), object(), object()
    module.UNDEFINED, module.COMM_TYPE_SHARED = -1, 0
    module.Get_processor_name = platform.node
    module.Get_library_version = lambda: "none"

    from gtcbmuf.mpi.carried import alone

    module.COMM_SELF = module.COMM_WORLD = alone()
    return module.COMM_WORLD
