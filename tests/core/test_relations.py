"""The equivalences on the page of related methods, step by step."""

from functools import partial

import numpy as np
import pytest
import torch
from mpi4py import MPI
from numpy.typing import NDArray

import gtcbmuf
from gtcbmuf.base.arrays import Vector
from gtcbmuf.mpi.carried import carry

ETA, ZETA, SIZE = 0.9, 0.7, 5


def block_filter(model: NDArray[np.float32], *, nesterov: bool) -> gtcbmuf.BMUF:
    topology = gtcbmuf.Topology(MPI.COMM_SELF, 1)
    return gtcbmuf.BMUF(
        topology, model, momentum=ETA, learning_rate=ZETA, nesterov=nesterov, step=2.0**-11
    )


def changes() -> list[NDArray[np.float32]]:
    return list(np.random.default_rng(0).normal(size=(20, SIZE)).astype(np.float32))


def test_nesterov_block_momentum_is_the_outer_step_of_diloco() -> None:
    model = np.zeros(SIZE, np.float32)
    bmuf = block_filter(model, nesterov=True)
    theta = torch.zeros(SIZE, requires_grad=True)
    outer = torch.optim.SGD([theta], lr=ZETA, momentum=ETA, nesterov=True)
    for change in changes():
        model += change  # a block
        bmuf(model)
        theta.grad = -torch.from_numpy(change)  # theta(t-1) - A(t)
        outer.step()
        np.testing.assert_allclose(model, theta.detach().numpy(), atol=0.003)
    velocity = outer.state[theta]["momentum_buffer"].numpy()
    anchor = theta.detach().numpy() + ETA * ZETA * velocity
    np.testing.assert_allclose(bmuf.anchor(model), anchor, atol=0.003)


@pytest.mark.parametrize("rate", [0.1, 2.0])
def test_classical_block_momentum_is_slowmo_at_a_constant_rate(rate: float) -> None:
    model = np.zeros(SIZE, np.float32)
    bmuf = block_filter(model, nesterov=False)
    x, u = np.zeros(SIZE), np.zeros(SIZE)
    for change in changes():
        model += change
        bmuf(model)
        u = ETA * u - change / rate
        x = x - ZETA * rate * u
        np.testing.assert_allclose(model, x, atol=0.003)


def trained(
    exchange: gtcbmuf.Exchange,
    block_filter: gtcbmuf.BlockFilter,
    noise: NDArray[np.float32],
    rates: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Train on a noisy quadratic, with blocks of one step."""
    has_filter = isinstance(block_filter, gtcbmuf.BMUF)
    optimiser = gtcbmuf.Descent(SIZE) if has_filter else gtcbmuf.Nesterov(SIZE, ETA)
    model, curvature = np.ones(SIZE, np.float32), np.logspace(-2, 0, SIZE).astype(np.float32)
    for error, rate in zip(noise, rates, strict=True):
        optimiser(model, exchange(curvature * model + error), rate)
        block_filter(model)
    return model


def test_bmuf_of_one_step_is_sync_sgd_with_a_momentum_that_carries_its_rates() -> None:
    def differences(world: MPI.Comm, ramp: int) -> tuple[float, float]:
        start, size = np.ones(SIZE, np.float32), world.size
        noise = np.random.default_rng(world.rank).normal(scale=0.1, size=(200, SIZE))
        rates = 0.02 * np.minimum(1, np.arange(1, 201) / ramp)
        apart, together = (gtcbmuf.Topology(world, count) for count in (1, size))

        def bmuf(topology: gtcbmuf.Topology) -> gtcbmuf.BMUF:
            return gtcbmuf.BMUF(topology, start, momentum=ETA, nesterov=True, step=2.0**-9)

        def run(exchange: gtcbmuf.Exchange, rule: gtcbmuf.BlockFilter, share: float) -> Vector:
            return trained(exchange, rule, noise.astype(np.float32), share * rates)

        dense = gtcbmuf.DenseExchange(together.group, SIZE)
        filtered = run(gtcbmuf.NoExchange(SIZE), bmuf(apart), 1)
        carrying = run(dense, bmuf(together), 1 / size)
        rescaling = run(dense, gtcbmuf.NoFilter(SIZE), 1 / size)
        return (
            float(np.abs(filtered - carrying).max()),
            float(np.abs(filtered - rescaling).max()),
        )

    for ramp in (1, 100):  # a constant rate, and one that rises
        carrying, rescaling = carry(MPI.COMM_SELF, 4, partial(differences, ramp=ramp))
        assert carrying < 2e-4
        assert (rescaling < 2e-4) == (ramp == 1)
        assert rescaling < 2e-4 or rescaling > 2e-3
