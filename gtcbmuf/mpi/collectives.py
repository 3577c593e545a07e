"""What MPI has no single collective for: messages of any size, and sums whose bits are the same.

Collective means here: called by all ranks of the communicator, in the same order.
"""

import time
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Vector, Words
from gtcbmuf.base.partition import share

#: Seconds between two looks at what is under way: nothing moves on unless MPI is called.
PAUSE = 0.0003
_TAG = 1


class PatientComm(MPI.Intracomm):
    """A communicator whose collectives leave the core to others while they wait.

    The blocking ones of most MPI libraries wait in a busy loop, which would take half of a core
    from the thread that computes there.

    Args:
        comm: the communicator, of which this is another handle.
    """

    def __new__(cls, comm: MPI.Comm) -> "PatientComm":
        return super().__new__(cls, comm)

    def Allgather(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802
        """As that of MPI."""
        complete(self, [self.Iallgather(sendbuf, recvbuf)])

    def Allgatherv(self, sendbuf: Any, recvbuf: Any) -> None:  # noqa: N802
        """As that of MPI."""
        complete(self, [self.Iallgatherv(sendbuf, recvbuf)])


def complete(comm: MPI.Comm, requests: list[MPI.Request]) -> None:
    """Wait until all of a communicator's requests are through."""
    if not isinstance(comm, PatientComm):
        MPI.Request.Waitall(requests)
    while not MPI.Request.Testall(requests):
        time.sleep(PAUSE)


class MessageGather:
    """Gives every rank the messages of all, in rank order, with one collective in the usual case.

    All ranks send a slot of the same size, an eighth larger than the largest message of the call
    before, that tells the size of its message first. What did not fit into a slot follows in a
    second collective.

    Args:
        comm: the ranks.
        longest: words that a message may have.
    """

    def __init__(self, comm: MPI.Comm, longest: int) -> None:
        self._comm, self._longest = comm, longest
        #: (1,) words of a slot: what the next call depends on.
        self.slot = np.array([16])
        self._mine = np.zeros(max(longest + 1, 16), np.uint32)
        self._all = np.zeros(0, np.uint32)

    def __call__(self, message: Words) -> tuple[NDArray[np.uint32], int]:
        """The messages of all, and the words that this rank sent; collective.

        Returns:
            (ranks, w) uint32, valid until the next call: of each rank the number of its words, and
            the words.

        Raises:
            ValueError: a rank says that its message is longer than one may be.
        """
        comm, slot = self._comm, int(self.slot[0])
        if self._all.size < slot * comm.size:
            self._all = np.empty(2 * slot * comm.size, np.uint32)
        self._mine[0] = message.size
        head, rest = message[: slot - 1], message[slot - 1 :]
        self._mine[1 : 1 + head.size] = head
        rows = self._all[: slot * comm.size].reshape(comm.size, slot)
        comm.Allgather(self._mine[:slot], rows)
        sizes = rows[:, 0].tolist()
        largest = max(sizes)
        if largest > self._longest:
            raise ValueError(
                f"rank {sizes.index(largest)} sent a message of {largest} words; expected "
                f"{self._longest} at most"
            )
        if largest >= slot:
            rests = np.maximum(np.array(sizes) - (slot - 1), 0)
            received = np.empty(rests.sum(), np.uint32)
            comm.Allgatherv(rest, [received, rests])
            slots, rows = rows, np.zeros((comm.size, 1 + largest), np.uint32)
            rows[:, :slot] = slots
            for row, part in zip(rows, np.split(received, np.cumsum(rests)[:-1]), strict=True):
                row[slot : slot + part.size] = part
        self.slot[0] = min(1 + largest + largest // 8, self._longest + 1)
        return rows, slot + rest.size


class RankOrderSum:
    """Sums vectors over ranks, each rank a part, adding in rank order.

    So the bits depend neither on the MPI library, nor on the vector's length or place in a longer
    one. As many bytes travel as in the best allreduce (Rabenseifner 2004): this is its first half,
    and `gather` the second.

    Args:
        comm: the ranks.
        length: of the vectors.

    Attributes:
        mine: the part that this rank sums, as a slice of the vector.
    """

    def __init__(self, comm: MPI.Comm, length: int) -> None:
        self._comm = comm
        bounds = [share(length, comm.size, rank) for rank in range(comm.size)]
        self._all = [slice(*ends) for ends in bounds]
        self._counts = [end - first for first, end in bounds]
        self.mine = self._all[comm.rank]
        self._parts = np.empty((comm.size, self._counts[comm.rank]), np.float32)

    def scatter(self, vector: Vector) -> Vector:
        """The sum of this rank's part, valid until the next call; collective.

        Args:
            vector: (length,) float32.
        """
        comm = self._comm
        # Not MPI_Ialltoallv: MPICH's takes six times as long while nobody waits busily for it.
        others = [(comm.rank + i) % comm.size for i in range(1, comm.size)]
        requests = [comm.Irecv(self._parts[rank], rank, _TAG) for rank in reversed(others)]
        requests += [comm.Isend(vector[self._all[rank]], rank, _TAG) for rank in others]
        self._parts[comm.rank] = vector[self.mine]
        complete(comm, requests)
        total: Vector = self._parts[0]
        for part in self._parts[1:]:
            total += part
        return total

    def gather(self, part: Vector, vector: Vector) -> None:
        """Fill `vector` (length,) on all ranks with the parts of each; collective."""
        self._comm.Allgatherv(part, [vector, self._counts])
