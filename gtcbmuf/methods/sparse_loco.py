"""SparseLoCo (Sarfi et al. 2025): a sparse outer step of two bits a number, with error feedback."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from gtcbmuf.base.toml import Positive
from gtcbmuf.methods.bmuf import MeetingSpec
from gtcbmuf.methods.declaration import Collectives, Levels, Sent, Summed, Work

if TYPE_CHECKING:
    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import BlockFilter
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.mpi.topology import Topology


#: Share of the sent integers whose size is 3: 0.0009 in an epoch of the corpus `full` with 16
#: workers.
_LARGE = 0.001


class SparseLoCoSpec(MeetingSpec, frozen=True, tag="sparse-loco"):
    """Every group sends few numbers of two bits of its change, and keeps a fading residual."""

    #: Share of the parameters sent at a block's end: the largest ones of every 4,096 parameters.
    #:
    #: Raise it when the loss falls more slowly than with `averaging`. Lower it when the block's end
    #: takes long. The source recommends 1 to 3 %; the default is 64 of 4,096.
    density: Annotated[float, Meta(ge=0.00025, lt=1)] = 64 / 4096

    #: Factor of the residual after a block. The residual is what a group has not sent yet.
    #:
    #: Lower it when the model oscillates: the residual then forgets old changes sooner. 1 keeps
    #: everything.
    decay: Annotated[float, Meta(ge=0, le=1)] = 0.95

    #: Learning rate of the outer step.
    #:
    #: Leave it at 1, and tune `train.learning_rate` and `block_filter.decay` first.
    learning_rate: Positive = 1.0

    #: Treatment of the local optimiser's state at a block's end. `keep` continues, `reset` starts
    #: it again from 0.
    #:
    #: Leave it at `keep`, as in the source: every worker has an AdamW of its own.
    local_momentum: Literal["reset", "keep"] = "keep"

    label: ClassVar[str] = "sparse-loco"

    def build(self, topology: "Topology", model: "Vector", meter: "Meter | None") -> "BlockFilter":
        """Build the block filter. Collective in the world."""
        from gtcbmuf.core.sparse_outer import SparseLoCo

        return SparseLoCo(
            topology,
            model,
            density=self.density,
            decay=self.decay,
            learning_rate=self.learning_rate,
            meter=meter,
        )

    def sent(self, n: int) -> Collectives:
        """A byte for each chunk, then the levels of the largest changes."""
        return Sent("allreduce", n / 4096), Summed(n, Levels(self.density, _LARGE))

    def encoding(self, n: int, group_size: int) -> Work:
        """Every worker checks its model, and chooses from a part of its group's residual.

        The choice takes as long as 5 passes of GTC.
        """
        return {"filter": 1, "check_parameter": n, "threshold_parameter": 5 * n / group_size}

    def filtering(self, n: int) -> Work:
        """One addition of an integer for each parameter."""
        return {"add_parameter": n}

    def adding(self, n: int) -> Work:
        """Every worker copies the start."""
        return {"dense_parameter": n}
