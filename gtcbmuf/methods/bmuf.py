"""Blockwise model-update filtering (Chen and Huo 2016), and plain averaging."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from msgspec import Meta
from msgspec.structs import replace

from gtcbmuf.base.toml import Positive, Share
from gtcbmuf.methods.declaration import FLOAT, FilterSpec, Sent, Work

if TYPE_CHECKING:
    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import BlockFilter
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.mpi.topology import Topology


class BMUFSpec(FilterSpec, frozen=True, tag="bmuf"):
    """The groups' models are averaged, and the change is filtered with block momentum."""

    #: Block momentum eta; "auto" is 1 - 1/G; 0 is plain averaging.
    momentum: Share | Literal["auto"] = "auto"
    #: Block learning rate zeta.
    learning_rate: Positive = 1.0
    #: Nesterov block momentum (NBM) instead of the classical one (CBM).
    nesterov: bool = False
    #: Each worker of a group leads for a slice of the model, instead of one for all of it.
    sharded: bool = False
    #: Blocks, from the first, that are plainly averaged.
    averaged_blocks: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    #: What happens to the workers' residuals at a block's end.
    residual: Literal["keep", "clear", "flush"] = "keep"
    #: What happens to the workers' local momentum at a block's end.
    local_momentum: Literal["reset", "keep"] = "reset"

    @property
    def label(self) -> str:  # type: ignore[override]
        """Averaging without momentum, else BMUF."""
        return "averaging" if self.momentum == 0 and self.learning_rate == 1 else "bmuf"

    @property
    def clears_residuals(self) -> bool:
        """Whether the exchanges drop their residuals at a block's end."""
        return self.residual == "clear"

    @property
    def flushes_residuals(self) -> bool:
        """Whether the exchanges send all of their residuals at a block's end."""
        return self.residual == "flush"

    @property
    def resets_momentum(self) -> bool:
        """Whether the workers' local momentum starts again at 0 after a block."""
        return self.local_momentum == "reset"

    def resolve(self, groups: int) -> Self:
        """The same with eta = 1 - 1/G for "auto"."""
        if self.momentum != "auto" or groups == 1:
            return self
        return replace(self, momentum=1 - 1 / groups)

    def build(self, topology: "Topology", model: "Vector", meter: "Meter | None") -> "BlockFilter":
        """The block filter; collective in the world."""
        from gtcbmuf.core.algorithm import BMUF

        return BMUF(
            topology,
            model,
            momentum=None if self.momentum == "auto" else self.momentum,
            learning_rate=self.learning_rate,
            nesterov=self.nesterov,
            sharded=self.sharded,
            averaged=self.averaged_blocks,
            meter=meter,
        )

    def leaders(self, group_size: int) -> int:
        """One, or sharded all workers of a group."""
        return group_size if self.sharded else 1

    def summed(self, n: int, group_size: int) -> Sent:
        """The part that it leads for."""
        return Sent("rank order sum", n * FLOAT / self.leaders(group_size))

    def spread(self, n: int, group_size: int) -> Sent:
        """The same part, or the whole model."""
        collective: Literal["allgather", "broadcast"] = "allgather" if self.sharded else "broadcast"
        return Sent(collective, n * FLOAT / self.leaders(group_size))

    def filtering(self, n: int) -> Work:
        """Every parameter is filtered."""
        return {"filter_parameter": n}
