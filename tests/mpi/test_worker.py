"""The step loop: pairs of methods with equal results, on a real MLP."""

from collections.abc import Callable

import numpy as np
import pytest
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.acoustic.mlp import MLP, Architecture, initial_parameters
from gtcbmuf.core.algorithm import (
    BMUF,
    DenseExchange,
    Descent,
    Exchange,
    GTCExchange,
    NoExchange,
    NoFilter,
    Worker,
)
from gtcbmuf.core.verified import Verified
from gtcbmuf.methods.dense import IntegerExchange
from gtcbmuf.mpi.topology import Topology

WORLD = MPI.COMM_WORLD
SHAPE = Architecture((6, 10, 4), "relu")
STEPS, MINIBATCH, RATE = 23, 5, 0.01


def data(rank: int, step: int) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    stream = np.random.default_rng([rank, step])
    targets = stream.integers(0, 4, MINIBATCH).astype(np.uint16)
    inputs = stream.standard_normal((MINIBATCH, 6)).astype(np.float32)
    inputs[np.arange(MINIBATCH), targets] += 2
    return inputs, targets


def start() -> NDArray[np.float32]:
    return initial_parameters(SHAPE, np.random.default_rng(0))


def gradients(model: NDArray[np.float32], ranks: range) -> Callable[[int], NDArray[np.float32]]:
    """Return a function from a step to the gradient on the data of all `ranks`."""
    mlp = MLP(SHAPE, MINIBATCH * len(ranks))

    def gradient(step: int) -> NDArray[np.float32]:
        parts = [data(rank, step) for rank in ranks]
        inputs = np.concatenate([part[0] for part in parts])
        mlp.backward(model, inputs, np.concatenate([part[1] for part in parts]))
        return mlp.gradient

    return gradient


def own_rank() -> range:
    return range(WORLD.rank, WORLD.rank + 1)


def rate(step: int) -> float:
    return RATE / (1 + step)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sync_sgd_equals_sgd_with_joined_minibatches(momentum: float) -> None:
    topology = Topology(WORLD, WORLD.size)
    model = start()
    exchange = DenseExchange(topology.group, model.size)
    worker = Worker(model, exchange, NoFilter(model.size), 10, Descent(model.size, momentum))
    worker.run(STEPS, gradients(model, own_rank()), rate)

    expected = start()
    worker = Worker(
        expected, NoExchange(model.size), NoFilter(model.size), 10, Descent(model.size, momentum)
    )
    worker.run(STEPS, gradients(expected, range(WORLD.size)), rate)
    np.testing.assert_allclose(model, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(model - start()).max() > 1e-3
    topology.free()


def test_sgd_follows_its_formula() -> None:
    model, expected, velocity = start(), start().astype(np.float64), np.zeros(SHAPE.parameters)
    n = SHAPE.parameters
    Worker(model, NoExchange(n), NoFilter(n), 10, Descent(n, 0.5)).run(
        STEPS, gradients(model, own_rank()), rate
    )
    for step in range(STEPS):
        vector = expected.astype(np.float32)
        velocity = 0.5 * velocity + gradients(vector, own_rank())(step)
        expected -= rate(step) * velocity
    np.testing.assert_allclose(model, expected, rtol=1e-4, atol=1e-6)


def test_bmuf_with_eta_0_averages_every_k_steps() -> None:
    topology = Topology(WORLD, 1)
    model = start()
    averaging = BMUF(topology, model, momentum=0.0, step=2.0**-11)
    worker = Worker(model, NoExchange(model.size), averaging, 5)
    worker.run(STEPS, gradients(model, own_rank()), rate)

    expected = start()
    for step in range(STEPS):
        expected -= np.float32(rate(step)) * gradients(expected, own_rank())(step)
        if (step + 1) % 5 == 0 or step + 1 == STEPS:
            expected = WORLD.allreduce(expected) / np.float32(WORLD.size)
    np.testing.assert_allclose(model, expected, atol=1e-4)
    topology.free()


def test_gtc_applies_the_gradients_minus_the_residuals() -> None:
    """GTC loses nothing: its updates are the sum of the gradients minus the residuals."""
    topology = Topology(WORLD, WORLD.size)
    model = start()
    exchange = GTCExchange(topology.group, model.size, 0.5)
    gradient_sum = np.zeros_like(model)
    own_gradient = gradients(model, own_rank())

    def gradient(step: int) -> NDArray[np.float32]:
        nonlocal gradient_sum
        gradient_sum += own_gradient(step)
        return own_gradient(step)

    Worker(model, exchange, NoFilter(model.size), 10).run(STEPS, gradient, lambda _: RATE)
    sent = topology.group.allreduce(gradient_sum - exchange.state()["residual"])
    np.testing.assert_allclose(model, start() - RATE * sent, rtol=1e-3, atol=1e-5)
    topology.free()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_integers_of_16_bits_are_sync_sgd(momentum: float) -> None:
    topology = Topology(WORLD, WORLD.size)
    model, dense_model = start(), start()
    exchanges = [
        (model, IntegerExchange(topology.group, model.size, 16)),
        (dense_model, DenseExchange(topology.group, model.size)),
    ]
    for vector, exchange in exchanges:
        worker = Worker(vector, exchange, NoFilter(model.size), 10, Descent(model.size, momentum))
        worker.run(STEPS, gradients(vector, own_rank()), rate)
    np.testing.assert_allclose(model, dense_model, atol=1e-3)
    assert np.abs(model - start()).max() > 1e-2
    topology.free()


@pytest.mark.parametrize(("period", "nesterov"), [(1, True), (7, False), (1000, True)])
def test_the_hybrid_in_every_topology(topology: Topology, period: int, nesterov: bool) -> None:
    """Groups of one, a single group, one worker, and a block longer than the run all work."""

    def train() -> NDArray[np.float32]:
        model = start()
        exchange = GTCExchange(topology.group, model.size, 1.0)
        bmuf = Verified(BMUF(topology, model, nesterov=nesterov), topology)
        worker = Worker(model, exchange, bmuf, period, Descent(model.size, 0.5))
        for _ in range(2):
            worker.run(STEPS, gradients(model, own_rank()), rate)
        return bmuf.anchor(model)

    anchor = train()
    assert np.isfinite(anchor).all()
    assert np.abs(anchor - start()).max() > 1e-3
    assert train().tobytes() == anchor.tobytes()


def test_steps_and_block_ends_are_counted_per_epoch() -> None:
    class Counting(NoFilter):
        calls = 0

        def __call__(self, model: NDArray[np.float32], *, wait: bool = True) -> None:
            self.calls += 1

    model = start()
    counting = Counting(model.size)
    worker = Worker(model, NoExchange(model.size), counting, 5)
    worker.run(10, gradients(model, own_rank()), rate)
    assert counting.calls == 2  # the last step ends one block
    worker.run(11, gradients(model, own_rank()), rate)
    assert counting.calls == 5
    worker.run(3, gradients(model, own_rank()), rate)
    assert counting.calls == 6


def test_residual_and_momentum_are_cleared_only_on_request() -> None:
    topology = Topology(WORLD, WORLD.size)
    small = np.full(SHAPE.parameters, 0.4, np.float32)

    def after_a_block(forget: bool) -> tuple[Exchange, Descent]:
        model = start()
        exchange = GTCExchange(topology.group, model.size, 1.0)
        descent = Descent(model.size, 0.9)
        forgetting = (exchange, descent) if forget else ()
        worker = Worker(model, exchange, NoFilter(model.size), 4, descent, forgetting=forgetting)
        worker.run(4, lambda _: small, rate)
        return exchange, descent

    exchange, descent = after_a_block(forget=False)
    assert exchange.state()["residual"].any()
    assert descent.state()["velocity"].any()
    exchange, descent = after_a_block(forget=True)
    assert not exchange.state()["residual"].any()
    assert not descent.state()["velocity"].any()
    topology.free()
