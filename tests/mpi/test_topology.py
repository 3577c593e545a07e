"""Groups, leaders, and errors that all ranks share."""

import time

import numpy as np
import pytest
from mpi4py import MPI

from gtcbmuf.base.errors import UserError
from gtcbmuf.mpi.job import CollectiveError, ReplicaError, agree, check_replicas, on_root
from gtcbmuf.mpi.topology import Topology, by_host, in_turn

WORLD = MPI.COMM_WORLD
LAST = WORLD.size - 1


def test_groups_are_consecutive_ranks(topology: Topology) -> None:
    size = topology.group.size
    assert topology.groups * size == WORLD.size
    first = WORLD.rank // size * size
    assert topology.group.allgather(WORLD.rank) == list(range(first, first + size))


def test_peers_have_the_same_rank_in_every_group(topology: Topology) -> None:
    size = topology.group.size
    same = list(range(WORLD.rank % size, WORLD.size, size))
    assert topology.peers.allgather(WORLD.rank) == same
    assert topology.peers.rank == WORLD.rank // size


def test_workers_of_a_host_follow_each_other_whatever_the_launcher_did() -> None:
    hosts = [f"host{rank % 3}" for rank in range(WORLD.size)]
    ordered = by_host(WORLD, hosts)
    ranks = ordered.allgather(WORLD.rank)
    assert ranks == [rank for first in range(3) for rank in range(first, WORLD.size, 3)]
    ordered.Free()


def test_a_group_size_that_does_not_divide() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        Topology(WORLD, WORLD.size + 1)


def test_broadcast_gives_everyone_the_bits_of_rank_0(topology: Topology) -> None:
    vector = np.full(100, WORLD.rank, np.float32)
    topology.broadcast(vector)
    assert not vector.any()


def test_one_ranks_error_is_everyones() -> None:
    def fail_on_the_last() -> int:
        if WORLD.rank == LAST:
            raise UserError(f"rank {WORLD.rank} cannot")
        return 1

    with pytest.raises(CollectiveError, match=f"rank {LAST} cannot") as caught:
        agree(WORLD, fail_on_the_last)
    assert caught.value.status == 2
    assert agree(WORLD, lambda: WORLD.rank) == WORLD.rank


def test_only_the_root_does_it_and_all_get_it() -> None:
    assert on_root(WORLD, lambda: f"done by {WORLD.rank}") == "done by 0"

    def fail() -> None:
        raise UserError("no")

    with pytest.raises(CollectiveError, match="no"):
        on_root(WORLD, fail)


def test_turns_do_not_overlap() -> None:
    # On one host: rank 0 alone, and everyone else after it.
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
    with pytest.raises(ReplicaError, match=rf"thing: the replicas of ranks \[{LAST}\]") as caught:
        check_replicas(WORLD, vector, "thing")
    assert caught.value.status == 1


def test_minus_zero_is_another_replica() -> None:
    if LAST == 0:
        return
    vector = np.zeros(10, np.float32)
    if WORLD.rank == LAST:
        vector[3] = -0.0
    with pytest.raises(ReplicaError):
        check_replicas(WORLD, vector, "signed zero")
