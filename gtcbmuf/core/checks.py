"""Checks of input from outside: sizes, ranges, finite numbers.

Kernels trust their callers. So every exchange, filter and worker checks its input once, here. This
module loads neither MPI nor NumPy, so that a configuration needs neither.
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
    """A gradient or a model holds NaN or infinity. It was not exchanged.

    Attributes:
        what: "gradient" or "model".
        unit: "step" or "block".
        number: number of the step or block, from 1. `Worker.run` counts from the start of the
            epoch, an exchange in another loop counts its calls.
        first, last: range of the parameters that are not finite.
        count, size: number of parameters that are not finite; number of all parameters.
        where: name of the worker; by default its rank.
    """

    status = 1

    def __init__(self, what: str, unit: str, number: int, *vectors: "Vector") -> None:
        import numpy as np

        finite = np.logical_and.reduce([np.isfinite(vector) for vector in vectors])
        places = np.flatnonzero(~finite)
        self.what, self.unit, self.number = what, unit, number
        self.first, self.last = int(places[0]), int(places[-1])
        self.count, self.size = len(places), len(finite)
        self.where = ""
        super().__init__(what)

    def shift(self, offset: int, size: int) -> None:
        """Number the parameters as in a vector of `size` that contains this one from `offset`."""
        self.first, self.last, self.size = self.first + offset, self.last + offset, size

    def __str__(self) -> str:
        from mpi4py import MPI

        where = self.where or f"rank {MPI.COMM_WORLD.rank}"
        return (
            f"{where}: the {self.what} of {self.unit} {self.number:,} is not "
            f"finite in {self.count:,} of {self.size:,} parameters, between {self.first:,} and "
            f"{self.last:,}"
        )


class VectorCheck:
    """Checks a vector that comes in once per step or block.

    Args:
        what: name of the vector: "gradient" or "model".
        unit: "step" or "block".
        parameters: n, its expected length.

    Attributes:
        number: number of vectors so far.

    Raises:
        ValueError: n is out of its range.
    """

    def __init__(self, what: str, unit: str, parameters: int) -> None:
        self._what, self._unit = what, unit
        self._size = check_parameters(parameters)
        self.number = 0

    def __call__(self, vector: "Vector") -> "Vector":
        """Return the vector, or a copy if kernels could not read it in place.

        Raises:
            ValueError: the vector has another length or type.
        """
        self.number += 1
        return check_vector(self._what, vector, self._size)

    def require_finite(self, vector: "Vector") -> None:
        """Require that all numbers of the vector are finite.

        Raises:
            NotFiniteError: names rank, step and parameters.
        """
        from gtcbmuf.core.kernels import all_finite

        if not all_finite(vector):
            raise self.error(vector)

    def error(self, *vectors: "Vector") -> NotFiniteError:
        """Make the error for vectors of which at least one is not finite."""
        return NotFiniteError(self._what, self._unit, self.number, *vectors)


def check_vector(what: str, vector: Any, size: int | None = None) -> "Vector":
    """Return a vector that kernels can read: a copy if it is read-only or unaligned.

    Args:
        what: name of the vector, for the message.
        vector: (size,) float32, contiguous.
        size: expected length; any if None.

    Raises:
        ValueError: the vector has another type, shape or length.
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
    """Require a vector that kernels can change in place. The arguments are those of `check_vector`.

    Raises:
        ValueError: the vector has another type, shape or length, or is read-only.
    """
    if check_vector(what, vector, size) is not vector:
        raise ValueError(f"{what}: expected a vector that can be changed in place")


def check_parameters(parameters: Any) -> int:
    """Return the number of parameters n.

    Raises:
        ValueError: n is no integer from 1 to 2^31 - 1.
    """
    return check_integer("parameters", parameters, 1, MOST_PARAMETERS)


def check_integer(name: str, value: Any, least: int, most: int = MOST_PARAMETERS) -> int:
    """Return an integer within its range, both ends included.

    Raises:
        ValueError: the value is no integer, or out of the range.
    """
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or not least <= value <= most:
        raise ValueError(f"{name} = {value!r}: expected an integer from {least:,} to {most:,}")
    return int(value)


def check_above_zero(name: str, value: Any) -> float:
    """Return a number that is finite and above 0 in float32.

    Raises:
        ValueError: the value is no such number.
    """
    if not _is_number(value) or not 1e-30 <= value <= 1e30:
        raise ValueError(f"{name} = {value!r}: expected a number from 1e-30 to 1e+30")
    return float(value)


def check_not_negative(name: str, value: Any) -> float:
    """Return a number from 0 that is finite in float32.

    Raises:
        ValueError: the value is no such number.
    """
    if not _is_number(value) or not 0 <= value <= 1e30:
        raise ValueError(f"{name} = {value!r}: expected a number from 0 to 1e+30")
    return float(value)


def check_share(name: str, value: Any, *, above_zero: bool = False) -> float:
    """Return a number from 0 to below 1, or above 0 and below 1.

    Raises:
        ValueError: the value is no such number.
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
