"""Collectives that MPI lacks: gathers of messages of any size, and sums with reproducible bits.

"Collective" means that all ranks of the communicator call the function, in the same order.
"""

import time
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Vector, Words
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

    def Allgather(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802
        """Call MPI_Allgather without a busy loop."""
        complete(self, [self.Iallgather(sendbuf, recvbuf)])

    def Allgatherv(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802
        """Call MPI_Allgatherv without a busy loop."""
        complete(self, [self.Iallgatherv(sendbuf, recvbuf)])


def complete(comm: MPI.Comm, requests: list[MPI.Request]) -> None:
    """Wait until all requests of a communicator have completed."""
    if not isinstance(comm, PatientComm):
        MPI.Request.Waitall(requests)
    while not MPI.Request.Testall(requests):
        time.sleep(PAUSE)


class MessageGather:
    """Gathers messages of different sizes in rank order, usually with one collective.

    Every rank sends a slot of the same size. The slot holds the size of the rank's message, then
    the message. A slot is an eighth larger than the largest message of the previous call. If a
    message exceeds its slot, a second collective sends the rest.

    Args:
        comm: the ranks.
        longest: maximum number of words in a message.

    Attributes:
        slot: number of words of a slot in the next call, (1,).

    Examples:
        >>> gather = MessageGather(MPI.COMM_SELF, longest=100)
        >>> rows, sent = gather(np.array([7, 8], np.uint32))
        >>> rows[0, :3].tolist()
        [2, 7, 8]
    """

    def __init__(self, comm: MPI.Comm, longest: int) -> None:
        self._comm, self._longest = comm, longest
        self.slot = np.array([16])
        self._outgoing = np.zeros(max(longest + 1, 16), np.uint32)
        self._incoming = np.zeros(0, np.uint32)

    def __call__(self, message: Words) -> tuple[NDArray[np.uint32], int]:
        """Gather the messages of all ranks; collective.

        Args:
            message: message of this rank, (w,) uint32.

        Returns:
            A pair. The first item holds the messages, (ranks, 1 + w) uint32, and is valid until the
            next call. A row has the number of words of a rank's message, then the words. The second
            item is the number of words that this rank sent.

        Raises:
            ValueError: a rank announces a message of more than `longest` words.
        """
        comm, slot = self._comm, int(self.slot[0])
        if self._incoming.size < slot * comm.size:
            self._incoming = np.empty(2 * slot * comm.size, np.uint32)
        self._outgoing[0] = message.size
        head, rest = message[: slot - 1], message[slot - 1 :]
        self._outgoing[1 : 1 + head.size] = head
        rows = self._incoming[: slot * comm.size].reshape(comm.size, slot)
        comm.Allgather(self._outgoing[:slot], rows)
        sizes = rows[:, 0].tolist()
        largest = max(sizes)
        if largest > self._longest:
            raise ValueError(
                f"rank {sizes.index(largest)} sent a message of {largest} words; expected "
                f"{self._longest} at most"
            )
        if largest >= slot:
            rest_sizes = np.maximum(np.array(sizes) - (slot - 1), 0)
            rests = np.empty(rest_sizes.sum(), np.uint32)
            comm.Allgatherv(rest, [rests, rest_sizes])
            slots, rows = rows, np.zeros((comm.size, 1 + largest), np.uint32)
            rows[:, :slot] = slots
            for row, part in zip(rows, np.split(rests, np.cumsum(rest_sizes)[:-1]), strict=True):
                row[slot : slot + part.size] = part
        self.slot[0] = min(1 + largest + largest // 8, self._longest + 1)
        return rows, slot + rest.size


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
