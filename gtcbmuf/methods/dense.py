"""Sync SGD: the sum of a group's gradients, exact or as integers."""

from typing import TYPE_CHECKING, ClassVar, Literal

from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.core.error_feedback import ErrorFeedback
from gtcbmuf.methods.declaration import (
    FLOAT,
    Collectives,
    ExchangeSpec,
    Rounded,
    Sent,
    Summed,
    Work,
)

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.base.arrays import Integers, Vector
    from gtcbmuf.core.algorithm import Exchange, State
    from gtcbmuf.core.meter import Meter

#: Root mean squares that the largest integer stands for, by the integer's bits.
_RANGES = {8: 8, 16: 128}


class IntegerUpdate:
    """Sums of integers (n,), int32, in units of a step."""

    def __init__(self, sums: "Integers", step: float) -> None:
        self._sums, self._step = sums, step

    def add_to(self, vector: "Vector", scale: float) -> None:
        """vector += scale * step * sums."""
        import numpy as np

        from gtcbmuf.core import kernels
        from gtcbmuf.core.checks import check_target

        check_target("the vector to add to", vector, self._sums.size)
        kernels.add_integers(self._sums, np.float32(scale * self._step), vector)


class IntegerExchange(ErrorFeedback):
    """residual += gradient; the residual in steps, rounded, moves to integers that are summed.

    The step is a fixed share of the root mean square of the residuals in the last step. An integer
    has at most `bits` bits; what it cannot hold stays in the residual.

    Examples:
        >>> import numpy as np
        >>> from mpi4py import MPI
        >>> exchange, model = IntegerExchange(MPI.COMM_SELF, 2, 16), np.zeros(2, np.float32)
        >>> exchange(np.array([3, -3], np.float32)).add_to(model, -1)
        >>> model.tolist()
        [-3.0, 3.0]
    """

    def __init__(
        self,
        group: "MPI.Comm",
        parameters: int,
        bits: Literal[8, 16],
        meter: "Meter | None" = None,
    ) -> None:
        import numpy as np

        from gtcbmuf.core.deviation import Deviation
        from gtcbmuf.core.sums import IntegerSum

        super().__init__(group, parameters, meter)
        self._most = 2 ** (bits - 1) - 1
        self._share = _RANGES[bits] / 2 ** (bits - 1)  # of the root mean square, in a step
        self._deviation = Deviation(group.size * parameters)
        self._sum = IntegerSum(group, parameters, self._most, meter=self._meter)
        self._sums = self._sum.hosts.array((parameters,), np.int32)
        self._origin = np.zeros(parameters, np.float32)

    def __call__(self, gradient: "Vector") -> IntegerUpdate:
        import numpy as np

        from gtcbmuf.core import kernels

        with self._meter.time("encode"):
            kernels.add_scaled(self._check(gradient), np.float32(1), self._residual)
            self._check.require_finite(self._residual)
            if not self._deviation.value[0]:
                self._deviation.measure(self._group, self._residual, self._origin)
            energy = self._deviation.energy(self._residual, self._origin)
            step = np.float32(self._share * self._deviation.value[0])
            kernels.take_steps(
                self._residual, np.float32(1 / step), step, np.float32(self._most), self._sum.row
            )
        with self._meter.time("communicate"):
            self._sums[self._sum.mine] = self._sum.reduce(float(step), (energy, 0))
            self._deviation.follow(int(self._sum.finish()[0]))
        self._meter.updates_sent += self._residual.size
        return IntegerUpdate(self._sums, float(step))

    def state(self) -> "State":
        """The residual (n,), and the root mean square (1,)."""
        return {**super().state(), "deviation": self._deviation.value}


class DenseSpec(ExchangeSpec, frozen=True, tag="dense"):
    """The group sums all gradients."""

    #: Bits of a gradient's number. 32 sums floats exactly. 16 and 8 sum integers, and keep the rest
    #: as a residual.
    #:
    #: Set it to 16 when the network limits the speed: the errors stay the same. Compare with 8.
    bits: Literal[8, 16, 32] = 32

    #: Exchange the gradient of a layer while lower layers are still being computed. Gradients are
    #: then added in rank order, so the last bits may differ from a run without overlap.
    #:
    #: Set it when communication takes much of a step: a step took 0.87 of its time in our
    #: measurement on 2 hosts. The MPI library must support calls from another thread. It needs 32
    #: bits.
    overlap: bool = False

    label: ClassVar[str] = "sync-sgd"

    @property
    def overlaps(self) -> bool:
        """Whether slices of the model are exchanged during the backward pass."""
        return self.overlap

    def build(
        self, group: "MPI.Comm", shapes: Shapes, meter: "Meter | None", seed: int = 0
    ) -> "Exchange":
        """Build the exchange."""
        from gtcbmuf.core.algorithm import DenseExchange

        if self.bits != 32:
            return IntegerExchange(group, count_parameters(shapes), self.bits, meter)
        return DenseExchange(group, count_parameters(shapes), meter, ordered=self.overlap)

    def sent(self, shapes: Shapes) -> Collectives:
        """The gradient. Overlap adds in rank order, so that slices have the bits of the whole."""
        n = count_parameters(shapes)
        if self.bits != 32:
            return (Summed(n, Rounded(2 ** (self.bits - 1) / _RANGES[self.bits])),)
        return (Sent("rank order sum" if self.overlap else "allreduce", n * FLOAT),)

    def encoding(self, shapes: Shapes) -> Work:
        """Nothing for floats. Integers: an addition, a check, and the rounding."""
        if self.bits == 32:
            return {}
        passes = ("dense_parameter", "check_parameter", "quantise_parameter")
        return {"exchange": 1, **dict.fromkeys(passes, count_parameters(shapes))}

    def adding(self, shapes: Shapes, group_size: int) -> Work:
        """One addition of the sum."""
        kind = "dense_parameter" if self.bits == 32 else "add_parameter"
        return {kind: count_parameters(shapes)}
