"""Checks where something comes in from outside: sizes, ranges, finite numbers.

Kernels trust their callers. So every exchange, filter and worker checks its input here, once.
Loads neither MPI nor NumPy by itself, so that a configuration needs neither.
"""

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from gtcbmuf.base.errors import UserError

if TYPE_CHECKING:
    from gtcbmuf.base.arrays import Vector

#: Parameters that a message can address: n < 2^31.
MOST_PARAMETERS = 2**31 - 1


class NotFiniteError(UserError):
    """A gradient or a model holds NaN or infinity; nothing of it was exchanged.

    Attributes:
        what: "gradient" or "model".
        unit: "step" or "block".
        number: of the step or block, from 1. `Worker.run` counts in an epoch; an exchange that is
            used by itself counts its calls.
        first, last: the range of the parameters that are not finite.
        count, size: how many are not finite, of how many.
    """

    status = 1

    def __init__(self, what: str, unit: str, number: int, *vectors: "Vector") -> None:
        import numpy as np

        finite = np.logical_and.reduce([np.isfinite(vector) for vector in vectors])
        places = np.flatnonzero(~finite)
        self.what, self.unit, self.number = what, unit, number
        self.first, self.last = int(places[0]), int(places[-1])
        self.count, self.size = len(places), len(finite)
        super().__init__(what)

    def shift(self, offset: int, size: int) -> None:
        """Count parameters in a vector of `size` that holds this one from `offset` on."""
        self.first, self.last, self.size = self.first + offset, self.last + offset, size

    def __str__(self) -> str:
        from mpi4py import MPI

        return (
            f"rank {MPI.COMM_WORLD.rank}: the {self.what} of {self.unit} {self.number:,} is not "
            f"finite in {self.count:,} of {self.size:,} parameters, between {self.first:,} and "
            f"{self.last:,}"
        )


class VectorCheck:
    """Looks at a vector that comes in once a step, or once a block.

    Args:
        what: the vector is: "gradient", "model".
        unit: "step" or "block".
        parameters: n, its expected length.

    Attributes:
        number: how often it came.

    Raises:
        ValueError: n is out of its range.
    """

    def __init__(self, what: str, unit: str, parameters: int) -> None:
        self._what, self._unit = what, unit
        self._size = check_parameters(parameters)
        self.number = 0

    def __call__(self, vector: "Vector") -> "Vector":
        """The vector; a copy if kernels could not read it in place.

        Raises:
            ValueError: it has another length or type.
        """
        self.number += 1
        return check_vector(self._what, vector, self._size)

    def require_finite(self, vector: "Vector") -> None:
        """Raise if a number of the vector is not finite.

        Raises:
            NotFiniteError: names rank, step and parameters.
        """
        from gtcbmuf.core.kernels import all_finite

        if not all_finite(vector):
            raise self.error(vector)

    def error(self, *vectors: "Vector") -> NotFiniteError:
        """The error for vectors of which at least one is not finite."""
        return NotFiniteError(self._what, self._unit, self.number, *vectors)


def check_vector(what: str, vector: Any, size: int | None = None) -> "Vector":
    """A vector that kernels can read: itself, or a copy of one that is read-only or unaligned.

    Args:
        what: it is, for the message.
        vector: (size,) float32, contiguous.
        size: expected; any if None.

    Raises:
        ValueError: it is another array, or none.
    """
    import numpy as np

    if not isinstance(vector, np.ndarray):
        raise ValueError(f"{what}: expected a NumPy array, not {type(vector).__name__}")
    if vector.dtype != np.float32 or vector.ndim != 1 or not vector.flags.c_contiguous:
        raise ValueError(
            f"{what}: expected a contiguous float32 vector, not {vector.dtype} of shape "
            f"{vector.shape}"
        )
    if size is not None and vector.size != size:
        raise ValueError(f"{what}: {vector.size:,} parameters, but {size:,} are expected")
    return vector if vector.flags.writeable and vector.flags.aligned else vector.copy()


def check_target(what: str, vector: Any, size: int | None = None) -> None:
    """Raise for a vector that kernels cannot change in place; as `check_vector`.

    Raises:
        ValueError: it is another array, none, or read-only.
    """
    if check_vector(what, vector, size) is not vector:
        raise ValueError(f"{what}: expected a vector that can be changed in place")


def check_parameters(parameters: Any) -> int:
    """The number of parameters n.

    Raises:
        ValueError: it is no integer from 1 to 2^31 - 1.
    """
    return check_integer("parameters", parameters, 1, MOST_PARAMETERS)


def check_integer(name: str, value: Any, least: int, most: int = MOST_PARAMETERS) -> int:
    """An integer within its range, both ends included.

    Raises:
        ValueError: it is not.
    """
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or not least <= value <= most:
        raise ValueError(f"{name} = {value!r}: expected an integer from {least:,} to {most:,}")
    return int(value)


def check_above_zero(name: str, value: Any) -> float:
    """A number that float32 holds as finite and above 0.

    Raises:
        ValueError: it is not.
    """
    if not _is_number(value) or not 1e-30 <= value <= 1e30:
        raise ValueError(f"{name} = {value!r}: expected a number from 1e-30 to 1e+30")
    return float(value)


def check_share(name: str, value: Any, *, above_zero: bool = False) -> float:
    """A number from 0 to below 1, or above 0 and below 1.

    Raises:
        ValueError: it is not.
    """
    # From 1 - 2^-25 on float32 would round it to 1.
    in_range = _is_number(value) and 0 <= value < 1 - 2**-25
    if not in_range or (above_zero and value == 0):
        expected = "above 0 and below 1" if above_zero else "from 0 to below 1"
        raise ValueError(f"{name} = {value!r}: expected a number {expected}")
    return float(value)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, Real)
    return is_real and not isinstance(value, bool) and math.isfinite(value)
