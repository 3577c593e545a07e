"""Error feedback: a worker keeps the unsent part of its gradients as a residual.

This module loads neither MPI nor NumPy, so that a configuration needs neither.
"""

from typing import TYPE_CHECKING

from gtcbmuf.core.checks import VectorCheck
from gtcbmuf.core.meter import Meter

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.core.algorithm import State


class ErrorFeedback:
    """Base class of exchanges with a residual.

    Args:
        group: this worker's group.
        parameters: n, below 2^31.
        meter: counts.

    Raises:
        ValueError: n is out of its range.
    """

    def __init__(self, group: "MPI.Comm", parameters: int, meter: Meter | None = None) -> None:
        import numpy as np

        self._check = VectorCheck("gradient", "step", parameters)
        self._group, self._meter = group, meter or Meter()
        self._residual = np.zeros(parameters, np.float32)

    def forget(self) -> None:
        """residual = 0."""
        self._residual[:] = 0

    def state(self) -> "State":
        """The residual (n,), a view."""
        return {"residual": self._residual}

    def restore(self, state: "State") -> None:
        """Continue from a `state`."""
        for name, array in self.state().items():
            array[:] = state[name]
