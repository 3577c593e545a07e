"""Sums of integers over ranks: on every host first, then between the hosts.

A sum of integers is exact. So its bits depend on no order, and every rank may add up the part of
the sum that it can best reach.
"""

from collections.abc import Callable

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Integers
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.partition import share
from gtcbmuf.core import kernels, wire
from gtcbmuf.core.meter import Meter
from gtcbmuf.mpi import launcher
from gtcbmuf.mpi.collectives import PatientComm, complete, wait_for_any
from gtcbmuf.mpi.shared_memory import hosts_of

#: Numbers in a cache line of bytes: no two ranks write to the same one.
_LINE = 64
_TAG = 1


class MessageError(UserError):
    """A message differs from the one that its sender wrote: memory or a network is at fault."""

    status = 1

    def __init__(self, rank: int, error: wire.WireError) -> None:
        super().__init__(f"a damaged message from rank {rank}: {error}")


class IntegerSum:
    """Sums vectors of integers over the ranks of a communicator.

    Every rank writes its numbers to a row. `reduce` sums the part `mine` of all rows: over the
    host's rows in shared memory, then over all hosts in coded messages (`gtcbmuf.core.wire`). Each
    host has a rank for every part. `finish` waits for the other ranks of the host.

    Between h hosts, every rank exchanges messages with the h - 1 ranks of its lane twice: first it
    receives what it adds up, a share of its part, then it sends the sum. So a rank decodes no more
    than two parts of the model. Two hosts exchange their whole parts at once.

    Args:
        comm: the ranks.
        length: n, number of integers in a row.
        bound: largest size of an integer: 1, or up to 32,767.
        sharers: number of consecutive ranks that fill one row together, each writing a part.
        meter: counts the bytes that leave this rank's host.
        patient: sleep instead of polling while waiting.

    Attributes:
        row: this rank's row: (n,) uint8 with integers plus 1 if the bound is 1, else (n,) int16.
        mine: the part that this rank sums, as a slice.

    Raises:
        ValueError: a sum would not fit into 32 bits.

    Examples:
        >>> sums = IntegerSum(MPI.COMM_SELF, 4, bound=1)
        >>> sums.row[:] = [1, 0, 2, 1]
        >>> sums.reduce(unit=0.5, tally=(2, 0)).tolist()
        [0, -1, 1, 0]
        >>> sums.finish().tolist()
        [2, 0]
    """

    def __init__(
        self,
        comm: MPI.Comm,
        length: int,
        bound: int,
        *,
        sharers: int = 1,
        meter: Meter | None = None,
        patient: bool = False,
    ) -> None:
        rows = comm.size // sharers
        largest = rows * bound
        if largest >= 2**31:
            raise ValueError(f"a sum of {rows:,} integers up to {bound:,} does not fit in 32 bits")
        self.hosts = hosts_of(comm)
        patient |= launcher.is_crowded()  # a rank that polls would take a core from others
        self._barrier = self.hosts.patient_barrier if patient else self.hosts.barrier
        self._meter = meter or Meter()
        local, lanes = self.hosts.local, self.hosts.lanes
        owners = local.allgather(comm.rank // sharers)
        names = sorted(set(owners))
        padded = -(-length // _LINE) * _LINE
        dtype = np.uint8 if bound == 1 else np.int16
        self._rows = self.hosts.array((len(names), padded), dtype)
        self.row = self._rows[names.index(comm.rank // sharers), :length]
        if bound == 1:
            self.row[:] = 1
        first, end = share(padded // _LINE, lanes, local.rank) if local.rank < lanes else (0, 0)
        self.mine = slice(first * _LINE, max(first * _LINE, min(end * _LINE, length)))
        self._values = np.zeros(self.mine.stop - self.mine.start, np.int32)
        self._scratch = np.zeros(-(-self._values.size // 8), np.uint64)
        self._tallies = self.hosts.array((local.size + 1, wire.TALLY), np.int64)
        lane = self.hosts.lane
        self._between = (
            _SumBetweenHosts(PatientComm(lane) if patient else lane, self._values.size, largest)
            if self.hosts.count > 1 and lane != MPI.COMM_NULL
            else None
        )

    def reduce(self, unit: float, tally: tuple[int, int]) -> Integers:
        """Sum the part `mine` over all ranks; collective. `finish` must follow.

        Args:
            unit: the value of 1, the same on all ranks.
            tally: two integers that are summed along.

        Returns:
            The sums, int32, valid until the next call.

        Raises:
            MessageError: a message cannot be read; names its sender.
        """
        local, values = self.hosts.local, self._values
        self._tallies[local.rank] = tally
        self._barrier()
        if self.row.dtype == np.uint8:
            words, scratch = self._rows.view(np.uint64), self._scratch
            kernels.sum_signs(words, self.mine.start // 8, scratch, scratch.view(np.uint8), values)
        else:
            kernels.sum_rows(self._rows, self.mine.start, values)
        if self._between or local.rank == 0:
            total = self._tallies[:-1].sum(axis=0)
            if self._between:
                total = self._between(values, unit, total)
                self._meter.bytes_sent += self._between.bytes_of_call
            if local.rank == 0:
                self._tallies[-1] = total
        return values

    def finish(self) -> NDArray[np.int64]:
        """Wait until all ranks of the host have called; collective.

        Returns:
            The sum of all tallies, (2,), valid until the next call of `reduce`.
        """
        self._barrier()
        total: NDArray[np.int64] = self._tallies[-1]
        return total


class _SumBetweenHosts:
    """Sums a vector of integers over the ranks of a lane, one for each host.

    Args:
        lane: the ranks.
        length: number of integers.
        bound: largest size of a sum.

    Attributes:
        bytes_of_call: bytes that this rank sent in the last call.
    """

    def __init__(self, lane: MPI.Comm, length: int, bound: int) -> None:
        self._lane, self._bound = lane, bound
        # Each of two hosts sums everything: a second round would take longer than the additions.
        self._two_rounds = lane.size > 2
        sharers = lane.size if self._two_rounds else 1
        shares = [slice(*share(length, sharers, rank % sharers)) for rank in range(lane.size)]
        self._shares = shares
        sizes = [wire.max_words(part.stop - part.start, bound) for part in shares]
        here = sizes[lane.rank]
        # Words for the shares that go to the others, and for their parts of this rank's share.
        self._outgoing = [np.zeros(size, np.uint32) for size in sizes]
        self._incoming = [np.zeros(here, np.uint32) for _ in sizes]
        self._sums = [np.zeros(size, np.uint32) for size in sizes if self._two_rounds]
        self._others = [(lane.rank + i) % lane.size for i in range(1, lane.size)]
        self._coder = wire.Coder(max(part.stop - part.start for part in shares))
        self.bytes_of_call = 0

    def __call__(
        self, values: Integers, unit: float, tally: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Replace values by their sums, and return the sum of the tallies; collective."""
        lane, total = self._lane, tally.copy()
        mine = values[self._shares[lane.rank]]
        receiving = [lane.Irecv(self._incoming[rank], rank, _TAG) for rank in self._others]
        messages = [
            self._coder.encode(values[self._shares[rank]], unit, tally, self._outgoing[rank])
            for rank in self._others
        ]
        sending = [
            lane.Isend(message, rank, _TAG)
            for message, rank in zip(messages, self._others, strict=True)
        ]
        self.bytes_of_call = sum(message.nbytes for message in messages)

        def add_part(rank: int, words: NDArray[np.uint32]) -> None:
            nonlocal total
            total += self._coder.add(words, unit, self._bound, mine)

        self._receive(receiving, self._incoming, add_part, sending)
        if not self._two_rounds:
            return total

        receiving = [lane.Irecv(self._sums[rank], rank, _TAG) for rank in self._others]
        message = self._coder.encode(mine, unit, tally, self._outgoing[lane.rank])
        sending = [lane.Isend(message, rank, _TAG) for rank in self._others]
        self.bytes_of_call += message.nbytes * len(self._others)

        def add_sum(rank: int, words: NDArray[np.uint32]) -> None:
            part = values[self._shares[rank]]
            part[:] = 0
            self._coder.add(words, unit, self._bound, part)

        self._receive(receiving, self._sums, add_sum, sending)
        return total

    def _receive(
        self,
        receiving: list[MPI.Request],
        buffers: list[NDArray[np.uint32]],
        add: Callable[[int, NDArray[np.uint32]], None],
        sending: list[MPI.Request],
    ) -> None:
        """Add the others' messages in the order of their arrival, and end a round."""
        status, fault = MPI.Status(), None
        for _ in receiving:
            rank = self._others[wait_for_any(self._lane, receiving, status)]
            try:
                add(rank, buffers[rank][: status.Get_count(MPI.UINT32_T)])
            except wire.WireError as error:
                fault = fault or MessageError(self._world_rank(rank), error)
        complete(self._lane, sending)
        # Not before: MPI would write a later message to memory that an error has freed.
        if fault:
            raise fault

    def _world_rank(self, rank: int) -> int:
        world, lane = MPI.COMM_WORLD.Get_group(), self._lane.Get_group()
        return MPI.Group.Translate_ranks(lane, [rank], world)[0]
