"""One replica for the workers of a group that share a process.

Their replicas would have the same bits. The first of these workers, which runs before the others,
applies what the tiers return. The others take part in both tiers, and change nothing.
"""

import numpy as np

from gtcbmuf.base.arrays import Vector
from gtcbmuf.core.algorithm import BlockFilter, Descent, Update
from gtcbmuf.core.delayed import DelayedBMUF


class FollowingDescent(Descent):
    """The descent of a worker whose replica another worker updates.

    Args:
        descent: that of the other worker.
    """

    def __init__(self, descent: Descent) -> None:
        self.state = descent.state  # type: ignore[method-assign]

    def __call__(self, model: Vector, update: Update, learning_rate: float) -> None:
        """The other worker has applied the update."""

    def forget(self) -> None:
        """The other worker forgets."""


class FollowingFilter:
    """The block filter of a worker whose replica another worker filters.

    It works on a copy of the replica, which is dropped.

    Args:
        block_filter: that of this worker.
        parameters: n.
    """

    def __init__(self, block_filter: BlockFilter, parameters: int) -> None:
        self._block_filter, self._copy = block_filter, np.empty(parameters, np.float32)
        self.state, self.restore = block_filter.state, block_filter.restore

    def __call__(self, model: Vector, *, wait: bool = True) -> None:
        self._take(model)
        self._block_filter(self._copy, wait=wait)

    def advance(self, model: Vector, learning_rate: float) -> None:
        # What is late is added to the copy, which nobody reads before the next call.
        self._block_filter.advance(self._copy, learning_rate)

    def anchor(self, model: Vector) -> Vector:
        self._take(model)
        return self._block_filter.anchor(self._copy)

    def _take(self, model: Vector) -> None:
        # What is late comes first: the other worker has added it to the replica, or does so now.
        if isinstance(self._block_filter, DelayedBMUF):
            self._block_filter.arrive(self._copy)
        self._copy[:] = model
