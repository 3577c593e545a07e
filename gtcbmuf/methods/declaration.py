"""Declarations of exchanges and block filters: keys, construction and costs.

One class declares an exchange or a block filter. Its fields are the configuration keys. The comment
above a field says what the key does and, after an empty line, when to change it. A declaration that
lacks a part does not import.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from msgspec import Struct
from msgspec.structs import replace

from gtcbmuf.base.shapes import Shapes
from gtcbmuf.base.toml import Count

if TYPE_CHECKING:  # nothing here needs an MPI library
    from mpi4py import MPI

    from gtcbmuf.base.arrays import Vector
    from gtcbmuf.core.algorithm import BlockFilter, Exchange
    from gtcbmuf.core.meter import Meter
    from gtcbmuf.mpi.topology import Topology

#: Bytes of a float32.
FLOAT = 4

#: Numbers of operations in a step by kind, such as {"dense_parameter": n}. The kinds are the
#: coefficients of a cluster's profile (`gtcbmuf.cluster.profile.Compute`).
Work = dict[str, float]


@dataclass(frozen=True)
class Sent:
    """The contribution of one worker to a collective of the MPI library.

    Attributes:
        collective: name of its price in `gtcbmuf.cluster.traffic`.
        bytes: bytes of each worker.
    """

    collective: Literal["allgather", "allreduce", "rank order sum", "sum of parts"]
    bytes: float


@dataclass(frozen=True)
class Signs:
    """Random integers of which a share is 1 or -1, both equally likely, and the rest is 0.

    Attributes:
        density: that share.
    """

    density: float


@dataclass(frozen=True)
class Levels:
    """Random integers of which a share is not 0. They are 1, or some of them 3, with random signs.

    Attributes:
        density: that share.
        large: share of those integers whose size is 3.
    """

    density: float
    large: float


@dataclass(frozen=True)
class Rounded:
    """Normally distributed numbers around 0, rounded to integers.

    Attributes:
        deviation: their standard deviation.
    """

    deviation: float


#: Distributions of integers.
Integers = Signs | Levels | Rounded


@dataclass(frozen=True)
class Summed:
    """The contribution of one row to an integer sum (`gtcbmuf.core.sums`).

    Attributes:
        length: number of integers.
        integers: their distribution.
    """

    length: int
    integers: Integers


#: Collectives, one after another. Empty: nothing is sent.
Collectives = tuple[Sent | Summed, ...]


class Spec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """Base class of all declarations. A declaration is checked when it is imported."""

    #: The part of a method's name; empty if it does not connect workers.
    label: ClassVar[str]
    #: Whether workers learn from each other through it.
    connects: ClassVar[bool] = True
    #: Whether a class is no declaration, but a base of some.
    is_base: ClassVar[bool] = False
    #: Names that a declaration must define.
    needed: ClassVar[tuple[str, ...]] = ()
    #: All declarations, in the order of their import.
    declared: ClassVar[list[type[Any]]] = []

    def __init_subclass__(cls) -> None:
        if Spec in cls.__bases__ or cls.__dict__.get("is_base"):  # ExchangeSpec, FilterSpec ...
            return
        lacking = [name for name in cls.needed if not _declares(cls, name)]
        if lacking:
            raise TypeError(f"{cls.__name__} in {cls.__module__} lacks {', '.join(lacking)}")
        cls.declared.append(cls)

    def with_keys(self, **values: Any) -> Self:
        """Copy the declaration with other values. Keys that it does not have are ignored."""
        return replace(self, **{k: v for k, v in values.items() if k in self.__struct_fields__})

    @property
    def kind(self) -> str:
        """The `kind` in a configuration."""
        return str(self.__struct_config__.tag)


def _declares(cls: type[Spec], name: str) -> bool:
    """Whether a class or one of its concrete bases defines a name."""
    families = {Spec, ExchangeSpec, FilterSpec}
    return any(name in base.__dict__ for base in cls.__mro__ if base not in families)


class ExchangeSpec(Spec, frozen=True):
    """Declaration of an exchange, for configurations and plans."""

    needed: ClassVar[tuple[str, ...]] = ("label", "build", "sent", "encoding", "adding")
    declared: ClassVar[list[type[Any]]] = []

    @property
    def overlaps(self) -> bool:
        """Whether slices of the model are exchanged during the backward pass."""
        return False

    @property
    def compresses(self) -> bool:
        """Whether it sends only a share of the parameters, given by its key `density`."""
        return "density" in self.__struct_fields__

    def build(
        self, group: "MPI.Comm", shapes: Shapes, meter: "Meter | None", seed: int = 0
    ) -> "Exchange":
        """Build the exchange.

        Args:
            group: this worker's group.
            shapes: shapes of the model's arrays, in the order of the flat vector.
            meter: counter of bytes, updates and seconds.
            seed: of this worker's random numbers, if the exchange draws any.
        """
        raise NotImplementedError

    def sent(self, shapes: Shapes) -> Collectives:
        """What a worker sends to its group in a step, for a model with arrays of these shapes."""
        raise NotImplementedError

    def encoding(self, shapes: Shapes) -> Work:
        """Operations of a worker in a step before it sends."""
        raise NotImplementedError

    def adding(self, shapes: Shapes, group_size: int) -> Work:
        """Operations of a worker in a step to add the updates of M workers to its model."""
        raise NotImplementedError


class FilterSpec(Spec, frozen=True):
    """Declaration of a block filter, for configurations and plans."""

    needed: ClassVar[tuple[str, ...]] = (
        *("label", "build", "sent"),
        *("encoding", "filtering", "adding"),
    )
    declared: ClassVar[list[type[Any]]] = []

    #: Steps per block, K. The last step of an epoch ends a block, too.
    #:
    #: Try 5 and 10. With 8 to 64 workers, 5 was about as good as 10 or better, and 20 was worse.
    #: With 128 workers at the same learning rate, 10 was best: 5 cost 1.7 %, and 2 cost 5.4 %. The
    #: paper used about 50. It has no effect without a block filter, except for `train.verify`.
    period: Count = 50

    def period_of(self, epoch: int) -> int:
        """Return the steps per block in an epoch, which is 0 for the first one."""
        return self.period

    @property
    def late_steps(self) -> int:
        """Steps that the workers train on while the changes of a block are summed."""
        return 0

    @property
    def clears_residuals(self) -> bool:
        """Whether the workers drop their residuals at a block's end."""
        return False

    @property
    def resets_momentum(self) -> bool:
        """Whether the state of the local optimisers starts again from 0 after a block."""
        return False

    def resolve(self, groups: int) -> Self:
        """Replace words such as "auto" by their numbers for G groups."""
        return self

    @property
    def sufficient_steps(self) -> int:
        """Steps of a training below which this block filter raises the error; 0 if unknown."""
        return 0

    def build(self, topology: "Topology", model: "Vector", meter: "Meter | None") -> "BlockFilter":
        """Build the block filter. Collective in the world.

        Args:
            topology: groups and hosts.
            model: (n,) start of the first block.
            meter: counter of bytes, updates and seconds.
        """
        raise NotImplementedError

    def sent(self, n: int) -> Collectives:
        """What a group sends to the other groups at a block's end, for n parameters."""
        raise NotImplementedError

    def encoding(self, n: int, group_size: int) -> Work:
        """Operations of each of M workers at a block's end before its group sends."""
        raise NotImplementedError

    def filtering(self, n: int) -> Work:
        """Operations of the filter on n parameters. The workers of a host share them."""
        raise NotImplementedError

    def adding(self, n: int) -> Work:
        """Operations of a worker to start its model of n parameters into the next block."""
        raise NotImplementedError
