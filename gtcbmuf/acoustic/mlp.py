"""A multi-layer perceptron in NumPy, on one flat vector of parameters.

The vector holds one layer after another: weights (inputs, outputs), row-major, then biases
(outputs). So back-propagation fills the gradient from its end to its beginning, layer by layer.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gtcbmuf.acoustic import kernels
from gtcbmuf.acoustic.model import Targets
from gtcbmuf.base.arrays import Matrix, Vector


@dataclass(frozen=True)
class Architecture:
    """Widths and activation of an MLP.

    Attributes:
        widths: number of inputs, width of each hidden layer, number of targets.
        activation: activation of the hidden layers, "relu" or "sigmoid".

    Raises:
        ValueError: unknown activation.

    Examples:
        >>> Architecture((440, 256, 147), "relu").parameters
        150675
    """

    widths: tuple[int, ...]
    activation: str

    def __post_init__(self) -> None:
        if self.activation not in ("relu", "sigmoid"):
            raise ValueError(f"activation {self.activation!r}: expected 'relu' or 'sigmoid'")

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Widths (inputs, outputs) of each layer."""
        return list(zip(self.widths, self.widths[1:], strict=False))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the weights and biases, layer by layer."""
        return [shape for layer in self.layers for shape in (layer, layer[1:])]

    @property
    def starts(self) -> list[int]:
        """Start of each layer in the flat vector, then the end of the last layer."""
        sizes = [inputs * outputs + outputs for inputs, outputs in self.layers]
        return [0, *itertools.accumulate(sizes)]

    @property
    def parameters(self) -> int:
        """Length n of the flat vector."""
        return self.starts[-1]

    def views(self, vector: Vector) -> list[tuple[Matrix, Vector]]:
        """Return the weights and biases of each layer, as views of a flat vector (n,)."""
        views = []
        for begin, (inputs, outputs) in zip(self.starts, self.layers, strict=False):
            middle, end = begin + inputs * outputs, begin + inputs * outputs + outputs
            views.append((vector[begin:middle].reshape(inputs, outputs), vector[middle:end]))
        return views


def initial_parameters(architecture: Architecture, stream: np.random.Generator) -> Vector:
    """Return random parameters (n,): uniform weights and zero biases.

    The bound of the weights is sqrt(6 / inputs) before a ReLU (He et al. 2015, eq. 10). Elsewhere
    it is sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010, eq. 16).
    """
    vector = np.zeros(architecture.parameters, np.float32)
    layers = architecture.views(vector)
    for weights, _ in layers:
        inputs, outputs = weights.shape
        relu = architecture.activation == "relu" and weights is not layers[-1][0]
        bound = np.sqrt(6 / (inputs if relu else inputs + outputs))
        weights[...] = stream.uniform(-bound, bound, weights.shape)
    return vector


class MLP:
    """A multi-layer perceptron with preallocated buffers, so that a step allocates nothing.

    Args:
        architecture: widths and activation.
        capacity: largest number of frames per call.
        context: number of input frames on each side of the classified frame.

    Examples:
        >>> mlp = MLP(Architecture((2, 2), "relu"), capacity=1)
        >>> vector = np.array([1, 0, 0, 1, 0, 0], np.float32)  # the identity, no biases
        >>> mlp.scores(vector, np.array([[3, 4]], np.float32)).tolist()
        [[3.0, 4.0]]
    """

    def __init__(self, architecture: Architecture, capacity: int, context: int = 0) -> None:
        self.architecture, self.context = architecture, context
        self.parameters = architecture.parameters
        self.shapes = architecture.shapes
        #: The gradient of the last `backward`, (n,) float32.
        self.gradient = np.zeros(architecture.parameters, np.float32)
        self._gradients = architecture.views(self.gradient)
        self._outputs = [
            np.empty((capacity, width), np.float32) for width in architecture.widths[1:]
        ]
        self._deltas = [
            np.empty((capacity, width), np.float32) for width in architecture.widths[1:-1]
        ]
        self._column = np.empty((capacity, 1), np.float32)
        self._rows = np.arange(capacity)

    def initial(self, stream: np.random.Generator) -> Vector:
        """Return random parameters (n,) from `initial_parameters`."""
        return initial_parameters(self.architecture, stream)

    def scores(self, vector: Vector, inputs: Matrix) -> Matrix:
        """Return the scores (B, targets) before the softmax.

        Args:
            vector: (n,) float32, the parameters.
            inputs: (B, widths[0]) float32, B <= capacity.

        Returns:
            A buffer that is valid until the next call.
        """
        hidden = inputs
        for layer, (weights, biases) in enumerate(self.architecture.views(vector)):
            outputs = self._outputs[layer][: len(inputs)]
            np.matmul(hidden, weights, out=outputs)
            if layer < len(self._deltas):
                _activate(self.architecture.activation, biases, outputs)
            else:
                outputs += biases
            hidden = outputs
        return hidden

    def backward(
        self,
        vector: Vector,
        inputs: Matrix,
        targets: Targets,
        ready: Callable[[int], object] = lambda first: None,
    ) -> float:
        """Fill `gradient` with the sum of the frames' gradients over the minibatch.

        Args:
            vector: (n,) float32, the parameters.
            inputs: (B, widths[0]) float32. B may be 0, which gives a gradient of 0.
            targets: (B,) the correct target of each frame.
            ready: callback. It is called after each layer with `first`, when gradient[first:] is
                final.

        Returns:
            The sum of the cross-entropy -log softmax(scores)[target] over the minibatch, in nats.
        """
        count = len(inputs)
        delta = self.scores(vector, inputs)
        loss = self._softmax_cross_entropy(delta, targets)  # delta: d loss / d scores
        layers = self.architecture.views(vector)
        for layer in reversed(range(len(layers))):
            below = self._outputs[layer - 1][:count] if layer else inputs
            weights_gradient, biases_gradient = self._gradients[layer]
            np.matmul(below.T, delta, out=weights_gradient)
            np.sum(delta, axis=0, out=biases_gradient)
            ready(self.architecture.starts[layer])
            if layer:
                below_delta = self._deltas[layer - 1][:count]
                np.matmul(delta, layers[layer][0].T, out=below_delta)
                _times_derivative(self.architecture.activation, below, below_delta)
                delta = below_delta
        return loss

    def _softmax_cross_entropy(self, scores: Matrix, targets: Targets) -> float:
        """Replace the scores by softmax - one-hot, in place, and return the summed loss."""
        if not len(scores):
            return 0.0
        column, rows = self._column[: len(scores)], self._rows[: len(scores)]
        scores -= np.max(scores, axis=1, keepdims=True, out=column)
        target_scores = scores[rows, targets]
        np.exp(scores, out=scores)
        np.sum(scores, axis=1, keepdims=True, out=column)
        scores /= column
        scores[rows, targets] -= 1
        return float(
            np.sum(np.log(column), dtype=np.float64) - np.sum(target_scores, dtype=np.float64)
        )


def _activate(activation: str, biases: Vector, outputs: Matrix) -> None:
    """Set `outputs` to activation(outputs + biases), in place."""
    if activation == "relu":
        kernels.add_rectified(biases, outputs)
    else:  # 1 / (1 + exp(-x)) computed with tanh, which cannot overflow
        outputs += biases
        outputs *= 0.5
        np.tanh(outputs, out=outputs)
        outputs += 1
        outputs *= 0.5


def _times_derivative(activation: str, outputs: Matrix, delta: Matrix) -> None:
    """Multiply `delta` by d outputs / d inputs, in place.

    The derivative is computed from the outputs, which may be overwritten.
    """
    if activation == "relu":
        kernels.stop_where_off(outputs, delta)
    else:  # y (1 - y)
        delta *= outputs
        np.subtract(1, outputs, out=outputs)
        delta *= outputs
