"""Local optimisers beside `Descent`: Nesterov momentum and AdamW.

They see only the group's update, which has the same bits on all workers of the group. So do the
models that they change.
"""

import math

import numpy as np

from gtcbmuf.base.arrays import Vector
from gtcbmuf.core import kernels
from gtcbmuf.core.algorithm import Descent, State, Update
from gtcbmuf.core.checks import check_above_zero, check_not_negative, check_share, check_target


class Nesterov(Descent):
    """Nesterov momentum, as in PyTorch's `SGD(nesterov=True)` (Sutskever et al. 2013).

    With the momentum m and the update u,

        velocity = m * velocity + u
        model   -= learning rate * (u + m * velocity)

    The update is a sum over frames, so the learning rate is per frame, as in `Descent`.

    Args:
        parameters: n, below 2^31.
        momentum: m, above 0 and below 1.

    Raises:
        ValueError: the momentum is out of its range.

    Examples:
        >>> import numpy as np
        >>> from gtcbmuf import DenseUpdate
        >>> nesterov, model = Nesterov(1, momentum=0.5), np.zeros(1, np.float32)
        >>> for _ in range(2):
        ...     nesterov(model, DenseUpdate(np.ones(1, np.float32)), 0.25)
        >>> model.tolist()  # -0.25 * 1.5, then -0.25 * 1.75 more
        [-0.8125]
    """

    def __init__(self, parameters: int, momentum: float) -> None:
        super().__init__(parameters, check_share("momentum", momentum, above_zero=True))

    def __call__(self, model: Vector, update: Update, learning_rate: float) -> None:
        [velocity] = self.state().values()
        update.add_to(model, -learning_rate)
        kernels.decay(velocity, self._momentum)
        update.add_to(velocity, 1.0)
        ahead = np.float32(-learning_rate * float(self._momentum))
        kernels.add_scaled(velocity, ahead, model)


class AdamW(Descent):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    With the update u in step t,

        first  = beta1 * first + (1 - beta1) * u
        second = beta2 * second + (1 - beta2) * u^2
        step   = first / (1 - beta1^t) / (sqrt(second / (1 - beta2^t)) + epsilon)
        model  = (1 - learning rate * weight decay) * model - learning rate * step

    The step hardly depends on the scale of the update, which is a sum over frames. So the learning
    rate is per step, and not per frame. Epsilon is in the unit of the update: PyTorch's epsilon for
    a mean over F frames is F times as large here.

    Args:
        parameters: n, below 2^31.
        beta1, beta2: decay of the moments, from 0 to below 1.
        epsilon: added to the root of the second moment, above 0.
        weight_decay: share of the model that is taken off per step, in units of the learning rate.

    Raises:
        ValueError: a number is out of its range.

    Raises, when called:
        ValueError: the model has another length or type.

    Examples:
        >>> import numpy as np
        >>> from gtcbmuf import DenseUpdate
        >>> adamw, model = AdamW(2, weight_decay=0.5), np.array([0, 1], np.float32)
        >>> adamw(model, DenseUpdate(np.array([-300, 2], np.float32)), 0.25)
        >>> np.round(model, 3).tolist()  # a step of 0.25 each, after 1 was cut by an eighth
        [0.25, 0.625]
    """

    def __init__(
        self,
        parameters: int,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        # 1 - beta: the weight of an update in a moment.
        self._new = np.float32(1 - check_share("beta1", beta1))
        self._new_square = np.float32(1 - check_share("beta2", beta2))
        self._epsilon = np.float32(check_above_zero("epsilon", epsilon))
        self._weight_decay = check_not_negative("weight_decay", weight_decay)
        self._update, self._first, self._second = (
            np.zeros(parameters, np.float32) for _ in range(3)
        )
        self._betas = 1 - np.array([self._new, self._new_square], np.float64)
        # beta1^t and beta2^t. A product has the same bits on all machines, a power may not.
        self._powers = np.ones(2)

    def __call__(self, model: Vector, update: Update, learning_rate: float) -> None:
        check_target("model", model, self._update.size)
        self._update[:] = 0
        update.add_to(self._update, 1.0)
        self._powers *= self._betas
        first, second = (1 - self._powers).tolist()
        kernels.adamw(
            self._update,
            self._new,
            self._new_square,
            np.float32(learning_rate / first),
            np.float32(1 / math.sqrt(second)),
            self._epsilon,
            np.float32(1 - learning_rate * self._weight_decay),
            self._first,
            self._second,
            model,
        )

    def forget(self) -> None:
        """Reset both moments to 0, and the steps to t = 0."""
        self._first[:] = self._second[:] = 0
        self._powers[:] = 1

    def state(self) -> State:
        """Both moments (n,); beta1^t and beta2^t as float64 (2,)."""
        return {"first": self._first, "second": self._second, "powers": self._powers}
