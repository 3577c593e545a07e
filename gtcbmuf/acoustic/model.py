"""The protocol of a network: whoever brings one writes one class.

`gtcbmuf.train` trains it, saves and resumes it, evaluates and scores it. `gtcbmuf.acoustic.mlp` is
the network that ships with this package.
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
        parameters: n, below 2^31.
        shapes: of the arrays that the vector holds, in their order.
        context: frames on each side of the classified one that its inputs need.
        gradient: (n,) float32, the gradient of the last `backward`.
    """

    @property
    def parameters(self) -> int:
        """n."""
        ...

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """Of the arrays that the vector holds, in their order."""
        ...

    @property
    def context(self) -> int:
        """Frames on each side of the classified one that its inputs need."""
        ...

    @property
    def gradient(self) -> Vector:
        """The gradient (n,) of the last `backward`."""
        ...

    def initial(self, stream: np.random.Generator) -> Vector:
        """Random parameters (n,), from this stream alone."""
        ...

    def backward(
        self,
        vector: Vector,
        inputs: Matrix,
        targets: Targets,
        ready: Callable[[int], object] = lambda first: None,
    ) -> float:
        """Fill `gradient` with the sum over the minibatch of the frames' gradients.

        Args:
            vector: (n,) the parameters.
            inputs: (B, (2 context + 1) D) float32: D features of each frame, and of those around
                it; B may be 0, which gives a gradient of 0.
            targets: (B,) uint16, the right target of each frame.
            ready: may be called with `first` once gradient[first:] is final.

        Returns:
            The sum over the minibatch of -log P(target), in nats.
        """
        ...

    def scores(self, vector: Vector, inputs: Matrix) -> Matrix:
        """Scores (B, targets) before the softmax, valid until the next call; as `backward`."""
        ...


#: Features of a frame (D), targets, and the most frames at once -> a network for them.
BuildModel = Callable[[int, int, int], Model]
