"""Messages of any size and sums in rank order, compared with local computations."""

from unittest import mock

import numpy as np
import pytest
from mpi4py import MPI

from gtcbmuf.base.partition import share
from gtcbmuf.mpi.collectives import MessageGather, RankOrderSum

WORLD = MPI.COMM_WORLD
LONGEST = 5000


def message(call: int, rank: int, largest: int) -> np.ndarray:
    stream = np.random.default_rng([call, rank])
    size = stream.integers(0, largest + 1) if stream.random() < 0.9 else 0
    return stream.integers(0, 2**32, size, np.uint32)


def words_of(rows: np.ndarray) -> list[np.ndarray]:
    return [row[1 : 1 + row[0]] for row in rows]


def test_messages_arrive_complete_and_in_order() -> None:
    gather = MessageGather(WORLD, LONGEST)
    for call, largest in enumerate([0, 3, 14, 15, 16, 17, 900, 1000, 10, 0, LONGEST, LONGEST, 7]):
        rows, sent = gather(message(call, WORLD.rank, largest))
        messages = words_of(rows)
        assert len(messages) == WORLD.size
        for rank, words in enumerate(messages):
            np.testing.assert_array_equal(words, message(call, rank, largest))
        assert sent >= 1 + messages[WORLD.rank].size


def test_a_full_message_fits() -> None:
    gather = MessageGather(WORLD, LONGEST)
    for _ in range(3):
        rows, sent = gather(np.full(LONGEST, WORLD.rank, np.uint32))
        assert [set(words) for words in words_of(rows)] == [{rank} for rank in range(WORLD.size)]
    assert sent == LONGEST + 1


def test_similar_sizes_need_one_collective() -> None:
    """A message that has grown by more than an eighth needs a second collective."""
    comm = mock.MagicMock(wraps=WORLD, size=WORLD.size, rank=WORLD.rank)
    gather = MessageGather(comm, LONGEST)
    calls = []
    for size in (800, 820, 900, 700, 780, 1100, 1200):
        gather(np.zeros(size, np.uint32))
        calls.append(comm.Allgatherv.call_count)
    assert calls == [1, 1, 1, 1, 1, 2, 2]
    assert comm.Allgather.call_count == 7


def test_a_message_beyond_the_longest_is_refused() -> None:
    gather = MessageGather(WORLD, LONGEST)
    words = np.zeros(LONGEST + 1 if WORLD.rank == 0 else 1, np.uint32)
    with pytest.raises(ValueError, match=f"{LONGEST + 1} words"):
        gather(words)


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
