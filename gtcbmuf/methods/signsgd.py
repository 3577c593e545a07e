"""signSGD with majority vote (Bernstein et al. 2019), and with error feedback."""

from typing import TYPE_CHECKING

from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.base.toml import Share
from gtcbmuf.methods.declaration import FLOAT, Collectives, ExchangeSpec, Sent, Work
from gtcbmuf.methods.one_bit import levels_work, signs_work

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.core.algorithm import Exchange
    from gtcbmuf.core.meter import Meter


class SignSGDSpec(ExchangeSpec, frozen=True, tag="signsgd"):
    """Every worker sends the sign of each parameter, and the update is the sign of most workers."""

    #: Send the mean size of an array with its signs, and keep the rest as a residual.
    #:
    #: Set it to compare with a form that converges. Without it, an update is 1 or -1 for every
    #: parameter, so `train.learning_rate` is the size of a step: start at 1e-4.
    error_feedback: bool = False

    #: Momentum of the majority vote: a worker sends the signs of a running mean of its gradients.
    #:
    #: Leave it at the source's 0.9. It has no effect with error feedback.
    momentum: Share = 0.9

    @property
    def label(self) -> str:  # type: ignore[override]
        """`ef-signsgd` with error feedback, else `signsgd`."""
        return "ef-signsgd" if self.error_feedback else "signsgd"

    def build(
        self, group: "MPI.Comm", shapes: Shapes, meter: "Meter | None", seed: int = 0
    ) -> "Exchange":
        """Build the exchange."""
        from gtcbmuf.core.signs import EFSignExchange, MajorityExchange

        if self.error_feedback:
            return EFSignExchange(group, shapes, meter)
        return MajorityExchange(group, count_parameters(shapes), self.momentum, meter)

    def sent(self, shapes: Shapes) -> Collectives:
        """A bit for each parameter, and with error feedback two floats for each array."""
        levels = 2 * FLOAT * len(shapes) if self.error_feedback else 0
        return (Sent("sum of parts", count_parameters(shapes) / 8 + levels),)

    def encoding(self, shapes: Shapes) -> Work:
        """As for 1-bit SGD."""
        return signs_work(shapes)

    def adding(self, shapes: Shapes, group_size: int) -> Work:
        """As for 1-bit SGD."""
        return levels_work(shapes)
