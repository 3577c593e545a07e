"""The root mean square of changes that workers quantise with a common step."""

import math

import numpy as np
from mpi4py import MPI

from gtcbmuf.base.arrays import Vector
from gtcbmuf.core import kernels

#: Quantisation steps in a root mean square, for the sum of squares; the least root mean square.
_FINENESS, _LEAST = 64.0, 1e-30


class Deviation:
    """Root mean square of the workers' last changes, with the same bits on all workers.

    The workers add up integer squares, so they need no other agreement than that sum.

    Args:
        changes: number of numbers in all changes together.

    Attributes:
        value: the root mean square, (1,) float32; 0 if it has to be measured, which is before the
            first change, and after changes too small for the last value.

    Examples:
        >>> deviation, change = Deviation(4), np.array([3, -3, 3, -3], np.float32)
        >>> deviation.measure(MPI.COMM_SELF, change, np.zeros_like(change))
        >>> deviation.follow(deviation.energy(2 * change, np.zeros_like(change)))
        >>> deviation.value.tolist()
        [6.0]
    """

    def __init__(self, changes: int) -> None:
        self._changes = changes
        self.value = np.zeros(1, np.float32)

    def energy(self, vector: Vector, origin: Vector) -> int:
        """Sum the squares of a part of the changes, vector - origin, as an integer."""
        return kernels.energy(vector, origin, np.float32(_FINENESS / self.value[0]))

    def follow(self, energy: int) -> None:
        """Take the root mean square from the sum of all energies."""
        value = float(self.value[0]) * math.sqrt(energy / self._changes) / _FINENESS
        self.value[0] = max(value, _LEAST) if energy else 0

    def measure(self, comm: MPI.Comm, vector: Vector, origin: Vector) -> None:
        """Find the root mean square of changes, vector - origin, above 0; collective."""
        largest = comm.allreduce(float(np.abs(vector - origin).max(initial=0)), MPI.MAX)
        self.value[0] = max(_FINENESS * (largest or 1.0) / kernels.RANGE, _LEAST)
        if energy := comm.allreduce(self.energy(vector, origin)):
            self.follow(energy)
