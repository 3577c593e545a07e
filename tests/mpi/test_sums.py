"""Sums of integers: the same on every rank, wherever the ranks are."""

from collections.abc import Iterator

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray
from support.placements import placements

from gtcbmuf.base.partition import share
from gtcbmuf.core import wire
from gtcbmuf.core.meter import Meter
from gtcbmuf.core.sums import IntegerSum, MessageError
from gtcbmuf.mpi.collectives import wait_for_any
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
LAST = WORLD.size - 1


@pytest.fixture(scope="module", params=placements(WORLD.size), ids="".join)
def topology(request: pytest.FixtureRequest) -> Iterator[Topology]:
    """A topology of each way to place the ranks on hosts."""
    topology = Topology(WORLD, WORLD.size, request.param)
    yield topology
    topology.free()


def integers(call: int, row: int, n: int, bound: int) -> NDArray[np.int64]:
    """A row: dense in the first call, then sparse, zeros, and all of the largest size."""
    stream = np.random.default_rng([call, row])
    match call:
        case 0:
            return stream.integers(-bound, bound + 1, n)
        case 1:
            size = min(bound, 3)
            return np.where(stream.random(n) < 0.05, stream.integers(-size, size + 1, n), 0)
        case 2:
            return np.zeros(n, np.int64)
    return np.full(n, -bound if call % 2 else bound)


def fill(sums: IntegerSum, part: slice, numbers: NDArray[np.int64]) -> None:
    sums.row[part] = numbers[part] + (sums.row.dtype == np.uint8)


@pytest.mark.parametrize(
    ("n", "bound"), [(1, 1), (63, 1), (64, 1), (65, 1), (1000, 1), (1, 32767), (1000, 32767)]
)
def test_the_sum_is_that_of_all_rows(topology: Topology, n: int, bound: int) -> None:
    sums = IntegerSum(topology.world, n, bound)
    local = sums.hosts.local
    for call in range(5):
        fill(sums, slice(None), integers(call, WORLD.rank, n, bound))
        values = sums.reduce(0.5, (WORLD.rank + call, -(2**40)))
        expected = sum(integers(call, row, n, bound) for row in range(WORLD.size))
        np.testing.assert_array_equal(values, expected[sums.mine])
        ranks = WORLD.size
        assert sums.finish().tolist() == [ranks * (ranks - 1) // 2 + ranks * call, -ranks * 2**40]
    # The parts of a host's ranks are the whole sum, each once.
    parts = local.allgather((sums.mine.start, sums.mine.stop))
    assert sorted(i for first, end in parts for i in range(first, end)) == list(range(n))


@pytest.mark.parametrize("n", [1, 300])
def test_a_row_may_be_filled_by_ranks_of_several_hosts(topology: Topology, n: int) -> None:
    sharers = max(WORLD.size // 2, 1)
    sums = IntegerSum(topology.world, n, 32767, sharers=sharers)
    row, worker = divmod(WORLD.rank, sharers)
    for call in (0, 1, 3):
        fill(sums, slice(*share(n, sharers, worker)), integers(call, row, n, 32767))
        values = sums.reduce(2.0, (1, 0))
        expected = sum(integers(call, r, n, 32767) for r in range(WORLD.size // sharers))
        np.testing.assert_array_equal(values, expected[sums.mine])
        assert sums.finish().tolist() == [WORLD.size, 0]


def test_the_meter_counts_the_bytes_that_leave_a_host(topology: Topology) -> None:
    n = 500
    sums = IntegerSum(topology.world, n, 1, meter=(meter := Meter()))
    fill(sums, slice(None), integers(1, WORLD.rank, n, 1))
    sums.reduce(1.0, (0, 0))
    sums.finish()
    hosts, lane = sums.hosts.count, sums.hosts.lane
    here = sums.hosts.local.allgather(WORLD.rank)
    if hosts == 1 or lane == MPI.COMM_NULL:
        assert meter.bytes_sent == 0
        return

    def size(values: NDArray[np.int64]) -> int:
        words = np.zeros(wire.max_words(values.size, WORLD.size), np.uint32)
        numbers = values.astype(np.int32)
        return wire.Coder(values.size).encode(numbers, 1.0, np.zeros(2, np.int64), words).nbytes

    of_host, of_all = (
        sum(integers(1, row, n, 1) for row in rows)[sums.mine] for rows in (here, range(WORLD.size))
    )
    if hosts == 2:  # one round, with whole parts
        assert meter.bytes_sent == size(of_host)
        return
    shares = [slice(*share(of_all.size, hosts, host)) for host in range(hosts)]
    first = sum(size(of_host[part]) for host, part in enumerate(shares) if host != lane.rank)
    assert meter.bytes_sent == first + (hosts - 1) * size(of_all[shares[lane.rank]])


def test_a_sum_beyond_32_bits_is_refused() -> None:
    bound = 2**31 // WORLD.size
    with pytest.raises(ValueError, match=f"{WORLD.size} integers up to .* not fit in 32 bits"):
        IntegerSum(WORLD, 4, bound)


@pytest.mark.skipif(WORLD.size == 1, reason="one rank gets no message")
@pytest.mark.parametrize("damaged", ["to a share", "of a sum"])
def test_a_damaged_message_names_its_sender(damaged: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if damaged == "of a sum" and WORLD.size == 2:
        pytest.skip("two hosts send no sums")
    topology = Topology(WORLD, WORLD.size, [str(rank) for rank in range(WORLD.size)])
    sums = IntegerSum(topology.world, 100, 1)
    # A rank encodes a message to every other rank, the next one first, and then its sum.
    of_sum, others = WORLD.size, "|".join(str(rank) for rank in {*range(WORLD.size)} - {WORLD.rank})
    number, sender = {
        "to a share": (1, str((WORLD.rank - 1) % WORLD.size)),
        "of a sum": (of_sum, f"({others})"),
    }[damaged]
    encode, calls = wire.Coder.encode, 0

    def encode_with_damage(*arguments: object) -> NDArray[np.uint32]:
        nonlocal calls
        calls += 1
        words = encode(*arguments)  # type: ignore[arg-type]
        words[2] += 1000 * (calls == number)
        return words

    monkeypatch.setattr(wire.Coder, "encode", encode_with_damage)
    received = 0

    def count_received(*arguments: object) -> int:
        nonlocal received
        received += 1
        return wait_for_any(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("gtcbmuf.core.sums.wait_for_any", count_received)
    with pytest.raises(
        MessageError, match=rf"a damaged message from rank {sender}: .* 1000 "
    ) as error:
        sums.reduce(1.0, (0, 0))
    assert error.value.status == 1
    # MPI would write a message that comes after the error to freed memory.
    assert received == (WORLD.size - 1) * (2 if damaged == "of a sum" else 1)
    topology.free()
