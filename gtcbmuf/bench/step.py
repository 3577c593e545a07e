"""Benchmark of a training step, against its matrix products alone and against PyTorch.

The matrix products are the same NumPy calls in the same order, on other arrays of the same shapes
and layouts. PyTorch runs an `nn.Sequential` of the same layers on the CPU. Both use one thread.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.acoustic.mlp import MLP, Architecture, initial_parameters
from gtcbmuf.bench.figures import Figure, summarise, time_in_turns
from gtcbmuf.cluster.calibrate import make_gradient_source
from gtcbmuf.core.meter import Meter

FRAMES = 256
#: Shapes from a small acoustic model to a large one, by their millions of parameters.
SHAPES = {
    0.8: Architecture((440, 512, 512, 512, 147), "relu"),
    5.6: Architecture((440, 1024, 1024, 1024, 1024, 2000), "relu"),
    20: Architecture((440, 2048, 2048, 2048, 2048, 3000), "relu"),
}
#: Benchmark of a worker's whole step: millions of parameters, and density of the updates.
WHOLE, DENSITY = 5.6, 1e-3
LEARNING_RATE = 1e-6  # too low to change the model
GOAL_PASSES, GOAL_TORCH, GOAL_WHOLE = 1.06, 1, 1.12

Step = Callable[[], object]


def measure(rounds: int) -> list[Figure]:
    """Measure the forward and backward pass of every shape, and a worker's whole step of one.

    Args:
        rounds: rounds of the largest shape. Smaller shapes have more rounds in the same time.
    """
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        torch = None
        print("PyTorch is not installed: skipping the comparison with it", file=sys.stderr)
    figures = []
    for millions, shape in SHAPES.items():
        candidates: dict[str, Step] = {
            "products": make_products(shape),
            "passes": _make_passes(shape),
        }
        if torch:
            candidates |= {
                "torch": _make_torch_step(torch, shape, set_to_none=True),
                "torch, zeroed": _make_torch_step(torch, shape, set_to_none=False),
            }
        if millions == WHOLE:
            worker = _Worker(shape)
            candidates["worker"] = worker
        times = time_in_turns(candidates, rounds=round(rounds * max(SHAPES) / millions))

        products, passes = times["products"], times["passes"]
        what = f"forward and backward of {FRAMES} frames, {millions:g} M parameters"
        figures.append(summarise(what, passes / products, "x products", GOAL_PASSES))
        if torch:
            best = min(
                (times["torch"], times["torch, zeroed"]),
                key=lambda seconds: float(np.median(seconds)),
            )
            figures += [
                summarise(what, passes / best, "x PyTorch", GOAL_TORCH),
                summarise(
                    f"products alone, {millions:g} M parameters", products / best, "x PyTorch"
                ),
            ]
        if millions == WHOLE:
            what = f"step of a gtc worker, {millions:g} M parameters, density {worker.density:.2g}"
            figures.append(summarise(what, times["worker"] / products, "x products", GOAL_WHOLE))
    return figures


def make_products(shape: Architecture) -> Step:
    """Make a function that computes only the matrix products of `MLP.backward`."""
    stream = np.random.default_rng(0)
    weights = shape.views(initial_parameters(shape, stream))
    gradients = shape.views(np.zeros(shape.parameters, np.float32))
    outputs = [stream.random((FRAMES, width), np.float32) for width in shape.widths]
    deltas = [stream.random((FRAMES, width), np.float32) for width in shape.widths]

    def step() -> None:
        for layer, (matrix, _) in enumerate(weights):
            np.matmul(outputs[layer], matrix, out=outputs[layer + 1])
        for layer in reversed(range(len(weights))):
            np.matmul(outputs[layer].T, deltas[layer + 1], out=gradients[layer][0])
            if layer:
                np.matmul(deltas[layer + 1], weights[layer][0].T, out=deltas[layer])

    return step


def _minibatch(shape: Architecture) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    stream = np.random.default_rng(1)
    inputs = stream.standard_normal((FRAMES, shape.widths[0]), np.float32)
    return inputs, stream.integers(0, shape.widths[-1], FRAMES, np.uint16)


def _make_passes(shape: Architecture) -> Step:
    """Make a function that calls `MLP.backward`, which includes the forward pass."""
    mlp, parameters = MLP(shape, FRAMES), initial_parameters(shape, np.random.default_rng(0))
    inputs, targets = _minibatch(shape)
    return lambda: mlp.backward(parameters, inputs, targets)


def _make_torch_step(torch: Any, shape: Architecture, *, set_to_none: bool) -> Step:
    """Make a function that runs both passes in PyTorch.

    Args:
        torch: the module.
        shape: shape of the model.
        set_to_none: argument of `zero_grad`. If true, each step allocates new gradients. If false,
            it adds to zeros.
    """
    torch.set_num_threads(1)
    layers = []
    for inputs, outputs in shape.layers:
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    inputs, targets = (torch.from_numpy(part) for part in _minibatch(shape))
    targets = targets.long()

    def step() -> float:
        model.zero_grad(set_to_none=set_to_none)
        loss = torch.nn.functional.cross_entropy(model(inputs), targets, reduction="sum")
        loss.backward()
        return float(loss.item())

    return step


class _Worker:
    """The whole step of a worker in a group of its own: gather, gradient, exchange, update."""

    def __init__(self, shape: Architecture) -> None:
        from mpi4py import MPI

        from gtcbmuf.core.algorithm import GTCExchange, NoFilter, Worker

        stream = np.random.default_rng(2)
        self._model = initial_parameters(shape, stream)
        self._gradient_source = make_gradient_source(shape, self._model, FRAMES, stream)
        # Each step has the same minibatch, so residuals rise evenly. A share DENSITY reaches tau.
        gradient = self._gradient_source(0)
        tau = float(np.abs(gradient).mean()) / DENSITY
        exchange = GTCExchange(MPI.COMM_SELF, shape.parameters, tau, meter := Meter())
        residual = stream.random(shape.parameters, np.float32) * np.float32(tau)
        exchange.restore({**exchange.state(), "residual": np.copysign(residual, gradient)})
        self._worker = Worker(self._model, exchange, NoFilter(shape.parameters), 1, meter=meter)
        self._steps = 0

    def __call__(self) -> None:
        self._worker.run(1, self._gradient_source, lambda step: LEARNING_RATE)  # always step 0
        self._steps += 1

    @property
    def density(self) -> float:
        """Density of the updates, averaged over all steps so far."""
        return self._worker.meter.updates_sent / (self._steps * self._model.size)
