"""A training step, against its matrix products alone and against PyTorch; BLAS has one thread.

The products are the same calls of NumPy in the same order, on arrays of their own with the same
shapes and layouts. PyTorch runs an `nn.Sequential` of the same layers on the CPU, with one thread.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.acoustic.mlp import MLP, Architecture, initial_parameters
from gtcbmuf.bench.figures import Figure, figure, time_in_turns
from gtcbmuf.cluster.calibrate import gradients
from gtcbmuf.core.meter import Meter

FRAMES = 256
#: By their parameters in millions: from a small acoustic model to a large one.
SHAPES = {
    0.8: Architecture((440, 512, 512, 512, 147), "relu"),
    5.6: Architecture((440, 1024, 1024, 1024, 1024, 2000), "relu"),
    20: Architecture((440, 2048, 2048, 2048, 2048, 3000), "relu"),
}
#: The one that the whole step of a worker is measured with, and the density of its updates.
WHOLE, DENSITY = 5.6, 1e-3
LEARNING_RATE = 1e-6  # so low that the model stays what it is
GOAL_PASSES, GOAL_TORCH, GOAL_WHOLE = 1.06, 1, 1.12

Step = Callable[[], object]


def figures(rounds: int) -> list[Figure]:
    """Of every shape; `rounds` are of the largest, and smaller ones take as long in more rounds."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        torch = None
        print("PyTorch is not installed: there are no figures against it", file=sys.stderr)
    found = []
    for millions, shape in SHAPES.items():
        candidates: dict[str, Step] = {"products": products(shape), "passes": _passes(shape)}
        if torch:
            candidates |= {"torch": _torch(torch, shape, True), "kept": _torch(torch, shape, False)}
        if millions == WHOLE:
            worker = _Worker(shape)
            candidates["worker"] = worker
        times = time_in_turns(candidates, rounds=round(rounds * max(SHAPES) / millions))

        alone, passes = times["products"], times["passes"]
        of = f"forward and backward of {FRAMES} frames, {millions:g} M parameters"
        found.append(figure(of, passes / alone, "x products", GOAL_PASSES))
        if torch:
            best = min(times["torch"], times["kept"], key=lambda times: float(np.median(times)))
            found += [
                figure(of, passes / best, "x PyTorch", GOAL_TORCH),
                figure(f"products alone, {millions:g} M parameters", alone / best, "x PyTorch"),
            ]
        if millions == WHOLE:
            of = f"step of a gtc worker, {millions:g} M parameters, density {worker.density:.2g}"
            found.append(figure(of, times["worker"] / alone, "x products", GOAL_WHOLE))
    return found


def products(shape: Architecture) -> Step:
    """The matrix products of `MLP.backward`, and nothing else."""
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


def _passes(shape: Architecture) -> Step:
    """`MLP.backward`, which does the forward pass too."""
    mlp, parameters = MLP(shape, FRAMES), initial_parameters(shape, np.random.default_rng(0))
    inputs, targets = _minibatch(shape)
    return lambda: mlp.backward(parameters, inputs, targets)


def _torch(torch: Any, shape: Architecture, anew: bool) -> Step:
    """The same by PyTorch, gradients in memory that is `anew` or added to zeros that are kept."""
    torch.set_num_threads(1)
    layers = []
    for inputs, outputs in shape.layers:
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    inputs, targets = (torch.from_numpy(part) for part in _minibatch(shape))
    targets = targets.long()

    def step() -> float:
        model.zero_grad(set_to_none=anew)
        loss = torch.nn.functional.cross_entropy(model(inputs), targets, reduction="sum")
        loss.backward()
        return float(loss.item())

    return step


class _Worker:
    """The whole step of a worker that is a group of its own: gather, gradient, exchange, update."""

    def __init__(self, shape: Architecture) -> None:
        from mpi4py import MPI

        from gtcbmuf.core.algorithm import GTCExchange, NoFilter, Worker

        stream = np.random.default_rng(2)
        self._model = initial_parameters(shape, stream)
        self._gradients = gradients(shape, self._model, FRAMES, stream)
        # With the same minibatch in every step residuals rise evenly, and so many reach tau.
        gradient = self._gradients(0)
        tau = float(np.abs(gradient).mean()) / DENSITY
        exchange = GTCExchange(MPI.COMM_SELF, shape.parameters, tau, meter := Meter())
        residual = stream.random(shape.parameters, np.float32) * np.float32(tau)
        exchange.restore({**exchange.state(), "residual": np.copysign(residual, gradient)})
        self._worker = Worker(self._model, exchange, NoFilter(shape.parameters), 1, meter=meter)
        self._steps = 0

    def __call__(self) -> None:
        self._worker.run(1, self._gradients, lambda step: LEARNING_RATE)  # its step is always 0
        self._steps += 1

    @property
    def density(self) -> float:
        """Updates sent, of the parameters that there are, in the steps so far."""
        return self._worker.meter.updates_sent / (self._steps * self._model.size)
