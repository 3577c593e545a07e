"""The protocol of a network. To use your own network, write one class with these members.

`gtcbmuf.train` trains, saves, resumes, evaluates and scores such a network. The package ships one:
the MLP in `gtcbmuf.acoustic.mlp`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Matrix, Vector

Targets = NDArray[np.uint16]


class Model(Protocol):
    """A network whose parameters are one flat float32 vector of length n.

    Attributes:
        parameters: number of parameters n, below 2^31.
        shapes: shapes of the arrays in the vector, in their order.
        context: number of input frames on each side of the classified frame.
        gradient: (n,) float32, the gradient of the last `backward`.
    """

    @property
    def parameters(self) -> int:
        """Number of parameters n."""
        ...

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """Shapes of the arrays in the vector, in their order."""
        ...

    @property
    def context(self) -> int:
        """Number of input frames on each side of the classified frame."""
        ...

    @property
    def gradient(self) -> Vector:
        """The gradient (n,) of the last `backward`."""
        ...

    def initial(self, stream: np.random.Generator) -> Vector:
        """Return random parameters (n,), drawn from this stream alone."""
        ...

    def backward(
        self,
        vector: Vector,
        inputs: Matrix,
        targets: Targets,
        ready: Callable[[int], object] = lambda first: None,
    ) -> float:
        """Fill `gradient` with the sum of the frames' gradients over the minibatch.

        Args:
            vector: (n,) the parameters.
            inputs: (B, (2 context + 1) D) float32: D features of each frame and of each frame in
                its context. B may be 0, which gives a gradient of 0.
            targets: (B,) uint16, the correct target of each frame.
            ready: callback. The network may call it with `first` once gradient[first:] is final.

        Returns:
            The sum of -log P(target) over the minibatch, in nats.
        """
        ...

    def scores(self, vector: Vector, inputs: Matrix) -> Matrix:
        """Return the scores (B, targets) before the softmax. They are valid until the next call.

        The arguments are those of `backward`.
        """
        ...


#: Builds a network from the features per frame D, the number of targets and the capacity.
BuildModel = Callable[[int, int, int], Model]
