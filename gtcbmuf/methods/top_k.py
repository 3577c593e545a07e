"""Top-k with error feedback, and deep gradient compression (Lin et al. 2018)."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.base.toml import Share
from gtcbmuf.core.checks import check_integer, check_share, check_target
from gtcbmuf.core.error_feedback import ErrorFeedback
from gtcbmuf.methods.declaration import FLOAT, Collectives, ExchangeSpec, Sent, Work

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import State
    from gtcbmuf.core.meter import Meter

#: Density of the first step of a warm-up (Lin et al. 2018, section 3.3).
_FIRST_DENSITY = 0.25


class TopKUpdate:
    """The messages of a group's workers, in rank order.

    Args:
        messages: (ranks, 2, k) int32, places and values.
        parameters: n.
    """

    def __init__(self, messages: Any, parameters: int) -> None:
        self._messages, self._parameters = messages, parameters

    def add_to(self, vector: "Vector", scale: float) -> None:
        """vector += scale * update."""
        check_target("the vector to add to", vector, self._parameters)
        for places, values in self._messages:
            vector[places] += float(scale) * values.view("f4")


class TopKExchange(ErrorFeedback):
    """residual += gradient; the k entries of largest size move to the message (k = density * n).

    Args:
        group: this worker's group.
        parameters: n, below 2^31.
        density: above 0 and below 1.
        meter: counts.

    Examples:
        >>> import numpy as np
        >>> from mpi4py import MPI
        >>> exchange, model = TopKExchange(MPI.COMM_SELF, 4, density=0.25), np.zeros(4, np.float32)
        >>> exchange(np.array([1, -4, 2, 0], np.float32)).add_to(model, 0.5)
        >>> model.tolist(), exchange.state()["residual"].tolist()
        ([0.0, -2.0, 0.0, 0.0], [1.0, 0.0, 2.0, 0.0])
    """

    def __init__(
        self, group: "MPI.Comm", parameters: int, density: float, meter: "Meter | None" = None
    ) -> None:
        import numpy as np

        from gtcbmuf.core import selection  # noqa: F401  compiled with the exchange
        from gtcbmuf.mpi.carried import per_process
        from gtcbmuf.mpi.shared_memory import hosts_of

        super().__init__(group, parameters, meter)
        self._crosses = hosts_of(group).count > 1
        self._density = check_share("density", density, above_zero=True)
        self._messages = self._make_messages(0)
        # The workers of a process share it, one after another.
        self._places = per_process(group, lambda _: np.empty(parameters, np.int32))

    def __call__(self, gradient: "Vector") -> TopKUpdate:
        import numpy as np  # late: a configuration needs none

        from gtcbmuf.core.selection import find_largest

        with self._meter.time("encode"):
            self._accumulate(self._check(gradient))
            self._check.require_finite(self._residual)
            k = max(1, round(self._density_of_step() * self._residual.size))
            find_largest(self._residual, k, self._places)
            places = self._places[:k].copy()
            message = np.stack([places, self._residual[places].view(np.int32)])
            self._drop(places)
        with self._meter.time("communicate"):
            if k != self._messages.shape[2]:
                self._messages = self._make_messages(k)
            self._group.Allgather(message, self._messages)
        self._meter.updates_sent += k
        self._meter.bytes_sent += message.nbytes if self._crosses else 0
        return TopKUpdate(self._messages, self._residual.size)

    def _make_messages(self, k: int) -> Any:
        """Make an array for the messages of all workers; collective."""
        import numpy as np

        from gtcbmuf.mpi.carried import per_process

        return per_process(self._group, lambda _: np.empty((self._group.size, 2, k), np.int32))

    def _density_of_step(self) -> float:
        return self._density

    def _accumulate(self, gradient: "Vector") -> None:
        """Add a gradient to the residual."""
        self._residual += gradient

    def _drop(self, places: Any) -> None:
        """Remove what is sent from the residual."""
        self._residual[places] = 0


class DGCExchange(TopKExchange):
    """Top-k of sums of momentum: deep gradient compression (Lin et al., ICLR 2018).

    momentum = m * momentum + gradient; residual += momentum; the k entries of the residual of
    largest size are sent. Both vectors lose these entries (momentum correction and momentum factor
    masking, sections 3.1 and 3.2). During a warm-up, the density falls exponentially from 1/4
    (section 3.3). The source also clips the gradients of recurrent networks.

    Args:
        group, parameters, density, meter: as for `TopKExchange`.
        momentum: m, from 0 to below 1.
        warmup_steps: number of steps of the warm-up.

    Examples:
        >>> import numpy as np
        >>> from mpi4py import MPI
        >>> exchange, model = DGCExchange(MPI.COMM_SELF, 2, 0.5, 0.5), np.zeros(2, np.float32)
        >>> for _ in range(2):
        ...     exchange(np.array([4, 3], np.float32)).add_to(model, 1)
        >>> model.tolist(), exchange.state()["residual"].tolist()  # 3, then 3 + 3/2 more
        ([4.0, 7.5], [4.0, 0.0])
    """

    def __init__(
        self,
        group: "MPI.Comm",
        parameters: int,
        density: float,
        momentum: float,
        warmup_steps: int = 0,
        meter: "Meter | None" = None,
    ) -> None:
        import numpy as np

        super().__init__(group, parameters, density, meter)
        self._factor = np.float32(check_share("momentum", momentum))
        self._warmup = check_integer("warmup_steps", warmup_steps, 0)
        self._momentum = np.zeros(parameters, np.float32)
        self._steps = np.zeros(1, np.int64)

    def _density_of_step(self) -> float:
        step = int(self._steps[0])
        self._steps += 1
        if step >= self._warmup or self._density >= _FIRST_DENSITY:
            return self._density
        fall: float = (self._density / _FIRST_DENSITY) ** (step / self._warmup)
        return _FIRST_DENSITY * fall

    def _accumulate(self, gradient: "Vector") -> None:
        from gtcbmuf.core import kernels

        kernels.decay(self._momentum, self._factor)
        self._momentum += gradient
        self._residual += self._momentum

    def _drop(self, places: Any) -> None:
        super()._drop(places)
        self._momentum[places] = 0

    def forget(self) -> None:
        """Drop the residual and the momentum."""
        super().forget()
        self._momentum[:] = 0

    def state(self) -> "State":
        """The residual (n,), the momentum (n,), and the number of steps (1,)."""
        return {**super().state(), "momentum": self._momentum, "steps": self._steps}


class TopKSpec(ExchangeSpec, frozen=True, tag="top-k"):
    """Every worker sends the k entries of its residual of largest size."""

    #: Share of the parameters sent in a step: k = density * n, at least 1.
    #:
    #: Raise it when the loss falls more slowly than with `dense`. Lower it when messages are the
    #: bottleneck: each sent parameter takes 8 bytes.
    density: Annotated[float, Meta(gt=1e-9, lt=1)] = 0.01

    label: ClassVar[str] = "top-k"

    def build(
        self, group: "MPI.Comm", shapes: Shapes, meter: "Meter | None", seed: int = 0
    ) -> TopKExchange:
        """Build the exchange."""
        return TopKExchange(group, count_parameters(shapes), self.density, meter)

    def sent(self, shapes: Shapes) -> Collectives:
        """A place and a value for each sent parameter."""
        return (Sent("allgather", 2 * FLOAT * count_parameters(shapes) * self.density),)

    def encoding(self, shapes: Shapes) -> Work:
        """The selection takes as long as 3 passes of GTC (`gtcbmuf bench kernels`)."""
        return {"threshold_parameter": 3 * count_parameters(shapes)}

    def adding(self, shapes: Shapes, group_size: int) -> Work:
        """Every worker adds the messages of the whole group: 3 times as long as decoding them."""
        return {"decode_code": 3 * group_size * count_parameters(shapes) * self.density}


class DGCSpec(TopKSpec, frozen=True, tag="dgc"):
    """Top-k of a momentum that is accumulated in the residual: deep gradient compression."""

    #: Momentum of a worker's gradients, before they are accumulated.
    #:
    #: Leave it at the source's 0.9, and use a tenth of the learning rate of `top-k`. Leave
    #: `train.momentum` at 0.
    momentum: Share = 0.9

    #: Number of steps over which the density falls from 0.25 to `exchange.density`.
    #:
    #: The source uses four epochs. Set it when the loss rises at the start.
    warmup_steps: Annotated[int, Meta(ge=0, lt=2**31)] = 0

    label: ClassVar[str] = "dgc"

    def build(
        self, group: "MPI.Comm", shapes: Shapes, meter: "Meter | None", seed: int = 0
    ) -> DGCExchange:
        """Build the exchange."""
        n = count_parameters(shapes)
        return DGCExchange(group, n, self.density, self.momentum, self.warmup_steps, meter)

    def encoding(self, shapes: Shapes) -> Work:
        """Two passes more than top-k."""
        n = count_parameters(shapes)
        return {**super().encoding(shapes), "dense_parameter": 2 * n}
