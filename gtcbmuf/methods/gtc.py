"""Gradient threshold compression (Strom 2015): one bit for each weight that reached tau."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from gtcbmuf.base.toml import Positive
from gtcbmuf.methods.declaration import ExchangeSpec, Sent, Work

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.core.algorithm import Exchange
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.core.overlap import Shapes

#: Ratio of a slot's size to the size of the message in it (`MessageGather`).
SLOT = 9 / 8


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
    #: 0.02, and raise it when the loss stalls. Overlap needs `"any"`.
    density: Annotated[float, Meta(gt=1e-9, lt=1)] | Literal["any"] = "any"

    #: Exchange the gradient of a layer while lower layers are still being computed. The result has
    #: the same bits.
    #:
    #: Measure before you set it: GTC's messages are so small that a step was no faster in our
    #: measurements. The MPI library must support calls from another thread.
    overlap: bool = False

    label: ClassVar[str] = "gtc"
    keeps_residual: ClassVar[bool] = True

    @property
    def overlaps(self) -> bool:
        """Whether slices of the model are exchanged during the backward pass."""
        return self.overlap

    def build(self, group: "MPI.Comm", shapes: "Shapes", meter: "Meter | None") -> "Exchange":
        """Build the exchange."""
        from gtcbmuf.core.algorithm import GTCExchange
        from gtcbmuf.core.overlap import count_parameters

        density = None if self.density == "any" else self.density
        return GTCExchange(group, count_parameters(shapes), self.tau, meter, density=density)

    def sent(self, n: int) -> Sent:
        """One message in its slot."""
        from gtcbmuf.core.wire import expected_bytes  # loads Numba

        return Sent("allgather", SLOT * expected_bytes(n, self._density))

    def encoding(self, n: int) -> Work:
        """One pass over the residual, and one entry for each update."""
        return {"encode_parameter": n, "encode_update": n * self._density}

    def adding(self, n: int, group_size: int) -> Work:
        """Every worker decodes the messages of the whole group."""
        if self._density > 1 / 16:  # the dense form of a message
            return {"decode_message": group_size, "decode_bits": group_size * n}
        return {"decode_message": group_size, "decode_update": group_size * n * self._density}

    @property
    def _density(self) -> float:
        if self.density == "any":
            raise ValueError("what GTC costs depends on its density: give one")
        return self.density
