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

#: Size of the slots that messages travel in, over that of a message (`MessageGather`).
SLOT = 9 / 8


class GTCSpec(ExchangeSpec, frozen=True, tag="gtc"):
    """Signs and places of what reached tau are sent; the rest is kept as residual."""

    #: GTC's threshold, in the unit of a minibatch's summed gradient.
    tau: Positive = 1.0
    #: Target density: the share of the parameters sent in a step. tau adapts to reach it, from the
    #: value given; "any" keeps tau fixed.
    density: Annotated[float, Meta(gt=1e-9, lt=1)] | Literal["any"] = "any"
    #: Exchange a layer's gradient while those below it are still being computed.
    overlap: bool = False

    label: ClassVar[str] = "gtc"
    keeps_residual: ClassVar[bool] = True

    @property
    def overlaps(self) -> bool:
        """Whether slices of the model are exchanged behind the backward pass."""
        return self.overlap

    def build(self, group: "MPI.Comm", shapes: "Shapes", meter: "Meter | None") -> "Exchange":
        """The exchange."""
        from gtcbmuf.core.algorithm import GTCExchange
        from gtcbmuf.core.overlap import count_parameters

        density = None if self.density == "any" else self.density
        return GTCExchange(group, count_parameters(shapes), self.tau, meter, density=density)

    def sent(self, n: int) -> Sent:
        """A message, in a slot."""
        from gtcbmuf.core.wire import expected_bytes  # loads Numba

        return Sent("allgather", SLOT * expected_bytes(n, self._density))

    def encoding(self, n: int) -> Work:
        """One pass over the residual, and the updates."""
        return {"encode_parameter": n, "encode_update": n * self._density}

    def adding(self, n: int, group_size: int) -> Work:
        """Every worker decodes the messages of all."""
        if self._density > 1 / 16:  # the dense form of a message
            return {"decode_message": group_size, "decode_bits": group_size * n}
        return {"decode_message": group_size, "decode_update": group_size * n * self._density}

    @property
    def _density(self) -> float:
        if self.density == "any":
            raise ValueError("what GTC costs depends on its density: give one")
        return self.density
