"""Waiting asleep, and sums in rank order, compared with local computations."""

import numpy as np
import pytest
from mpi4py import MPI

from gtcbmuf.base.partition import share
from gtcbmuf.mpi.collectives import PatientComm, RankOrderSum, complete, wait_for_any

WORLD = MPI.COMM_WORLD


@pytest.mark.parametrize("length", [0, 1, 5, 1000])
def test_a_sum_equals_a_loop_over_ranks(length: int) -> None:
    vectors = [
        np.random.default_rng(rank).standard_normal(length).astype(np.float32)
        for rank in range(WORLD.size)
    ]
    expected = vectors[0].copy()
    for vector in vectors[1:]:
        expected += vector
    parts = RankOrderSum(WORLD, length)
    assert (parts.mine.start, parts.mine.stop) == share(length, WORLD.size, WORLD.rank)
    for _ in range(2):
        part = parts.scatter(vectors[WORLD.rank])
        assert part.tobytes() == expected[parts.mine].tobytes()
        total = np.empty(length, np.float32)
        parts.gather(part, total)
        assert total.tobytes() == expected.tobytes()


@pytest.mark.parametrize("comm", [WORLD, PatientComm(WORLD)], ids=["polling", "asleep"])
def test_requests_complete_in_any_order(comm: MPI.Comm) -> None:
    others = [rank for rank in range(comm.size) if rank != comm.rank]
    numbers = np.zeros(comm.size, np.int64)
    receiving = [comm.Irecv(numbers[rank : rank + 1], rank, 3) for rank in others]
    sending = [comm.Isend(np.array([10 + comm.rank]), rank, 3) for rank in others]
    status, arrived = MPI.Status(), []
    for _ in others:
        rank = others[wait_for_any(comm, receiving, status)]
        assert status.Get_source() == rank
        assert numbers[rank] == 10 + rank
        arrived.append(rank)
    complete(comm, sending)
    assert sorted(arrived) == others
