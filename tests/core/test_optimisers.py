"""Local optimisers against PyTorch, and what they do at a block's end and with faulty numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mpi4py import MPI
from numpy.typing import NDArray

import gtcbmuf

SIZE, STEPS, RATE, FRAMES = 50, 40, 0.02, 256
DECAYS = {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3, "weight_decay": 0.1}


def start() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal(SIZE).astype(np.float32)


def gradient(model: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """The gradient of a noisy quadratic; some of it is 0, as GTC's updates are."""
    stream = np.random.default_rng(step)
    noise = stream.standard_normal(SIZE).astype(np.float32)
    mask = stream.random(SIZE) < 0.7
    return (mask * (model * np.linspace(0.1, 2, SIZE, dtype=np.float32) + noise)).astype(np.float32)


def rate(step: int) -> float:
    return RATE / (1 + step / 20)


def descend(
    descent: gtcbmuf.Descent, scale: float = 1.0, model: NDArray[np.float32] | None = None
) -> list[NDArray[np.float32]]:
    """The model after each step."""
    model = start() if model is None else model
    models = []
    for step in range(STEPS):
        update = gtcbmuf.DenseUpdate(np.float32(scale) * gradient(model, step))
        descent(model, update, rate(step))
        models.append(model.copy())
    return models


def descend_in_torch(optimiser: Callable[..., Any], **options: Any) -> list[NDArray[np.float32]]:
    model = torch.from_numpy(start()).requires_grad_()
    steps = optimiser([model], lr=RATE, **options)
    models = []
    for step in range(STEPS):
        steps.param_groups[0]["lr"] = rate(step)
        model.grad = torch.from_numpy(gradient(model.detach().numpy().copy(), step))
        steps.step()
        models.append(model.detach().numpy().copy())
    return models


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_nesterov_is_pytorchs(momentum: float) -> None:
    expected = descend_in_torch(torch.optim.SGD, momentum=momentum, nesterov=True)
    models = descend(gtcbmuf.Nesterov(SIZE, momentum))
    np.testing.assert_allclose(models, expected, atol=1e-5)
    heavy_ball = descend(gtcbmuf.Descent(SIZE, momentum))
    assert np.abs(models[-1] - heavy_ball[-1]).max() > 0.01


@pytest.mark.parametrize("scale", [1, FRAMES])
@pytest.mark.parametrize("options", [{}, DECAYS, {"beta1": 0.0}, {"beta2": 0.5}])
def test_adamw_is_pytorchs_with_its_epsilon_in_the_unit_of_a_sum(
    options: dict[str, float], scale: int
) -> None:
    keys = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0, **options}
    expected = descend_in_torch(
        torch.optim.AdamW,
        betas=(keys["beta1"], keys["beta2"]),
        eps=keys["epsilon"],
        weight_decay=keys["weight_decay"],
    )
    adamw = gtcbmuf.AdamW(SIZE, **{**keys, "epsilon": scale * keys["epsilon"]})
    np.testing.assert_allclose(descend(adamw, scale), expected, atol=1e-5)
    assert np.abs(expected[-1] - start()).max() > 0.1


OPTIMISERS: dict[str, Callable[[], gtcbmuf.Descent]] = {
    "nesterov": lambda: gtcbmuf.Nesterov(SIZE, 0.9),
    "adamw": lambda: gtcbmuf.AdamW(SIZE, beta1=0.8, beta2=0.95, epsilon=1e-3, weight_decay=0.1),
}


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
def test_an_optimiser_continues_from_its_state(make: Callable[[], gtcbmuf.Descent]) -> None:
    first, second = make(), make()
    model = descend(first)[-1]
    second.restore({name: array.copy() for name, array in first.state().items()})
    np.testing.assert_array_equal(
        descend(first, model=model.copy()), descend(second, model=model.copy())
    )


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
def test_an_optimiser_that_forgets_is_a_new_one(make: Callable[[], gtcbmuf.Descent]) -> None:
    used, new = make(), make()
    descend(used)
    used.forget()
    assert [array.tolist() for array in used.state().values()] == [
        array.tolist() for array in new.state().values()
    ]
    np.testing.assert_array_equal(descend(used), descend(new))


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
def test_gtcs_updates_are_applied_as_dense_ones(make: Callable[[], gtcbmuf.Descent]) -> None:
    sparse, dense = start(), start()
    optimisers = make(), make()
    exchange = gtcbmuf.GTCExchange(MPI.COMM_SELF, SIZE, tau=1.0)
    for step in range(STEPS):
        update, vector = exchange(gradient(sparse, step)), np.zeros(SIZE, np.float32)
        update.add_to(vector, 1.0)
        optimisers[0](sparse, update, rate(step))
        optimisers[1](dense, gtcbmuf.DenseUpdate(vector), rate(step))
    np.testing.assert_array_equal(sparse, dense)


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
def test_a_model_or_an_update_of_another_length_is_refused(
    make: Callable[[], gtcbmuf.Descent],
) -> None:
    for model, update in ((SIZE + 1, SIZE), (SIZE, SIZE + 1), (SIZE + 1, SIZE + 1)):
        vector = np.zeros(model, np.float32)
        with pytest.raises(ValueError, match=r"parameters, but \d+ are expected"):
            make()(vector, gtcbmuf.DenseUpdate(np.ones(update, np.float32)), RATE)


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
def test_nothing_becomes_denormal_without_updates(make: Callable[[], gtcbmuf.Descent]) -> None:
    """A processor takes much longer for denormal numbers, and they would never become 0."""
    optimiser, model = make(), start()
    descend(optimiser)
    for _ in range(2000):
        optimiser(model, gtcbmuf.DenseUpdate(np.zeros(SIZE, np.float32)), RATE)
        for array in optimiser.state().values():
            sizes = np.abs(array[array != 0])
            assert (sizes >= np.finfo(np.float32).tiny).all() or array.dtype == np.float64
    assert not any(a.any() for a in optimiser.state().values() if a.dtype == np.float32)


def test_a_square_that_overflows_is_found_at_the_next_step() -> None:
    """The model would stand still else: first / infinity is 0."""
    model, adamw = start(), gtcbmuf.AdamW(SIZE)
    worker = gtcbmuf.Worker(model, gtcbmuf.NoExchange(SIZE), gtcbmuf.NoFilter(SIZE), 2, adamw)
    largest = np.full(SIZE, 1e30, np.float32)
    with pytest.raises(gtcbmuf.NotFiniteError, match="the model of block 1 is not finite"):
        worker.run(10, lambda step: largest, rate)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"beta1": 1}, "beta1 = 1: expected a number from 0 to below 1"),
        ({"beta2": -0.1}, "beta2 = -0.1: expected a number from 0 to below 1"),
        ({"epsilon": 0}, "epsilon = 0: expected a number from 1e-30 to"),
        ({"weight_decay": -1}, r"weight_decay = -1: expected a number from 0 to 1e\+30"),
        ({"weight_decay": np.nan}, "weight_decay = nan: expected"),
    ],
)
def test_adamw_refuses_numbers_out_of_range(keys: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        gtcbmuf.AdamW(SIZE, **keys)


@pytest.mark.parametrize("momentum", [0, 1, -0.5, np.nan])
def test_nesterov_needs_momentum(momentum: float) -> None:
    with pytest.raises(ValueError, match="expected a number above 0 and below 1"):
        gtcbmuf.Nesterov(SIZE, momentum)
