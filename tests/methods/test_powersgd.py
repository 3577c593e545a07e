"""PowerSGD against PyTorch's communication hook, on one worker."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mpi4py import MPI
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from gtcbmuf.methods.powersgd import PowerSGDExchange

ROWS, COLUMNS, RANK = 12, 9, 2


@pytest.fixture
def process_group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_it_is_pytorchs_hook() -> None:
    """Both start from the same factors and residuals, and stay equal for ten steps."""
    model = torch.nn.Linear(COLUMNS, ROWS, bias=False)
    parallel = DistributedDataParallel(model)
    hook = powerSGD_hook.PowerSGDState(
        None, RANK, start_powerSGD_iter=2, min_compression_rate=0.1, orthogonalization_epsilon=0
    )
    parallel.register_comm_hook(hook, powerSGD_hook.powerSGD_hook)

    def step(seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a gradient before and after the hook: that of <coefficients, weights>."""
        coefficients = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))
        model.zero_grad()
        # The rows of the output are the columns of the weights, so the loss is their product.
        (parallel(torch.eye(COLUMNS)) * coefficients.T).sum().backward()
        assert model.weight.grad is not None
        return coefficients.numpy(), model.weight.grad.numpy().copy()

    for seed in range(3):  # two steps without compression, and one with it
        step(seed)
    exchange = PowerSGDExchange(MPI.COMM_SELF, [(ROWS, COLUMNS)], RANK)
    [factors] = hook.q_memory_dict.values()
    rights = factors.numpy().reshape(COLUMNS, RANK).T.ravel()
    exchange.restore({"rights": rights, "residual": hook.error_dict[0].numpy()})
    for seed in range(3, 13):
        gradient, expected = step(seed)
        update = np.zeros(ROWS * COLUMNS, np.float32)
        exchange(gradient.ravel()).add_to(update, 1)
        np.testing.assert_allclose(update, expected.ravel(), atol=2e-4)
        residual = hook.error_dict[0].numpy()
        np.testing.assert_allclose(exchange.state()["residual"], residual, atol=2e-4)
