"""Sync SGD: the exact sum of a group's gradients, uncompressed."""

from typing import TYPE_CHECKING, ClassVar

from gtcbmuf.methods.declaration import FLOAT, ExchangeSpec, Sent, Work

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.core.algorithm import Exchange
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.core.overlap import Shapes


class DenseSpec(ExchangeSpec, frozen=True, tag="dense"):
    """All gradients are summed at every step."""

    #: Exchange a layer's gradient while those below it are still being computed.
    overlap: bool = False

    label: ClassVar[str] = "sync-sgd"

    @property
    def overlaps(self) -> bool:
        """Whether slices of the model are exchanged behind the backward pass."""
        return self.overlap

    def build(self, group: "MPI.Comm", shapes: "Shapes", meter: "Meter | None") -> "Exchange":
        """The exchange."""
        from gtcbmuf.core.algorithm import DenseExchange
        from gtcbmuf.core.overlap import count_parameters

        return DenseExchange(group, count_parameters(shapes), meter, ordered=self.overlap)

    def sent(self, n: int) -> Sent:
        """The gradient; with overlap in rank order, so that slices have the bits of the whole."""
        return Sent("rank order sum" if self.overlap else "allreduce", n * FLOAT)

    def encoding(self, n: int) -> Work:
        """Nothing."""
        return {}

    def adding(self, n: int, group_size: int) -> Work:
        """The sum is added."""
        return {"dense_parameter": n}
