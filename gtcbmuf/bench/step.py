"""A step of training, against its matrix products alone and against PyTorch; one BLAS thread.

The products are the same calls of NumPy, on arrays of their own with the same shapes and layouts,
and nothing between them.
"""

import importlib.util
import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gtcbmuf import kernels, wire
from gtcbmuf.bench import Figure, figure, seconds
from gtcbmuf.corpus import FrameReader, Frames
from gtcbmuf.model import MLP, Shape, initial

FRAMES = 256
CONTEXT, DIM = 5, 40
SHAPES = {
    "0.8": Shape((440, 512, 512, 512, 147), "relu"),
    "5.6": Shape((440, 1024, 1024, 1024, 1024, 2000), "relu"),
    "20": Shape((440, 2048, 2048, 2048, 2048, 3000), "relu"),
}
WHOLE = "5.6"
DENSITY = 1e-3
GOAL_MLP, GOAL_PYTORCH, GOAL_WHOLE = 1.06, 1, 1.12

Vector = NDArray[np.float32]


def figures(rounds: int) -> list[Figure]:
    """Forward and backward passes of every shape, and the whole step of a worker of one."""
    has_torch = importlib.util.find_spec("torch") is not None
    if not has_torch:
        print("PyTorch is not installed: no figures against it", file=sys.stderr)
    found = []
    for millions, shape in SHAPES.items():
        step = _MLPStep(shape)
        candidates: dict[str, Callable[[], object]] = {
            "products": products(shape, FRAMES),
            "step": step,
        }
        if has_torch:
            candidates |= {
                f"torch {zeroed}": _torch_step(shape, zeroed) for zeroed in (False, True)
            }
        if millions == WHOLE:
            candidates["whole"] = _worker_step(shape)
        times = seconds(candidates, rounds=rounds)
        what = f"{FRAMES} frames, {millions} M parameters"
        found.append(
            figure(
                f"forward and backward of {what}",
                times["step"] / times["products"],
                "x its matrix products",
                GOAL_MLP,
            )
        )
        if has_torch:
            fastest = min((times["torch False"], times["torch True"]), key=np.median)
            found.append(
                figure(
                    f"forward and backward of {what}",
                    times["step"] / fastest,
                    "x PyTorch",
                    GOAL_PYTORCH,
                )
            )
            found.append(
                figure("PRODUCTS/torch" + what, times["products"] / fastest, "x PyTorch", 1)
            )
        if millions == WHOLE:
            found.append(
                figure(
                    f"whole step of a gtc worker, {what}",
                    times["whole"] / times["products"],
                    "x its matrix products",
                    GOAL_WHOLE,
                )
            )
    return found


def products(shape: Shape, frames: int) -> Callable[[], None]:
    """The matrix products of `MLP.backward`, in its order."""
    stream = np.random.default_rng(0)
    parameters, gradient = initial(shape, stream), np.zeros(shape.parameters, np.float32)
    weights, gradients = shape.views(parameters), shape.views(gradient)
    outputs = [stream.random((frames, width), np.float32) for width in shape.widths]
    deltas = [stream.random((frames, width), np.float32) for width in shape.widths]

    def call() -> None:
        for layer, (matrix, _) in enumerate(weights):
            np.dot(outputs[layer], matrix, out=outputs[layer + 1])
        for layer in reversed(range(len(weights))):
            np.dot(outputs[layer].T, deltas[layer + 1], out=gradients[layer][0])
            if layer:
                np.dot(deltas[layer + 1], weights[layer][0].T, out=deltas[layer])

    return call


