"""What a method declares, and how its costs are stated.

An exchange or a block filter is declared by one class, whose fields are its configuration keys.
A declaration that lacks a part does not import.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from msgspec import Struct
from msgspec.structs import replace

from gtcbmuf.base.toml import Count

if TYPE_CHECKING:  # nothing here needs an MPI library
    from mpi4py import MPI

    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import BlockFilter, Exchange
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.core.overlap import Shapes
    from gtcbmuf.mpi.topology import Topology

#: Bytes of a float32.
FLOAT = 4

#: How often each part of a step's work is done, by its coefficient in a cluster's profile
#: (`gtcbmuf.cluster.profile.Compute`), such as {"dense_parameter": n}.
Work = dict[str, float]


@dataclass(frozen=True)
class Sent:
    """What every worker of some gives to a collective.

    Attributes:
        collective: how `gtcbmuf.cluster.costs` prices it.
        bytes: of each worker (a broadcast: of the one that has them).
    """

    collective: Literal["allgather", "allreduce", "rank order sum", "broadcast", "nothing"]
    bytes: float = 0.0


class Spec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """What exchanges and block filters share: a declaration is checked when it is imported."""

    #: Its part of a method's name; nothing if it does not connect workers.
    label: ClassVar[str]
    #: Whether workers that use it learn from each other.
    connects: ClassVar[bool] = True
    #: Names that a declaration must have.
    needed: ClassVar[tuple[str, ...]] = ()
    declared: ClassVar[list[type[Any]]] = []

    def __init_subclass__(cls) -> None:
        if Spec in cls.__bases__:  # ExchangeSpec, FilterSpec
            return
        lacking = [name for name in cls.needed if not _declares(cls, name)]
        if lacking:
            raise TypeError(f"{cls.__name__} in {cls.__module__} lacks {', '.join(lacking)}")
        cls.declared.append(cls)

    def with_keys(self, **values: Any) -> Self:
        """The same with other values, of those keys that it has."""
        return replace(self, **{k: v for k, v in values.items() if k in self.__struct_fields__})

    @property
    def kind(self) -> str:
        """Its `kind` in a configuration."""
        return str(self.__struct_config__.tag)


def _declares(cls: type[Spec], name: str) -> bool:
    """Whether a class, or a base of it below the abstract ones, has a name of its own."""
    families = {Spec, ExchangeSpec, FilterSpec}
    return any(name in base.__dict__ for base in cls.__mro__ if base not in families)


class ExchangeSpec(Spec, frozen=True):
    """An exchange as a configuration and a plan know it."""

    needed: ClassVar[tuple[str, ...]] = ("label", "build", "sent", "encoding", "adding")
    declared: ClassVar[list[type[Any]]] = []

    #: Whether it keeps a residual, which `block_filter.residual` can clear or flush.
    keeps_residual: ClassVar[bool] = False

    @property
    def overlaps(self) -> bool:
        """Whether slices of the model are exchanged behind the backward pass."""
        return False

    @property
    def compresses(self) -> bool:
        """Whether it sends a share of the parameters, its key `density`."""
        return "density" in self.__struct_fields__

    def build(self, group: "MPI.Comm", shapes: "Shapes", meter: "Meter | None") -> "Exchange":
        """The exchange.

        Args:
            group: this worker's group.
            shapes: of the model's arrays, in the order of the flat vector.
            meter: counts.
        """
        raise NotImplementedError

    def sent(self, n: int) -> Sent:
        """What a worker gives to its group in a step, of a model of n parameters."""
        raise NotImplementedError

    def encoding(self, n: int) -> Work:
        """What a worker does in a step before it sends."""
        raise NotImplementedError

    def adding(self, n: int, group_size: int) -> Work:
        """What a worker does in a step to add to its model what M workers sent."""
        raise NotImplementedError


class FilterSpec(Spec, frozen=True):
    """A block filter as a configuration and a plan know it."""

    needed: ClassVar[tuple[str, ...]] = (
        *("label", "build", "leaders"),
        *("summed", "spread", "filtering"),
    )
    declared: ClassVar[list[type[Any]]] = []

    #: Steps per block (K).
    period: Count = 50

    @property
    def clears_residuals(self) -> bool:
        """Whether the exchanges drop their residuals at a block's end."""
        return False

    @property
    def flushes_residuals(self) -> bool:
        """Whether the exchanges send all of their residuals at a block's end."""
        return False

    @property
    def resets_momentum(self) -> bool:
        """Whether the workers' local momentum starts again at 0 after a block."""
        return False

    def resolve(self, groups: int) -> Self:
        """The same for G groups, with numbers in place of words."""
        return self

    def build(self, topology: "Topology", model: "Vector", meter: "Meter | None") -> "BlockFilter":
        """The block filter; collective in the world.

        Args:
            topology: groups and leaders.
            model: (n,) the start of the first block.
            meter: counts.
        """
        raise NotImplementedError

    def leaders(self, group_size: int) -> int:
        """How many workers of a group lead, each for an equal part of the model."""
        raise NotImplementedError

    def summed(self, n: int, group_size: int) -> Sent:
        """What a leader gives to those of the other groups at a block's end."""
        raise NotImplementedError

    def spread(self, n: int, group_size: int) -> Sent:
        """What a leader then gives to its group."""
        raise NotImplementedError

    def filtering(self, n: int) -> Work:
        """What the filter does with n parameters."""
        raise NotImplementedError
