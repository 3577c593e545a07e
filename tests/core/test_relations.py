"""The equivalences on the page of related methods, step by step."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from numpy.typing import NDArray

import gtcbmuf
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
    world: MPI.Comm, exchange: gtcbmuf.Exchange, block_filter: gtcbmuf.BlockFilter, ramp: int
) -> NDArray[np.float32]:
    """Train on a noisy quadratic, with a rate that rises over the first steps."""
    is_bmuf = isinstance(block_filter, gtcbmuf.BMUF)
    optimiser = gtcbmuf.Descent(SIZE, 0.0) if is_bmuf else gtcbmuf.Nesterov(SIZE, ETA)
    model, curvature = np.ones(SIZE, np.float32), np.logspace(-2, 0, SIZE).astype(np.float32)
    for step in range(200):
        noise = np.random.default_rng([step, world.rank]).normal(scale=0.1, size=SIZE)
        gradient = curvature * model + noise.astype(np.float32)
        rate = 0.02 * min(1, (step + 1) / ramp)  # of the mean, which BMUF takes
        optimiser(model, exchange(gradient), rate if is_bmuf else rate / world.size)
        block_filter(model)
    return model


def test_bmuf_of_one_step_is_sync_sgd_with_nesterov_momentum_at_a_constant_rate() -> None:
    def difference(world: MPI.Comm, ramp: int) -> float:
        start, size = np.ones(SIZE, np.float32), world.size
        groups_of_one, one_group = (gtcbmuf.Topology(world, count) for count in (1, size))
        bmuf = gtcbmuf.BMUF(groups_of_one, start, momentum=ETA, nesterov=True, step=2.0**-9)
        models = (
            trained(world, gtcbmuf.NoExchange(SIZE), bmuf, ramp),
            trained(
                world,
                gtcbmuf.DenseExchange(one_group.group, SIZE),
                gtcbmuf.NoFilter(SIZE),
                ramp,
            ),
        )
        return float(np.abs(np.subtract(*models)).max())

    assert carry(MPI.COMM_SELF, 4, lambda world: difference(world, 1)) < 2e-4
    assert carry(MPI.COMM_SELF, 4, lambda world: difference(world, 100)) > 2e-3
