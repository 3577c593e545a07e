"""Overlapped exchanges give the bits of blocking ones, in any order of ready slices."""

import numpy as np
import pytest
from mpi4py import MPI

from gtcbmuf.core.algorithm import DenseExchange, GTCExchange
from gtcbmuf.core.checks import NotFiniteError
from gtcbmuf.core.meter import Meter
from gtcbmuf.core.overlap import SMALLEST, Overlapped, Slice, cut
from gtcbmuf.methods.top_k import TopKExchange
from gtcbmuf.mpi.collectives import PatientComm
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
N = 1000
BOUNDS = [(0, 10), (10, 11), (11, 400), (400, N)]
SLICES = [Slice(first, end, ((end - first,),)) for first, end in BOUNDS]


def gradient(step: int) -> np.ndarray:
    return np.random.default_rng([step, WORLD.rank]).standard_normal(N).astype(np.float32)


def test_overlap_gives_the_bits_of_the_blocking_exchange(topology: Topology) -> None:
    blocking_meter, meter = Meter(), Meter()
    blocking = DenseExchange(topology.group, N, blocking_meter, ordered=True)
    comm = PatientComm(topology.group)
    overlapped = Overlapped(
        SLICES,
        lambda part, meter: DenseExchange(comm, part.end - part.first, meter, ordered=True),
        meter,
    )
    expected, model = np.zeros(N, np.float32), np.zeros(N, np.float32)
    for step in range(6):
        blocking(gradient(step)).add_to(expected, -0.1)
        vector = gradient(step)
        # Every rank reports other parts as ready, like layers that do not end where slices end.
        for first in sorted(np.random.default_rng([step, WORLD.rank, 1]).integers(0, N, step))[
            ::-1
        ]:
            overlapped.ready(vector, int(first))
        overlapped(vector).add_to(model, -0.1)
        assert model.tobytes() == expected.tobytes()
    assert meter.updates_sent == blocking_meter.updates_sent
    assert meter.bytes_sent == blocking_meter.bytes_sent
    assert meter.seconds["communicate"] > 0


def test_a_restored_exchange_continues_with_the_same_bits(topology: Topology) -> None:
    before, after = (
        Overlapped(
            SLICES,
            lambda part, meter: TopKExchange(topology.group, part.end - part.first, 0.1, meter),
        )
        for _ in range(2)
    )
    for step in range(3):
        before(gradient(step))
    after.restore({name: array.copy() for name, array in before.state().items()})
    expected, model = np.zeros(N, np.float32), np.zeros(N, np.float32)
    before(gradient(3)).add_to(expected, 1)
    after(gradient(3)).add_to(model, 1)
    assert model.tobytes() == expected.tobytes()
    assert any(array.any() for array in after.state().values())
    after.forget()
    assert not any(array.any() for array in after.state().values())


def test_an_error_in_the_thread_is_raised(topology: Topology) -> None:
    class Failing(DenseExchange):
        def __call__(self, gradient: np.ndarray) -> None:
            raise ArithmeticError("in the thread")

    slices = [Slice(0, N, ((N,),))]
    overlapped = Overlapped(slices, lambda part, meter: Failing(topology.group, N, meter))
    with pytest.raises(ArithmeticError, match="in the thread"):
        overlapped(gradient(0))


def test_after_a_bad_gradient_a_restored_exchange_goes_on() -> None:
    def build() -> Overlapped:
        return Overlapped(
            SLICES,
            lambda part, meter: GTCExchange(MPI.COMM_SELF, part.end - part.first, 1.0, meter),
        )

    exchange, other = build(), build()
    for one in (exchange, other):
        one(gradient(0))
    before = {name: array.copy() for name, array in exchange.state().items()}
    bad = gradient(1)
    bad[0] = np.nan  # in the slice that is exchanged last
    with pytest.raises(NotFiniteError):
        exchange(bad)
    exchange.restore(before)
    updates = []
    for one in (exchange, other):
        updates.append(np.zeros(N, np.float32))
        one(gradient(2)).add_to(updates[-1], 1)
    np.testing.assert_array_equal(*updates)


def bounds(*sizes: int) -> list[tuple[int, int]]:
    """Return the bounds of the slices of a model with arrays of these sizes."""
    slices = cut([(size,) for size in sizes])
    assert [size for part in slices for (size,) in part.shapes] == list(sizes)
    return [(part.first, part.end) for part in slices]


def test_small_layers_join_the_layer_before_them() -> None:
    big, small = 2 * SMALLEST, SMALLEST // 4
    assert bounds(big) == [(0, big)]
    assert bounds(big, big) == [(0, big), (big, 2 * big)]
    assert bounds(big, big, small) == [(0, big), (big, 2 * big + small)]
    assert bounds(small, big) == [(0, small), (small, small + big)]
    assert bounds(small, small) == [(0, 2 * small)]
