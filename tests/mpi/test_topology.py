"""Groups, hosts, and errors that all ranks raise."""

import time
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from gtcbmuf.base.errors import UserError
from gtcbmuf.mpi.hosts import by_host, host_of_rank
from gtcbmuf.mpi.job import CollectiveError, ReplicaError, agree, check_replicas, on_root
from gtcbmuf.mpi.topology import Topology, in_turn, is_first_of_host

WORLD = MPI.COMM_WORLD
LAST = WORLD.size - 1


def test_groups_are_consecutive_ranks(topology: Topology) -> None:
    size = topology.group.size
    assert topology.groups * size == WORLD.size
    first = WORLD.rank // size * size
    assert topology.group.allgather(WORLD.rank) == list(range(first, first + size))


def test_ranks_that_share_memory_have_one_host() -> None:
    assert host_of_rank(WORLD) == [MPI.Get_processor_name()] * WORLD.size
    assert is_first_of_host(WORLD) == (WORLD.rank == 0)


def test_workers_of_a_host_get_consecutive_ranks() -> None:
    hosts = [f"host{rank % 3}" for rank in range(WORLD.size)]
    comm = by_host(WORLD, hosts)
    ranks = comm.allgather(WORLD.rank)
    assert ranks == [rank for first in range(3) for rank in range(first, WORLD.size, 3)]
    comm.Free()


@pytest.mark.parametrize("size", [True, 1.0, "1", None])
def test_a_group_size_that_is_no_integer_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match=r"^group size .*: expected an integer$"):
        Topology(WORLD, size)


def test_a_group_size_may_be_an_integer_of_numpy() -> None:
    topology = Topology(WORLD, np.int64(1))  # type: ignore[arg-type]
    assert (topology.group.size, topology.groups) == (1, WORLD.size)
    topology.free()


def test_a_group_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        Topology(WORLD, WORLD.size + 1)


def test_broadcast_copies_the_bits_of_rank_0(topology: Topology) -> None:
    vector = np.full(100, WORLD.rank, np.float32)
    topology.broadcast(vector)
    assert not vector.any()


def test_an_error_on_one_rank_is_raised_on_all() -> None:
    def fail_on_the_last() -> int:
        if WORLD.rank == LAST:
            raise UserError(f"rank {WORLD.rank} cannot")
        return 1

    with pytest.raises(CollectiveError, match=f"rank {LAST} cannot") as error_info:
        agree(WORLD, fail_on_the_last)
    assert error_info.value.status == 2
    assert agree(WORLD, lambda: WORLD.rank) == WORLD.rank


def test_all_ranks_get_the_result_of_rank_0() -> None:
    assert on_root(WORLD, lambda: f"rank {WORLD.rank}") == "rank 0"

    def fail() -> None:
        raise UserError("no")

    with pytest.raises(CollectiveError, match="no"):
        on_root(WORLD, fail)


def test_turns_do_not_overlap() -> None:
    # On one host, rank 0 runs alone, and all other ranks run after it.
    begin_and_end: list[float] = []

    def work() -> None:
        begin_and_end.append(time.monotonic())
        sum(range(20000))
        begin_and_end.append(time.monotonic())

    in_turn(WORLD, work)
    times = WORLD.allgather(begin_and_end)
    assert all(begin >= times[0][1] for begin, _ in times[1:])


def test_replicas_that_differ_in_one_bit_are_named() -> None:
    vector = np.zeros(1000, np.float32)
    check_replicas(WORLD, vector, "equal")
    if LAST == 0:
        return
    if WORLD.rank == LAST:
        vector.view(np.uint32)[500] ^= 1
    message = rf"thing: the replicas of ranks \[{LAST}\]"
    with pytest.raises(ReplicaError, match=message) as error_info:
        check_replicas(WORLD, vector, "thing")
    assert error_info.value.status == 1


def test_minus_zero_differs_from_zero() -> None:
    if LAST == 0:
        return
    vector = np.zeros(10, np.float32)
    if WORLD.rank == LAST:
        vector[3] = -0.0
    with pytest.raises(ReplicaError):
        check_replicas(WORLD, vector, "signed zero")
