"""Block filters of others that are a form of block momentum: SlowMo and DiLoCo."""

from typing import Any

import numpy as np

from gtcbmuf.base.arrays import Vector
from gtcbmuf.core.algorithm import BMUF, State
from gtcbmuf.mpi.topology import Topology


class SlowMo(BMUF):
    """Slow momentum (Wang et al., ICLR 2020, algorithm 1), in units of the learning rate gamma.

        u(t) = beta * u(t-1) + (x(t-1) - A(t)) / gamma(t)
        x(t) = x(t-1) - alpha * gamma(t) * u(t)

    This is classical block momentum with Delta(t) = -alpha * gamma(t) * u(t), whose momentum
    changes with the learning rate:

        Delta(t) = beta * gamma(t) / gamma(t-1) * Delta(t-1) + alpha * G(t)

    gamma(t) is the learning rate of the last step of a block. A rate of 0 changes no momentum.

    Args:
        topology, model: as for `BMUF`.
        momentum: beta, from 0 to below 1.
        learning_rate: alpha.
        options: `step` and `meter` of `BMUF`.

    Examples:
        >>> from mpi4py import MPI
        >>> model = np.zeros(1, np.float32)
        >>> slowmo = SlowMo(Topology(MPI.COMM_SELF, 1), model, momentum=0.5, step=2**-9)
        >>> for rate in (1.0, 0.5):
        ...     model += 1  # a block of steps
        ...     slowmo.advance(model, rate)
        ...     slowmo(model)
        >>> np.round(model, 2).tolist()  # 1, then 1 + 1/2 * 1/2 more
        [2.25]
    """

    def __init__(
        self,
        topology: Topology,
        model: Vector,
        *,
        momentum: float,
        learning_rate: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(topology, model, momentum=momentum, learning_rate=learning_rate, **options)
        self._beta = self._eta
        self._rate = 0.0  # of this step
        self._rate_of_momentum = np.zeros(1)  # of the last block with a rate above 0

    def advance(self, model: Vector, learning_rate: float) -> None:
        """Take note of the learning rate."""
        self._rate = float(learning_rate)

    def _filter(self, step: float, energy: int) -> None:
        before, self._eta = float(self._rate_of_momentum[0]), self._beta
        if self._rate > 0:
            self._rate_of_momentum[0] = self._rate
            if before > 0:
                self._eta = np.float32(self._beta * self._rate / before)
        super()._filter(step, energy)

    def state(self) -> State:
        """That of `BMUF`, and the learning rate that is the momentum's unit (1,)."""
        return {**super().state(), "rate": self._rate_of_momentum}

    def restore(self, state: State) -> None:
        """Continue from a `state`. Collective in the world."""
        super().restore(state)
        self._rate_of_momentum[:] = state["rate"]


class DiLoCo(BMUF):
    """The outer step of DiLoCo (Douillard et al. 2023, algorithm 1): SGD with Nesterov momentum.

        v(t)     = mu * v(t-1) + theta(t-1) - A(t)
        theta(t) = theta(t-1) - alpha * (theta(t-1) - A(t) + mu * v(t))

    This is Nesterov block momentum with theta = S. What is evaluated and saved is the start theta,
    not the anchor.

    Args:
        topology, model: as for `BMUF`.
        momentum: mu, from 0 to below 1.
        learning_rate: alpha.
        options: `step` and `meter` of `BMUF`.

    Examples:
        >>> from mpi4py import MPI
        >>> model = np.zeros(1, np.float32)
        >>> topology = Topology(MPI.COMM_SELF, 1)
        >>> diloco = DiLoCo(topology, model, momentum=0.5, learning_rate=1, step=2**-9)
        >>> model += 1  # a block of steps
        >>> diloco(model)
        >>> np.round(model, 2).tolist(), np.round(diloco.anchor(model), 2).tolist()
        ([1.5], [1.5])
    """

    def __init__(
        self,
        topology: Topology,
        model: Vector,
        *,
        momentum: float = 0.9,
        learning_rate: float = 0.7,
        **options: Any,
    ) -> None:
        super().__init__(
            topology,
            model,
            momentum=momentum,
            learning_rate=learning_rate,
            nesterov=True,
            **options,
        )

    def _global_model(self) -> Vector:
        return self._start
