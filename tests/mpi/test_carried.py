"""Communicators of workers that ranks carry, for any number of ranks."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from gtcbmuf.mpi import shared_memory
from gtcbmuf.mpi.carried import background, carry, is_first_in_process, per_process
from gtcbmuf.mpi.job import CollectiveError
from gtcbmuf.mpi.shared_memory import hosts_of
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
EACH = 6
WORKERS = EACH * WORLD.size


def on_workers(do: Callable[[Any], Any], workers: int = WORKERS) -> list[Any]:
    """Call a function on workers that all ranks carry, and return the results by rank."""
    return carry(WORLD, workers, lambda world: world.allgather(do(world)))


def vector(rank: int) -> np.ndarray:
    return np.random.default_rng(rank).normal(size=7).astype(np.float32) * 10.0 ** (rank % 5)


def test_ranks_are_consecutive() -> None:
    assert on_workers(lambda world: (world.rank, world.size)) == [
        (rank, WORKERS) for rank in range(WORKERS)
    ]


def test_objects_of_all_workers_are_reduced_and_gathered() -> None:
    def collectives(world: Any) -> tuple[Any, ...]:
        return (
            world.allreduce(world.rank),
            world.allreduce(float(world.rank % 5), MPI.MAX),
            world.gather(str(world.rank), root=1),
            world.bcast({"rank": world.rank}, root=WORKERS - 1),
        )

    for rank, (total, largest, gathered, cast) in enumerate(on_workers(collectives)):
        assert (total, largest) == (WORKERS * (WORKERS - 1) // 2, 4.0)
        assert gathered == ([str(r) for r in range(WORKERS)] if rank == 1 else None)
        assert cast == {"rank": WORKERS - 1}


def test_sums_of_floats_are_in_the_order_of_the_workers() -> None:
    def add(world: Any) -> np.ndarray:
        total = np.empty(7, np.float32)
        world.Allreduce(vector(world.rank), total)
        return total

    expected = reduce(np.add, map(vector, range(WORKERS)))
    assert all(total.tobytes() == expected.tobytes() for total in on_workers(add))


def test_arrays_are_copied_when_they_are_passed() -> None:
    """A worker may change its array as soon as a collective returns."""

    def pass_on(world: Any) -> tuple[np.ndarray, ...]:
        own, cast = vector(world.rank), vector(world.rank)
        rows, joined = np.empty((WORKERS, 7), np.float32), np.empty(7 * WORKERS, np.float32)
        largest = np.array([world.rank, -world.rank])
        world.Allgather(own, rows)
        own[:] = 0
        own = vector(world.rank)
        world.Allgatherv(own, [joined, [7] * WORKERS])
        own[:] = 0
        parts, received = np.outer(np.arange(WORKERS), [1, world.rank]), np.zeros((WORKERS, 2), int)
        world.Alltoall(parts, received)
        parts[:] = 0
        assert received.tolist() == [[world.rank, world.rank * r] for r in range(WORKERS)]
        world.Bcast(cast, root=2)
        sent = cast.copy()
        cast[:] = 0
        world.Allreduce(MPI.IN_PLACE, largest, MPI.MAX)
        return rows, joined, sent, largest

    expected = np.stack([vector(rank) for rank in range(WORKERS)])
    for rows, joined, sent, largest in on_workers(pass_on):
        assert rows.tobytes() == joined.tobytes() == expected.tobytes()
        assert sent.tobytes() == expected[2].tobytes()
        assert largest.tolist() == [WORKERS - 1, 0]


@pytest.mark.parametrize("group_size", [1, 2, 3, EACH, WORKERS])
def test_groups_may_span_ranks(group_size: int) -> None:
    def talk(world: Any) -> tuple[Any, ...]:
        topology = Topology(world, group_size)
        group = topology.group
        members = group.allgather(world.rank)
        total = np.empty(7, np.float32)
        group.Allreduce(vector(world.rank), total)
        array = hosts_of(group).array((group_size,), np.int64)
        array[group.rank] = world.rank
        hosts_of(group).barrier()
        shared = array.tolist()
        hosts_of(group).barrier()
        topology.free()
        return members, shared, total, is_first_in_process(group)

    results = on_workers(talk)
    for rank, (members, shared, total, is_first) in enumerate(results):
        first = rank // group_size * group_size
        expected = list(range(first, first + group_size))
        assert members == shared == expected
        assert total.tobytes() == reduce(np.add, map(vector, expected)).tobytes()
        assert is_first == (rank % EACH == 0 or rank == first)


def test_workers_can_be_split_in_any_order() -> None:
    def split(world: Any) -> list[int] | None:
        color = MPI.UNDEFINED if world.rank == 0 else world.rank % 2
        part = world.Split(color, -world.rank if WORLD.size == 1 else world.rank)
        return None if part == MPI.COMM_NULL else part.allgather(world.rank)

    none, *parts = on_workers(split)
    assert none is None
    for rank, part in enumerate(parts, start=1):
        members = [r for r in range(1, WORKERS) if r % 2 == rank % 2]
        assert part == (members[::-1] if WORLD.size == 1 else members)


def test_a_function_runs_once_in_each_process() -> None:
    calls = []

    def call(world: Any) -> tuple[int, bool]:
        result = per_process(world, lambda comm: calls.append(comm.size) or calls)
        return len(result), result is calls

    assert on_workers(call) == [(1, True)] * WORKERS
    assert calls == [WORLD.size]


def test_what_runs_behind_has_collectives() -> None:
    def sum_behind(world: Any) -> int:
        later = background(world, "sum").submit(world.allreduce, world.rank)
        world.Barrier()
        return later.result()

    assert on_workers(sum_behind) == [WORKERS * (WORKERS - 1) // 2] * WORKERS


def test_an_error_that_all_workers_raise_reaches_all_ranks() -> None:
    ended = []

    def fail(world: Any) -> None:
        try:
            world.Barrier()
            raise CollectiveError("no")
        finally:
            ended.append(world.rank)

    with pytest.raises(CollectiveError, match="no"):
        carry(WORLD, WORKERS, fail)
    assert len(ended) == EACH


def test_an_error_of_one_worker_ends_the_others() -> None:
    ended = []

    def fail(world: Any) -> None:
        try:
            if world.rank % EACH == 3:
                raise ArithmeticError
            world.Barrier()
        finally:
            ended.append(world.rank)

    with pytest.raises(ArithmeticError):
        carry(WORLD, WORKERS, fail)
    assert len(ended) == 4  # the others had not begun


def test_an_error_in_what_a_process_does_is_raised_by_all_its_workers() -> None:
    def fail(comm: Any) -> None:
        raise CollectiveError(f"{comm.size} ranks")

    with pytest.raises(CollectiveError, match=f"{WORLD.size} ranks"):
        carry(WORLD, WORKERS, lambda world: per_process(world, fail))


def test_a_worker_for_each_rank_is_a_rank() -> None:
    assert carry(WORLD, WORLD.size, lambda world: world is WORLD)


@pytest.mark.parametrize("workers", [0, -WORLD.size, WORLD.size + 1])
def test_other_numbers_of_workers_are_refused(workers: int) -> None:
    if WORLD.size == 1 and workers == 2:
        return
    with pytest.raises(CollectiveError, match=f"^--workers {workers}: expected "):
        carry(WORLD, workers, lambda world: None)


def test_ranks_of_several_hosts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if WORLD.size == 1:
        return
    monkeypatch.setattr("gtcbmuf.mpi.carried.host_of_rank", lambda comm: [*"ab", *"b" * 6])
    with pytest.raises(CollectiveError, match="this job has 2 hosts; expected one"):
        carry(WORLD, WORKERS, lambda world: None)


def test_ranks_that_carry_workers_must_share_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    if WORLD.size == 1:
        return
    monkeypatch.setattr(shared_memory, "share_memory", lambda comm, size: None)
    with pytest.raises(CollectiveError, match=r": the ranks cannot share memory .*expected one ra"):
        carry(WORLD, WORKERS, lambda world: Topology(world, 1))
