"""SparseLoCo (Sarfi et al. 2025): a sparse outer step of two bits a number, with error feedback."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from gtcbmuf.base.toml import Positive
from gtcbmuf.methods.bmuf import MeetingSpec
from gtcbmuf.methods.declaration import Collectives, Levels, Summed, Work

if TYPE_CHECKING:
    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import BlockFilter
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.mpi.topology import Topology


class SparseLoCoSpec(MeetingSpec, frozen=True, tag="sparse-loco"):
    """Every group sends few numbers of two bits of its change, and keeps a fading residual."""

    #: Share of the parameters that a group sends at a block's end.
    #:
    #: The source sends 1 to 3 per cent. Raise it when the loss falls too slowly.
    share: Annotated[float, Meta(gt=1e-9, lt=1)] = 0.03

    #: Factor of a group's residual from block to block.
    #:
    #: Leave it at the source's 0.95. A smaller one forgets old changes sooner.
    decay: Annotated[float, Meta(gt=0, lt=0.9999)] = 0.95

    #: Learning rate of the outer step.
    #:
    #: Leave it at the source's 1.
    learning_rate: Positive = 1.0

    label: ClassVar[str] = "sparse-loco"

    def build(self, topology: "Topology", model: "Vector", meter: "Meter | None") -> "BlockFilter":
        """Build the block filter. Collective in the world."""
        from gtcbmuf.core.sparse_outer import SparseOuterStep

        return SparseOuterStep(
            topology,
            model,
            density=self.share,
            decay=self.decay,
            learning_rate=self.learning_rate,
            meter=meter,
        )

    def sent(self, n: int) -> Collectives:
        """The chosen numbers of a group."""
        return (Summed(n, Levels(self.share)),)

    def encoding(self, n: int, group_size: int) -> Work:
        """A check, three passes, and a selection that takes as long as that of top-k."""
        part = n / group_size
        return {
            "filter": 1,
            "check_parameter": n,
            "dense_parameter": 3 * part,
            "threshold_parameter": 10 * part,
        }

    def filtering(self, n: int) -> Work:
        """Two passes."""
        return {"dense_parameter": 2 * n}

    def adding(self, n: int) -> Work:
        """A copy of the start."""
        return {"dense_parameter": n}
