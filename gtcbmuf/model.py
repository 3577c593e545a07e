"""A multi-layer perceptron in NumPy, on one flat vector of parameters.

Layer l has weights (inputs, outputs), row-major, then biases (outputs), one layer after the other:
back-propagation finishes the vector from its end to its beginning, layer by layer.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gtcbmuf import kernels

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """What an MLP is made of.

    Attributes:
        widths: inputs, each hidden layer, targets.
        activation: "relu" or "sigmoid", of the hidden layers.
    """

    widths: tuple[int, ...]
    activation: str

    def __post_init__(self) -> None:
        if self.activation not in ("relu", "sigmoid"):
            raise ValueError(f"activation {self.activation!r}: expected 'relu' or 'sigmoid'")

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each layer."""
        return list(zip(self.widths, self.widths[1:], strict=False))

    @property
    def starts(self) -> list[int]:
        """Where each layer begins in the flat vector, and where the last one ends."""
        sizes = [inputs * outputs + outputs for inputs, outputs in self.layers]
        return [0, *itertools.accumulate(sizes)]

    @property
    def parameters(self) -> int:
        """Length n of the flat vector."""
        return self.starts[-1]

    def views(self, vector: Vector) -> list[tuple[Matrix, Vector]]:
        """Weights and biases of each layer, as views of a flat vector (n,)."""
        views = []
        for begin, (inputs, outputs) in zip(self.starts, self.layers, strict=False):
            middle, end = begin + inputs * outputs, begin + inputs * outputs + outputs
            views.append((vector[begin:middle].reshape(inputs, outputs), vector[middle:end]))
        return views


def initial(shape: Shape, stream: np.random.Generator) -> Vector:
    """Random parameters (n,): uniform weights, zero biases.

    Bounds are sqrt(6 / inputs) before ReLU (He et al. 2015, eq. 10) and
    sqrt(6 / (inputs + outputs)) elsewhere (Glorot and Bengio 2010, eq. 16).
    """
    vector = np.zeros(shape.parameters, np.float32)
    layers = shape.views(vector)
    for weights, _ in layers:
        inputs, outputs = weights.shape
        relu = shape.activation == "relu" and weights is not layers[-1][0]
        bound = np.sqrt(6 / (inputs if relu else inputs + outputs))
        weights[...] = stream.uniform(-bound, bound, weights.shape)
    return vector


class MLP:
    """Forward and backward passes with buffers that are made once: a step allocates nothing.

    Args:
        shape: widths and activation.
        capacity: the most frames at once.
    """

    def __init__(self, shape: Shape, capacity: int) -> None:
        self.shape = shape
        #: (n,) float32: the gradient of the last `backward`.
        self.gradient = np.zeros(shape.parameters, np.float32)
        self._gradients = shape.views(self.gradient)
        self._outputs = [np.empty((capacity, width), np.float32) for width in shape.widths[1:]]
        self._deltas = [np.empty((capacity, width), np.float32) for width in shape.widths[1:-1]]
        self._column = np.empty((capacity, 1), np.float32)
        self._rows = np.arange(capacity)

    def forward(self, parameters: Vector, inputs: Matrix) -> Matrix:
        """Scores (B, targets) before the softmax.

        Args:
            parameters: (n,) float32.
            inputs: (B, widths[0]) float32, B <= capacity.

        Returns:
            A buffer, valid until the next call.
        """
        hidden = inputs
        for layer, (weights, biases) in enumerate(self.shape.views(parameters)):
            outputs = self._outputs[layer][: len(inputs)]
            np.matmul(hidden, weights, out=outputs)
            if layer < len(self._deltas):
                _activate(self.shape.activation, biases, outputs)
            else:
                outputs += biases
            hidden = outputs
        return hidden

    def backward(
        self,
        parameters: Vector,
        inputs: Matrix,
        targets: NDArray[np.uint16],
        ready: Callable[[int], object] = lambda first: None,
    ) -> float:
        """Fill `gradient` with the sum over the minibatch of the frames' gradients.

        Args:
            parameters: (n,) float32.
            inputs: (B, widths[0]) float32; B may be 0, which gives a gradient of 0.
            targets: (B,) the right target of each frame.
            ready: called with `first` once gradient[first:] is final, layer by layer.

        Returns:
            The sum over the minibatch of the cross-entropy -log softmax(scores)[target], in nats.
        """
        count = len(inputs)
        delta = self.forward(parameters, inputs)
        loss = self._softmax_cross_entropy(delta, targets)  # delta: d loss / d scores
        layers = self.shape.views(parameters)
        for layer in reversed(range(len(layers))):
            below = self._outputs[layer - 1][:count] if layer else inputs
            weights_gradient, biases_gradient = self._gradients[layer]
            np.matmul(below.T, delta, out=weights_gradient)
            np.sum(delta, axis=0, out=biases_gradient)
            ready(self.shape.starts[layer])
            if layer:
                below_delta = self._deltas[layer - 1][:count]
                np.matmul(delta, layers[layer][0].T, out=below_delta)
                _times_derivative(self.shape.activation, below, below_delta)
                delta = below_delta
        return loss

    def _softmax_cross_entropy(self, scores: Matrix, targets: NDArray[np.uint16]) -> float:
        """Turn scores into softmax - one-hot, in place; return the summed loss."""
        if not len(scores):
            return 0.0
        column, rows = self._column[: len(scores)], self._rows[: len(scores)]
        scores -= np.max(scores, axis=1, keepdims=True, out=column)
        right = scores[rows, targets]
        np.exp(scores, out=scores)
        np.sum(scores, axis=1, keepdims=True, out=column)
        scores /= column
        scores[rows, targets] -= 1
        return float(np.sum(np.log(column), dtype=np.float64) - np.sum(right, dtype=np.float64))


def _activate(activation: str, biases: Vector, outputs: Matrix) -> None:
    """outputs = activation(outputs + biases)."""
    if activation == "relu":
        kernels.add_rectified(biases, outputs)
    else:  # 1 / (1 + exp(-x)) by way of tanh, which cannot overflow
        outputs += biases
        outputs *= 0.5
        np.tanh(outputs, out=outputs)
        outputs += 1
        outputs *= 0.5


def _times_derivative(activation: str, outputs: Matrix, delta: Matrix) -> None:
    """delta *= d outputs / d inputs, written in terms of the outputs, which may be overwritten."""
    if activation == "relu":
        kernels.stop_where_off(outputs, delta)
    else:  # y (1 - y)
        delta *= outputs
        np.subtract(1, outputs, out=outputs)
        delta *= outputs
