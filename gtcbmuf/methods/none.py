"""No exchange, and no block filter: a worker, or a group, on its own."""

from typing import TYPE_CHECKING, ClassVar

from gtcbmuf.methods.declaration import ExchangeSpec, FilterSpec, Sent, Work

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import BlockFilter, Exchange
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.core.overlap import Shapes
    from gtcbmuf.mpi.topology import Topology


class NoExchangeSpec(ExchangeSpec, frozen=True, tag="none"):
    """Every worker keeps its gradient to itself."""

    connects: ClassVar[bool] = False
    label: ClassVar[str] = ""

    def build(self, group: "MPI.Comm", shapes: "Shapes", meter: "Meter | None") -> "Exchange":
        """The exchange."""
        from gtcbmuf.core.algorithm import NoExchange
        from gtcbmuf.core.overlap import count_parameters

        return NoExchange(count_parameters(shapes))

    def sent(self, n: int) -> Sent:
        """Nothing."""
        return Sent("nothing")

    def encoding(self, n: int) -> Work:
        """Nothing."""
        return {}

    def adding(self, n: int, group_size: int) -> Work:
        """The gradient is added."""
        return {"dense_parameter": n}


class NoFilterSpec(FilterSpec, frozen=True, tag="none"):
    """One group is the whole world; at a block's end `train.verify` compares the replicas."""

    connects: ClassVar[bool] = False
    label: ClassVar[str] = ""

    def build(self, topology: "Topology", model: "Vector", meter: "Meter | None") -> "BlockFilter":
        """The block filter."""
        from gtcbmuf.core.algorithm import NoFilter

        return NoFilter(model.size)

    def leaders(self, group_size: int) -> int:
        """None leads; one is counted."""
        return 1

    def summed(self, n: int, group_size: int) -> Sent:
        """Nothing."""
        return Sent("nothing")

    def spread(self, n: int, group_size: int) -> Sent:
        """Nothing."""
        return Sent("nothing")

    def filtering(self, n: int) -> Work:
        """Nothing."""
        return {}
