"""DiLoCo (Douillard et al. 2023): an outer step of SGD with Nesterov momentum."""

from typing import TYPE_CHECKING, ClassVar, Literal

from gtcbmuf.base.toml import Positive, Share
from gtcbmuf.methods.bmuf import RoundedFilterSpec

if TYPE_CHECKING:
    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import BlockFilter
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.mpi.topology import Topology


class DiLoCoSpec(RoundedFilterSpec, frozen=True, tag="diloco"):
    """The averaged change is a gradient for SGD with Nesterov momentum."""

    #: Momentum of the outer step.
    #:
    #: Leave it at the source's 0.9 to compare with the source. `bmuf` derives it from the number of
    #: groups.
    momentum: Share = 0.9

    #: Learning rate of the outer step.
    #:
    #: Leave it at the source's 0.7.
    learning_rate: Positive = 0.7

    #: Treatment of the local optimiser's state at a block's end. `keep` continues, `reset` starts
    #: it again from 0.
    #:
    #: Leave it at `keep`, as in the source: every worker has an AdamW of its own.
    local_momentum: Literal["reset", "keep"] = "keep"

    label: ClassVar[str] = "diloco"

    def build(self, topology: "Topology", model: "Vector", meter: "Meter | None") -> "BlockFilter":
        """Build the block filter. Collective in the world."""
        from gtcbmuf.core.outer_steps import DiLoCo

        return DiLoCo(
            topology,
            model,
            momentum=self.momentum,
            learning_rate=self.learning_rate,
            step=self.step,
            meter=meter,
        )
