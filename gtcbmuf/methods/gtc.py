"""Gradient threshold compression (Strom 2015): one bit for each weight that reached tau."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.base.toml import Positive
from gtcbmuf.methods.declaration import Collectives, ExchangeSpec, Signs, Summed, Work

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.core.algorithm import Exchange
    from gtcbmuf.core.meter import Meter


class GTCSpec(ExchangeSpec, frozen=True, tag="gtc"):
    """Every worker sends one bit for each parameter whose residual reached tau."""

    #: Threshold of GTC, in the unit of a minibatch's summed gradient. A parameter is sent when its
    #: residual reaches tau.
    #:
    #: Raise it when messages are the bottleneck, lower it when the loss stalls at first. Small
    #: groups and short blocks need a small tau. The recipes use 4. In our tuning runs with
    #: minibatches of 32 frames, 1 or 2 was best. The paper's best was 8.
    tau: Positive = 1.0

    #: Target density, the share of the parameters sent in a step. tau starts at `exchange.tau` and
    #: adapts until the density is reached. If it is out of reach, as when many features are zero,
    #: tau falls no further than to where the most is sent. `"any"` keeps tau fixed.
    #:
    #: Set it when you do not know a good tau for your model, or to bound the traffic. Start with
    #: 0.02, and raise it when the loss stalls.
    density: Annotated[float, Meta(gt=1e-9, lt=1)] | Literal["any"] = "any"

    label: ClassVar[str] = "gtc"

    def build(
        self, group: "MPI.Comm", shapes: Shapes, meter: "Meter | None", seed: int = 0
    ) -> "Exchange":
        """Build the exchange."""
        from gtcbmuf.core.algorithm import GTCExchange

        density = None if self.density == "any" else self.density
        return GTCExchange(group, count_parameters(shapes), self.tau, meter, density=density)

    def sent(self, shapes: Shapes) -> Collectives:
        """The signs."""
        return (Summed(count_parameters(shapes), Signs(self._density)),)

    def encoding(self, shapes: Shapes) -> Work:
        """One pass over the residual."""
        return {"exchange": 1, "threshold_parameter": count_parameters(shapes)}

    def adding(self, shapes: Shapes, group_size: int) -> Work:
        """One addition of the group's counts."""
        return {"add_parameter": count_parameters(shapes)}

    @property
    def _density(self) -> float:
        if self.density == "any":
            raise ValueError("what GTC costs depends on its density: give one")
        return self.density
