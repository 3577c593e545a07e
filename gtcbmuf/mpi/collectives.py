"""Collectives that MPI lacks: some that sleep while they wait, and sums with reproducible bits.

"Collective" means that all ranks of the communicator call the function, in the same order.
"""

import time
from typing import Any

import numpy as np
from mpi4py import MPI

from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.partition import share

#: Seconds between two polls of pending requests. MPI makes no progress between its calls.
PAUSE = 0.0003
_TAG = 1


class PatientComm(MPI.Intracomm):
    """A communicator whose collectives sleep while they wait.

    Most MPI libraries wait in a busy loop. The loop takes half of the core from a thread that
    computes there.

    Args:
        comm: the communicator. The new object is another handle to it.
    """

    def __new__(cls, comm: MPI.Comm) -> "PatientComm":
        return super().__new__(cls, comm)

    def Allgatherv(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802
        """Call MPI_Allgatherv without a busy loop."""
        complete(self, [self.Iallgatherv(sendbuf, recvbuf)])


def complete(comm: MPI.Comm, requests: list[MPI.Request]) -> None:
    """Wait until all requests of a communicator have completed."""
    if not isinstance(comm, PatientComm):
        MPI.Request.Waitall(requests)
    while not MPI.Request.Testall(requests):
        time.sleep(PAUSE)


def wait_for_any(comm: MPI.Comm, requests: list[MPI.Request], status: MPI.Status) -> int:
    """Wait until one request of a communicator has completed, and return its number."""
    if not isinstance(comm, PatientComm):
        return MPI.Request.Waitany(requests, status)
    while True:
        number, flag = MPI.Request.Testany(requests, status)
        if flag:
            return number
        time.sleep(PAUSE)


def gather_shares(comm: MPI.Comm, part: Vector, length: int) -> Vector:
    """Gather a vector (length,) float32 of which every rank has its `share`; collective."""
    ends = [share(length, comm.size, rank) for rank in range(comm.size)]
    whole = np.empty(length, np.float32)
    comm.Allgatherv(np.ascontiguousarray(part), [whole, [end - first for first, end in ends]])
    return whole


class RankOrderSum:
    """Sums vectors over ranks, in rank order. Each rank sums one part of the vector.

    So the bits of a sum do not depend on the MPI library. They do not depend on the vector's length
    or on its place in a longer vector either.

    A sum sends as many bytes as the best allreduce (Rabenseifner 2004). `scatter` is the first half
    of that allreduce, and `gather` is the second half.

    Args:
        comm: the ranks.
        length: length of the vectors.

    Attributes:
        mine: the part that this rank sums, as a slice of the vector.

    Examples:
        >>> sums, total = RankOrderSum(MPI.COMM_SELF, 2), np.empty(2, np.float32)
        >>> sums.gather(sums.scatter(np.array([1, 2], np.float32)), total)
        >>> total.tolist()
        [1.0, 2.0]
    """

    def __init__(self, comm: MPI.Comm, length: int) -> None:
        self._comm = comm
        bounds = [share(length, comm.size, rank) for rank in range(comm.size)]
        self._slices = [slice(*ends) for ends in bounds]
        self._counts = [end - first for first, end in bounds]
        self.mine = self._slices[comm.rank]
        self._parts = np.empty((comm.size, self._counts[comm.rank]), np.float32)

    def scatter(self, vector: Vector) -> Vector:
        """Sum this rank's part over all ranks; collective.

        Args:
            vector: (length,) float32.

        Returns:
            The sum of the part `mine`, float32, valid until the next call.
        """
        comm = self._comm
        # MPICH's MPI_Ialltoallv takes six times as long, unless a rank waits in a busy loop.
        others = [(comm.rank + i) % comm.size for i in range(1, comm.size)]
        requests = [comm.Irecv(self._parts[rank], rank, _TAG) for rank in reversed(others)]
        requests += [comm.Isend(vector[self._slices[rank]], rank, _TAG) for rank in others]
        self._parts[comm.rank] = vector[self.mine]
        complete(comm, requests)
        total: Vector = self._parts[0]
        for part in self._parts[1:]:
            total += part
        return total

    def gather(self, part: Vector, vector: Vector) -> None:
        """Gather the parts of all ranks; collective.

        Args:
            part: sum of this rank's part, float32.
            vector: output on every rank, (length,) float32.
        """
        self._comm.Allgatherv(part, [vector, self._counts])
