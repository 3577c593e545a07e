"""Sync SGD: the exact sum of a group's gradients, uncompressed."""

from typing import TYPE_CHECKING, ClassVar

from gtcbmuf.methods.declaration import FLOAT, ExchangeSpec, Sent, Work

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.core.algorithm import Exchange
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.core.overlap import Shapes


class DenseSpec(ExchangeSpec, frozen=True, tag="dense"):
    """The group sums all gradients exactly."""

    #: Exchange the gradient of a layer while lower layers are still being computed. Gradients are
    #: then added in rank order, so the last bits may differ from a run without overlap.
    #:
    #: Set it when communication takes much of a step: a step took 0.8 of its time in our
    #: measurement on 2 hosts. The MPI library must support calls from another thread.
    overlap: bool = False

    label: ClassVar[str] = "sync-sgd"

    @property
    def overlaps(self) -> bool:
        """Whether slices of the model are exchanged during the backward pass."""
        return self.overlap

    def build(self, group: "MPI.Comm", shapes: "Shapes", meter: "Meter | None") -> "Exchange":
        """Build the exchange."""
        from gtcbmuf.core.algorithm import DenseExchange
        from gtcbmuf.core.overlap import count_parameters

        return DenseExchange(group, count_parameters(shapes), meter, ordered=self.overlap)

    def sent(self, n: int) -> Sent:
        """The gradient. Overlap adds in rank order, so that slices have the bits of the whole."""
        return Sent("rank order sum" if self.overlap else "allreduce", n * FLOAT)

    def encoding(self, n: int) -> Work:
        """Nothing."""
        return {}

    def adding(self, n: int, group_size: int) -> Work:
        """One addition of the sum."""
        return {"dense_parameter": n}
