"""1-bit SGD (Seide et al. 2014): the sign of every parameter, and two means for each column."""

import math
from typing import TYPE_CHECKING, ClassVar

from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.methods.declaration import FLOAT, Collectives, ExchangeSpec, Sent, Work

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.core.algorithm import Exchange
    from gtcbmuf.core.meter import Meter


class OneBitSpec(ExchangeSpec, frozen=True, tag="one-bit"):
    """Every worker sends one bit for each parameter, which stands for a mean of its column."""

    label: ClassVar[str] = "one-bit"

    def build(
        self, group: "MPI.Comm", shapes: Shapes, meter: "Meter | None", seed: int = 0
    ) -> "Exchange":
        """Build the exchange."""
        from gtcbmuf.core.signs import OneBitExchange

        return OneBitExchange(group, shapes, meter)

    def sent(self, shapes: Shapes) -> Collectives:
        """A bit for each parameter, and two floats for each column."""
        columns = sum(math.prod(rows) for *rows, _ in shapes)
        return (Sent("sum of parts", count_parameters(shapes) / 8 + 2 * FLOAT * columns),)

    def encoding(self, shapes: Shapes) -> Work:
        """Passes for signs, means and residual, of the gradient and of a part of the sum."""
        return signs_work(shapes)

    def adding(self, shapes: Shapes, group_size: int) -> Work:
        """One addition of the levels, and those of the sum."""
        return levels_work(shapes)


def signs_work(shapes: Shapes) -> Work:
    """Operations of a worker to add a gradient to a residual, and to send its signs and levels."""
    n = count_parameters(shapes)
    return {"dense_parameter": n, "check_parameter": n, "threshold_parameter": 1.1 * n}


def levels_work(shapes: Shapes) -> Work:
    """Operations of a worker to sum the levels of its part, and to add all levels to its model."""
    return {"threshold_parameter": 0.8 * count_parameters(shapes)}
