"""PowerSGD (Vogels et al. 2019): the gradient of a layer as a product of two thin matrices."""

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.core.error_feedback import ErrorFeedback
from gtcbmuf.methods.declaration import FLOAT, Collectives, ExchangeSpec, Sent, Work

if TYPE_CHECKING:
    from mpi4py import MPI

    from gtcbmuf.base.arrays import Matrix, Vector
    from gtcbmuf.core.algorithm import Exchange, State
    from gtcbmuf.core.meter import Meter


class _Factors:
    """The factors of all matrices of a model, and the arrays that are sent whole.

    A matrix of which both sides are longer than the rank has the factors left (rank, rows) and
    right (rank, columns). All left factors and whole arrays lie in one vector, all right factors in
    another.

    Args:
        shapes: shapes of the model's arrays.
        rank: number of rows of a factor.
    """

    def __init__(self, shapes: Shapes, rank: int) -> None:
        import numpy as np

        self._slices: list[tuple[slice, tuple[int, int] | None]] = []
        begin = lefts = rights = 0
        for shape in shapes:
            rows, columns = math.prod(shape[:-1]), shape[-1]
            end, thin = begin + rows * columns, rank < min(rows, columns)
            self._slices.append((slice(begin, end), (rows, columns) if thin else None))
            lefts += rank * rows if thin else end - begin
            rights += rank * columns if thin else 0
            begin = end
        self.lefts, self.rights = np.zeros(lefts, np.float32), np.zeros(rights, np.float32)
        self._rank = rank

    def pairs(self, vector: "Vector") -> "list[tuple[Matrix, Matrix, Matrix]]":
        """Return matrices of a vector (n,) with their left and right factors, as views."""
        pairs, left, right = [], 0, 0
        for part, matrix in self._slices:
            if matrix is None:
                left += part.stop - part.start
                continue
            rows, columns = matrix
            pairs.append(
                (
                    vector[part].reshape(matrix),
                    self.lefts[left : left + self._rank * rows].reshape(self._rank, rows),
                    self.rights[right : right + self._rank * columns].reshape(self._rank, columns),
                )
            )
            left, right = left + self._rank * rows, right + self._rank * columns
        return pairs

    def whole(self, vector: "Vector") -> "list[tuple[Vector, Vector]]":
        """Return arrays of a vector (n,) that are sent whole, with their places in `lefts`."""
        arrays, left = [], 0
        for part, matrix in self._slices:
            size = part.stop - part.start if matrix is None else self._rank * matrix[0]
            if matrix is None:
                arrays.append((vector[part], self.lefts[left : left + size]))
            left += size
        return arrays


class PowerSGDUpdate:
    """The sum of a group's gradients, as products of factors."""

    def __init__(self, factors: _Factors, parameters: int) -> None:
        self._factors, self._parameters = factors, parameters

    def add_to(self, vector: "Vector", scale: float) -> None:
        """vector += scale * update."""
        import numpy as np

        from gtcbmuf.core import kernels, low_rank
        from gtcbmuf.core.checks import check_target

        check_target("the vector to add to", vector, self._parameters)
        for matrix, left, right in self._factors.pairs(vector):
            low_rank.add_product(left, right, np.float32(scale), matrix)
        for array, total in self._factors.whole(vector):
            kernels.add_scaled(total, np.float32(scale), array)


class PowerSGDExchange(ErrorFeedback):
    """One step of power iteration for each layer (Vogels et al., NeurIPS 2019, algorithms 1 and 2).

    With the residual M of a layer, to which the gradient was added, and Q of the last step:

        P = sum of M @ Q over the workers, made orthonormal
        Q = sum of M.T @ P over the workers
        update = P @ Q.T;  M = M - update / number of workers

    So the update plus the residuals of all workers is the sum of the old residuals and the
    gradients. Vectors, and matrices with a side no longer than the rank, are summed exactly.

    Args:
        group: this worker's group.
        shapes: shapes of the model's arrays, in the order of the flat vector.
        rank: columns of P and Q.
        meter: counts.

    Examples:
        >>> import numpy as np
        >>> from mpi4py import MPI
        >>> exchange = PowerSGDExchange(MPI.COMM_SELF, [(2, 2)], rank=1)
        >>> update = np.zeros(4, np.float32)
        >>> exchange(np.array([1, 2, 2, 4], np.float32)).add_to(update, 1)
        >>> np.round(update, 4).tolist()  # a matrix of rank 1
        [1.0, 2.0, 2.0, 4.0]
    """

    def __init__(
        self, group: "MPI.Comm", shapes: Shapes, rank: int, meter: "Meter | None" = None
    ) -> None:
        from gtcbmuf.core import low_rank  # noqa: F401  compiled with the exchange
        from gtcbmuf.core.checks import check_integer
        from gtcbmuf.mpi.shared_memory import hosts_of

        super().__init__(group, count_parameters(shapes), meter)
        self._factors = _Factors(shapes, check_integer("rank", rank, 1))
        self._crosses = hosts_of(group).count > 1

    def __call__(self, gradient: "Vector") -> PowerSGDUpdate:
        import numpy as np
        from mpi4py import MPI

        from gtcbmuf.core import kernels, low_rank

        residual, factors, meter = self._residual, self._factors, self._meter
        with meter.time("encode"):
            kernels.add_scaled(self._check(gradient), np.float32(1), residual)
            self._check.require_finite(residual)
            pairs = factors.pairs(residual)
            for matrix, left, right in pairs:
                self._refill(right)
                np.matmul(right, matrix.T, out=left)
            for array, place in factors.whole(residual):
                place[:] = array
                array[:] = 0
        with meter.time("communicate"):
            self._group.Allreduce(MPI.IN_PLACE, factors.lefts)
        with meter.time("encode"):
            for matrix, left, right in pairs:
                low_rank.orthogonalise(left)
                np.matmul(left, matrix, out=right)
        with meter.time("communicate"):
            self._group.Allreduce(MPI.IN_PLACE, factors.rights)
        with meter.time("encode"):
            for matrix, left, right in pairs:
                low_rank.add_product(left, right, np.float32(-1 / self._group.size), matrix)
        meter.updates_sent += residual.size
        sent = factors.lefts.nbytes + factors.rights.nbytes
        meter.bytes_sent += sent if self._crosses else 0
        return PowerSGDUpdate(factors, residual.size)

    @staticmethod
    def _refill(right: "Matrix") -> None:
        """Fill rows of zeros, from which a power iteration would never recover."""
        import numpy as np

        for k, row in enumerate(right):
            if not row.any():
                row[:] = np.random.default_rng(k).standard_normal(row.size, np.float32)

    def state(self) -> "State":
        """The residual (n,), and the right factors of the last step."""
        return {**super().state(), "rights": self._factors.rights}


class PowerSGDSpec(ExchangeSpec, frozen=True, tag="powersgd"):
    """The gradient of a layer is sent as a product of two thin matrices."""

    #: Columns of the two matrices: 1, 2 and 4 are common.
    #:
    #: Raise it when the loss falls more slowly than with `dense`. Messages and encoding grow with
    #: it.
    rank: Annotated[int, Meta(ge=1, le=64)] = 2

    label: ClassVar[str] = "powersgd"

    def build(
        self, group: "MPI.Comm", shapes: Shapes, meter: "Meter | None", seed: int = 0
    ) -> "Exchange":
        """Build the exchange."""
        return PowerSGDExchange(group, shapes, self.rank, meter)

    def sent(self, shapes: Shapes) -> Collectives:
        """The left factors with the arrays that are sent whole, then the right factors."""
        sizes = [self._sizes(shape) for shape in shapes]
        lefts, rights = (FLOAT * sum(size) for size in zip(*sizes, strict=True))
        return Sent("allreduce", lefts), Sent("allreduce", rights)

    def _sizes(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Count the numbers of an array's left and right factors."""
        rows, columns = math.prod(shape[:-1]), shape[-1]
        if self.rank >= min(rows, columns):
            return rows * columns, 0
        return self.rank * rows, self.rank * columns

    def encoding(self, shapes: Shapes) -> Work:
        """An addition and a check, and for each rank three passes (`gtcbmuf bench kernels`)."""
        n = count_parameters(shapes)
        return {"dense_parameter": (1 + 3 * self.rank) * n, "check_parameter": n}

    def adding(self, shapes: Shapes, group_size: int) -> Work:
        """A pass for each rank."""
        return {"dense_parameter": self.rank * count_parameters(shapes)}
