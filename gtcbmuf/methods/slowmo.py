"""SlowMo (Wang et al. 2020): averaging with a slow momentum."""

from typing import TYPE_CHECKING, ClassVar

from gtcbmuf.base.toml import Positive, Share
from gtcbmuf.methods.bmuf import RoundedFilterSpec

if TYPE_CHECKING:
    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import BlockFilter
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.mpi.topology import Topology


class SlowMoSpec(RoundedFilterSpec, frozen=True, tag="slowmo"):
    """The groups are averaged with a momentum in units of the learning rate."""

    #: Slow momentum, beta.
    #:
    #: Raise it with the number of groups: an average of many groups moves less.
    momentum: Share = 0.7

    #: Slow learning rate, alpha.
    #:
    #: Leave it at 1, and tune the momentum and `train.learning_rate` first.
    learning_rate: Positive = 1.0

    label: ClassVar[str] = "slowmo"

    def build(self, topology: "Topology", model: "Vector", meter: "Meter | None") -> "BlockFilter":
        """Build the block filter. Collective in the world."""
        from gtcbmuf.core.outer_steps import SlowMo

        return SlowMo(
            topology,
            model,
            momentum=self.momentum,
            learning_rate=self.learning_rate,
            step=self.step,
            meter=meter,
        )
