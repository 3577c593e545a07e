"""Blockwise model-update filtering (Chen and Huo 2016) and plain averaging."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from msgspec import Meta
from msgspec.structs import replace

from gtcbmuf.base.toml import Positive, Share
from gtcbmuf.methods.declaration import Collectives, FilterSpec, Rounded, Summed, Work

if TYPE_CHECKING:
    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import BlockFilter
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.mpi.topology import Topology

#: Steps of a training, in units of those that block momentum averages over, from which it cost next
#: to nothing in our runs (docs/measurements/error.md).
SUFFICIENT_STEPS = 30


class MeetingSpec(FilterSpec, frozen=True):
    """Base of the block filters in which groups meet: what they do to the workers' states."""

    is_base: ClassVar[bool] = True

    #: Treatment of the residuals at a block's end. `keep` keeps them, and `clear` drops them.
    #:
    #: Leave it at `keep`: `clear` cost 4.2 % more errors with 64 workers. It has no effect without
    #: an exchange that compresses.
    residual: Literal["keep", "clear"] = "keep"

    #: Treatment of the local optimiser's state at a block's end: its momentum, or both moments and
    #: the step count of `adamw`. `reset` starts them again from 0, `keep` continues.
    #:
    #: Set it to `keep` with `adamw`: `reset` cost DiLoCo 32 % more errors, because its moments need
    #: more steps than a block has. With the momentum of `sgd` we saw no difference. `sgd` without
    #: momentum has no state.
    local_momentum: Literal["reset", "keep"] = "reset"

    @property
    def clears_residuals(self) -> bool:
        """Whether the exchanges drop their residuals at a block's end."""
        return self.residual == "clear"

    @property
    def resets_momentum(self) -> bool:
        """Whether the state of the local optimisers starts again from 0 after a block."""
        return self.local_momentum == "reset"


class RoundedFilterSpec(MeetingSpec, frozen=True):
    """Base of the block filters that sum the groups' changes as rounded numbers."""

    is_base: ClassVar[bool] = True

    #: Quantisation step of a group's change, as a multiple of the change's root mean square. A
    #: group keeps in its model what it has not sent.
    #:
    #: Leave it at 2, for 1.2 bits a parameter. 3 sends 0.7 bits: use it only where bytes are dear
    #: and the learning rate falls by less than 2 % per block. For the filter of the source to
    #: nearly float precision, set it to 0.01. The same holds for SlowMo and DiLoCo, whose sources
    #: send floats.
    step: Annotated[float, Meta(ge=0.001, le=3)] = 2.0

    def sent(self, n: int) -> Collectives:
        """The group's change. Its root mean square is 1/step of a quantisation step."""
        return (Summed(n, Rounded(1 / self.step)),)

    def encoding(self, n: int, group_size: int) -> Work:
        """Every worker checks its model, and quantises a part of its group's change."""
        return {"filter": 1, "check_parameter": n, "quantise_parameter": n / group_size}

    def filtering(self, n: int) -> Work:
        """One filter operation for each parameter."""
        return {"filter_parameter": n}

    def adding(self, n: int) -> Work:
        """Every worker adds the start to what it has not sent."""
        return {"restart_parameter": n}


class BMUFSpec(RoundedFilterSpec, frozen=True, tag="bmuf"):
    """The groups' changes are averaged and filtered with block momentum."""

    #: Block momentum, eta. `"auto"` is 1 - 1/G for G groups. 0 averages without momentum.
    #:
    #: Leave it at `"auto"` with up to 64 groups: with 8 groups, 0.5 cost 7.7 % more errors, and 0
    #: cost 16 %. With more, lower it to average over a thirtieth of the steps, and multiply the
    #: learning rate by G (1 - eta). With 128 groups and blocks of one step, 0.98 and 2.5 times the
    #: rate lowered the error by 4.8 %. Set it to 0 for the method `averaging`, and use a larger
    #: learning rate there.
    momentum: Share | Literal["auto"] = "auto"

    #: Block learning rate, zeta: a factor of the change that a block made.
    #:
    #: Leave it at 1: no other value was better in our tuning runs. If the change is the same in
    #: every block, the model moves by zeta / (1 - eta) times that change.
    learning_rate: Positive = 1.0

    #: Use Nesterov block momentum (NBM) instead of classical block momentum (CBM).
    #:
    #: Set it with GTC, as the recipes do: CBM cost 5.9 % more errors with 64 workers. Leave it
    #: `false` to compare with the classical filter.
    nesterov: bool = False

    #: Number of steps after a block's end until its result arrives. The groups train on meanwhile.
    #:
    #: Set it when the network makes a block's end take long, to as few steps as hide that time. It
    #: must be less than `block_filter.period`, and it needs Nesterov block momentum. The MPI
    #: library must support calls from another thread.
    delay: Annotated[int, Meta(ge=0, lt=2**31 - 1)] = 0

    #: Number of blocks at the start that are averaged without momentum.
    #:
    #: Raise it when the first blocks diverge. 10 blocks made no visible difference in our runs.
    averaged_blocks: Annotated[int, Meta(ge=0, lt=2**31)] = 0

    @property
    def label(self) -> str:  # type: ignore[override]
        """`averaging` without momentum, else `bmuf`."""
        return "averaging" if self.momentum == 0 and self.learning_rate == 1 else "bmuf"

    @property
    def late_steps(self) -> int:
        """Steps of the delay."""
        return self.delay

    def resolve(self, groups: int) -> Self:
        """Replace "auto" by eta = 1 - 1/G."""
        if self.momentum != "auto" or groups == 1:
            return self
        return replace(self, momentum=1 - 1 / groups)

    @property
    def averaged_steps(self) -> float:
        """Steps that block momentum eta averages over, K / (1 - eta); 0 without momentum.

        >>> round(BMUFSpec(period=20).resolve(8).averaged_steps)
        160
        """
        if self.momentum == "auto" or not self.momentum:  # "auto" is left to one group
            return 0
        return self.period / (1 - self.momentum)

    @property
    def sufficient_steps(self) -> int:
        """Steps of a training below which block momentum raises the error.

        >>> BMUFSpec(period=20).resolve(8).sufficient_steps
        4800
        """
        return round(SUFFICIENT_STEPS * self.averaged_steps)

    def build(self, topology: "Topology", model: "Vector", meter: "Meter | None") -> "BlockFilter":
        """Build the block filter. Collective in the world."""
        from gtcbmuf.core.algorithm import BMUF
        from gtcbmuf.core.delayed import DelayedBMUF

        options: dict[str, Any] = {
            "momentum": None if self.momentum == "auto" else self.momentum,
            "learning_rate": self.learning_rate,
            "nesterov": self.nesterov,
            "step": self.step,
            "averaged": self.averaged_blocks,
            "meter": meter,
        }
        if self.delay:
            return DelayedBMUF(topology, model, delay=self.delay, period=self.period, **options)
        return BMUF(topology, model, **options)

    def adding(self, n: int) -> Work:
        """Two passes more with a delay."""
        passes_of_delay = {"dense_parameter": 2 * n} if self.delay else {}
        return {**super().adding(n), **passes_of_delay}
