"""Memory that ranks share, the barrier in it, and what happens where it cannot be had."""

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray
from support.placements import placements

from gtcbmuf.core.algorithm import GTCExchange
from gtcbmuf.mpi import host_barrier
from gtcbmuf.mpi.host_barrier import HostBarrier
from gtcbmuf.mpi.shared_memory import Hosts, hosts_of, hosts_with_shared_memory, share_memory
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
LAST = WORLD.size - 1


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    topology = Topology(WORLD, WORLD.size)
    yield hosts_of(topology.world)
    topology.free()


def test_an_array_is_one_for_all_ranks_of_a_host(hosts: Hosts) -> None:
    arrays = [hosts.array((WORLD.size, 3), np.float32), hosts.array((WORLD.size, 3), np.float32)]
    assert not any(array.any() for array in arrays)
    WORLD.Barrier()
    arrays[0][WORLD.rank] = WORLD.rank + 1
    WORLD.Barrier()
    assert arrays[0].tolist() == [[rank + 1] * 3 for rank in range(WORLD.size)]
    assert not arrays[1].any()


@pytest.mark.parametrize("names", placements(WORLD.size), ids="".join)
def test_lanes_join_a_rank_of_every_host(names: list[str]) -> None:
    topology = Topology(WORLD, WORLD.size, names)
    hosts = hosts_of(topology.world)
    assert hosts is hosts_of(topology.world)
    here = [rank for rank, name in enumerate(names) if name == names[WORLD.rank]]
    assert hosts.local.allgather(WORLD.rank) == here
    assert hosts.count == len(set(names))
    assert hosts.lanes == min(names.count(name) for name in names)
    assert (hosts.lane == MPI.COMM_NULL) == (here.index(WORLD.rank) >= hosts.lanes)
    if hosts.lane != MPI.COMM_NULL:
        lane = hosts.lane.allgather(WORLD.rank)
        assert len(lane) == hosts.count == len({names[rank] for rank in lane})
    topology.free()


def test_a_topology_needs_a_host_for_each_rank() -> None:
    with pytest.raises(ValueError, match=f"{WORLD.size + 1} hosts for {WORLD.size} workers"):
        Topology(WORLD, WORLD.size, ["a"] * (WORLD.size + 1))


# Where memory cannot be shared


def fail_to_make(*arguments: object) -> int:
    raise OSError(errno.ENOSYS, "not implemented")


def fail_to_open(path: Any, *arguments: Any, open_file: Callable[..., int] = os.open) -> int:
    if WORLD.rank == LAST and str(path).startswith("/proc/"):
        raise PermissionError(errno.EACCES, "in another container")
    return open_file(path, *arguments)


def updates(topology: Topology) -> NDArray[np.float32]:
    """Updates of some steps of GTC, which sums over the hosts."""
    exchange, total = GTCExchange(topology.group, 300, 0.5), np.zeros(300, np.float32)
    for step in range(3):
        gradient = np.random.default_rng([step, WORLD.rank]).standard_normal(300)
        exchange(gradient.astype(np.float32)).add_to(total, 0.1)
    return total


@pytest.mark.parametrize(
    ("name", "function"),
    [("memfd_create", fail_to_make), ("memfd_create", None), ("open", fail_to_open)],
)
def test_ranks_that_cannot_share_memory_send_messages(
    name: str,
    function: Callable[..., int] | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    topology = Topology(WORLD, WORLD.size)
    expected = updates(topology)
    topology.free()
    capsys.readouterr()

    if function:
        monkeypatch.setattr(os, name, function)
    else:
        monkeypatch.delattr(os, name)
    topology = Topology(WORLD, WORLD.size)
    monkeypatch.undo()
    line, host = capsys.readouterr().err, MPI.Get_processor_name()
    if WORLD.size == 1:  # which shares with nobody
        assert line == ""
        assert hosts_with_shared_memory(topology.world) == [host]
    else:
        assert hosts_of(topology.world).count == WORLD.size
        assert len(set(hosts_with_shared_memory(topology.world))) == WORLD.size
        first = f"gtcbmuf: {host}: the ranks cannot share memory"
        assert line.startswith(first) if WORLD.rank == 0 else line == ""
        assert line.count("\n") == (WORLD.rank == 0)
    assert updates(topology).tobytes() == expected.tobytes()
    topology.free()


def test_no_memory_is_shared_unless_all_ranks_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = share_memory(WORLD, 100)
    assert memory is not None
    assert bytes(memory[:100]) == bytes(100)
    monkeypatch.setattr(os, "open", fail_to_open)
    files = os.listdir("/proc/self/fd")
    assert (share_memory(WORLD, 100) is None) == (WORLD.size > 1)
    assert len(os.listdir("/proc/self/fd")) == len(files)


# Barriers


def mpi_barrier(hosts: Hosts) -> Callable[[], object]:
    return hosts.local.Barrier


def barrier_in_memory(hosts: Hosts) -> Callable[[], object]:
    return HostBarrier(hosts.local, hosts.array((2,), np.int64))


@pytest.mark.parametrize("make", [mpi_barrier, barrier_in_memory])
def test_no_rank_leaves_a_barrier_before_all_have_come(
    hosts: Hosts, make: Callable[[Hosts], Callable[[], object]]
) -> None:
    barrier, rounds = make(hosts), hosts.array((WORLD.size,), np.int64)
    stream = np.random.default_rng(WORLD.rank)
    for number in range(1, 201):
        sum(range(stream.integers(2000)))
        rounds[WORLD.rank] = number
        barrier()
        seen = rounds.tolist()
        # A rank that has left already may have come to the next barrier, but no further.
        assert number <= min(seen) <= max(seen) <= number + 1, seen


def test_the_barrier_works_without_its_system_call(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_barrier, "_FUTEX", {})
    barrier, rounds = barrier_in_memory(hosts), hosts.array((WORLD.size,), np.int64)
    for number in range(1, 21):
        rounds[WORLD.rank] = number
        barrier()
        assert rounds.min() >= number


def test_messages_arrive_while_a_rank_waits(hosts: Hosts) -> None:
    """A message longer than MPI's buffers needs calls of MPI on both sides."""
    barrier, numbers = barrier_in_memory(hosts), np.full(2**20, WORLD.rank, np.int64)
    request = WORLD.Isend(numbers, (WORLD.rank + 1) % WORLD.size, 7)
    if WORLD.rank == 0:
        received = np.empty_like(numbers)
        WORLD.Recv(received, LAST, 7)
        assert (received == LAST).all()
    barrier()
    if WORLD.rank != 0:
        received = np.empty_like(numbers)
        WORLD.Recv(received, WORLD.rank - 1, 7)
        assert (received == WORLD.rank - 1).all()
    request.Wait()
