"""Post-local SGD (Lin et al. 2020): synchronous at first, then averaging once per block."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from gtcbmuf.methods.bmuf import RoundedFilterSpec

if TYPE_CHECKING:
    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import BlockFilter
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.mpi.topology import Topology


class PostLocalSpec(RoundedFilterSpec, frozen=True, tag="post-local"):
    """The groups are averaged after every step at first, and once per block later."""

    #: Epochs at the start in which every step ends a block. Averaging after every step is
    #: synchronous SGD with the mean of the groups' gradients.
    #:
    #: The source changes at the first fall of the learning rate, after half of the epochs.
    synchronous_epochs: Annotated[int, Meta(ge=0, lt=2**31)] = 1

    #: Quantisation step of a group's change, as a multiple of the change's root mean square.
    #:
    #: Leave it at 0.01, which is synchronous SGD to nearly float precision. Set it to 2 to compare
    #: with `bmuf` at the same number of bytes.
    step: Annotated[float, Meta(ge=0.001, le=3)] = 0.01

    #: Treatment of the local optimiser's state at a block's end. `keep` continues, `reset` starts
    #: it again from 0.
    #:
    #: Leave it at `keep`: `reset` would take all momentum from the synchronous epochs.
    local_momentum: Literal["reset", "keep"] = "keep"

    label: ClassVar[str] = "post-local"

    def period_of(self, epoch: int) -> int:
        """Return the steps per block in an epoch: 1 at first."""
        return 1 if epoch < self.synchronous_epochs else self.period

    def build(self, topology: "Topology", model: "Vector", meter: "Meter | None") -> "BlockFilter":
        """Build the block filter. Collective in the world."""
        from gtcbmuf.core.algorithm import BMUF

        return BMUF(topology, model, momentum=0.0, step=self.step, meter=meter)
