"""Top-k with error feedback: every worker sends the k entries of its residual of largest size."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.core.checks import check_share, check_target
from gtcbmuf.core.error_feedback import ErrorFeedback
from gtcbmuf.methods.declaration import FLOAT, Collectives, ExchangeSpec, Sent, Work

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.meter import Meter


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

        from gtcbmuf.mpi.carried import per_process
        from gtcbmuf.mpi.shared_memory import hosts_of

        super().__init__(group, parameters, meter)
        self._crosses = hosts_of(group).count > 1
        self._k = max(1, round(check_share("density", density, above_zero=True) * parameters))
        self._messages = per_process(group, lambda _: np.empty((group.size, 2, self._k), np.int32))

    def __call__(self, gradient: "Vector") -> TopKUpdate:
        import numpy as np  # late: a configuration needs none

        with self._meter.time("encode"):
            self._residual += self._check(gradient)
            self._check.require_finite(self._residual)
            places = np.argpartition(np.abs(self._residual), -self._k)[-self._k :].astype(np.int32)
            message = np.stack([places, self._residual[places].view(np.int32)])
            self._residual[places] = 0
        with self._meter.time("communicate"):
            self._group.Allgather(message, self._messages)
        self._meter.updates_sent += self._k
        self._meter.bytes_sent += message.nbytes if self._crosses else 0
        return TopKUpdate(self._messages, self._residual.size)


class TopKSpec(ExchangeSpec, frozen=True, tag="top-k"):
    """Every worker sends the k entries of its residual of largest size."""

    #: Share of the parameters sent in a step: k = density * n, at least 1.
    #:
    #: Raise it when the loss falls more slowly than with `dense`. Lower it when messages are the
    #: bottleneck: each sent parameter takes 8 bytes.
    density: Annotated[float, Meta(gt=1e-9, lt=1)] = 0.01

    label: ClassVar[str] = "top-k"

    def build(self, group: "MPI.Comm", shapes: Shapes, meter: "Meter | None") -> TopKExchange:
        """Build the exchange."""
        return TopKExchange(group, count_parameters(shapes), self.density, meter)

    def sent(self, shapes: Shapes) -> Collectives:
        """A place and a value for each sent parameter."""
        return (Sent("allgather", 2 * FLOAT * count_parameters(shapes) * self.density),)

    def encoding(self, shapes: Shapes) -> Work:
        """The selection takes as long as 10 passes of GTC (`gtcbmuf bench kernels`)."""
        return {"threshold_parameter": 10 * count_parameters(shapes)}

    def adding(self, shapes: Shapes, group_size: int) -> Work:
        """Every worker adds the messages of the whole group: 3 times as long as decoding them."""
        return {"decode_code": 3 * group_size * count_parameters(shapes) * self.density}
