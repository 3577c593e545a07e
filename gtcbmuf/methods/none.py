"""No exchange and no block filter, for a single worker or a single group."""

from typing import TYPE_CHECKING, ClassVar

from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.methods.declaration import Collectives, ExchangeSpec, FilterSpec, Work

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import BlockFilter, Exchange
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.mpi.topology import Topology


class NoExchangeSpec(ExchangeSpec, frozen=True, tag="none"):
    """Every worker applies its own gradient alone."""

    connects: ClassVar[bool] = False
    label: ClassVar[str] = ""

    def build(
        self, group: "MPI.Comm", shapes: Shapes, meter: "Meter | None", seed: int = 0
    ) -> "Exchange":
        """Build the exchange."""
        from gtcbmuf.core.algorithm import NoExchange

        return NoExchange(count_parameters(shapes))

    def sent(self, shapes: Shapes) -> Collectives:
        """Nothing."""
        return ()

    def encoding(self, shapes: Shapes) -> Work:
        """Nothing."""
        return {}

    def adding(self, shapes: Shapes, group_size: int) -> Work:
        """One addition of the gradient."""
        return {"dense_parameter": count_parameters(shapes)}


class NoFilterSpec(FilterSpec, frozen=True, tag="none"):
    """One group has all workers, and nothing is filtered."""

    connects: ClassVar[bool] = False
    label: ClassVar[str] = ""

    def build(self, topology: "Topology", model: "Vector", meter: "Meter | None") -> "BlockFilter":
        """Build the block filter."""
        from gtcbmuf.core.algorithm import NoFilter

        return NoFilter(model.size)

    def sent(self, n: int) -> Collectives:
        """Nothing."""
        return ()

    def encoding(self, n: int, group_size: int) -> Work:
        """Nothing."""
        return {}

    def filtering(self, n: int) -> Work:
        """Nothing."""
        return {}

    def adding(self, n: int) -> Work:
        """Nothing."""
        return {}
