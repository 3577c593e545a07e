"""QSGD (Alistarh et al. 2017): gradients rounded to a few levels, at random or to the nearest."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.core.error_feedback import ErrorFeedback
from gtcbmuf.methods.declaration import (
    FLOAT,
    Collectives,
    ExchangeSpec,
    Rounded,
    Sent,
    Summed,
    Work,
)

if TYPE_CHECKING:
    import numpy as np
    from mpi4py import MPI

    from gtcbmuf.base.arrays import Integers, Vector
    from gtcbmuf.core.algorithm import Exchange, State
    from gtcbmuf.core.meter import Meter

#: Root mean squares in the largest number of a bucket, for the size of messages in a plan.
_PEAK = 5.0


class QSGDUpdate:
    """Sums of integers (n,), int32, in units of their buckets."""

    def __init__(self, sums: "Integers", bucket: int, scales: "Vector", levels: int) -> None:
        self._sums, self._bucket, self._scales, self._levels = sums, bucket, scales, levels

    def add_to(self, vector: "Vector", scale: float) -> None:
        """vector += scale * update."""
        import numpy as np

        from gtcbmuf.core import bucket_kernels
        from gtcbmuf.core.checks import check_target

        check_target("the vector to add to", vector, self._sums.size)
        bucket_kernels.add_units(
            self._sums, self._bucket, self._scales, self._levels, np.float32(scale), vector
        )


class QSGDExchange(ErrorFeedback):
    """Numbers are rounded to integers in units of their bucket, and the integers are summed.

    QSGD (Alistarh et al., NeurIPS 2017, section 3.1), with the largest number of a bucket as its
    scale, as in that paper's experiments. Here the scale of a bucket is the largest among all
    workers, so that their integers have a common unit and can be added up.

    Args:
        group: this worker's group.
        parameters: n, below 2^31.
        levels: s, the largest integer.
        bucket: numbers in a bucket.
        stochastic: round up or down at random, so that the mean is exact; else to the nearest.
        error_feedback: keep what rounding took away as a residual.
        seed: of this worker's random numbers, from 0. Workers of one seed still round differently
            in a group.
        meter: counts.

    Examples:
        >>> import numpy as np
        >>> from mpi4py import MPI
        >>> exchange = QSGDExchange(MPI.COMM_SELF, 3, levels=2, bucket=3, stochastic=False)
        >>> model = np.zeros(3, np.float32)
        >>> exchange(np.array([8, -3, 1], np.float32)).add_to(model, -1)
        >>> model.tolist(), exchange.state()["residual"].tolist()
        ([-8.0, 4.0, 0.0], [0.0, 1.0, 1.0])
    """

    def __init__(
        self,
        group: "MPI.Comm",
        parameters: int,
        levels: int,
        bucket: int,
        meter: "Meter | None" = None,
        *,
        stochastic: bool = True,
        error_feedback: bool = True,
        seed: int = 0,
    ) -> None:
        import numpy as np

        from gtcbmuf.core import bucket_kernels  # noqa: F401  compiled with the exchange
        from gtcbmuf.core.checks import check_integer
        from gtcbmuf.core.sums import IntegerSum

        super().__init__(group, parameters, meter)
        self._levels = check_integer("levels", levels, 2, 127)
        self._bucket = check_integer("bucket", bucket, 1)
        self._stochastic, self._error_feedback = stochastic, error_feedback
        self._seed = check_integer("seed", seed, 0, 2**63 - 1)
        self._scales = np.zeros(-(-parameters // self._bucket), np.float32)
        self._sum = IntegerSum(group, parameters, self._levels, meter=self._meter)
        self._sums = self._sum.hosts.array((parameters,), np.int32)
        self._steps = np.zeros(1, np.int64)

    def __call__(self, gradient: "Vector") -> QSGDUpdate:
        import numpy as np
        from mpi4py import MPI

        from gtcbmuf.core import bucket_kernels, kernels

        buckets = self._bucket, self._scales, self._levels
        with self._meter.time("encode"):
            kernels.add_scaled(self._check(gradient), np.float32(1), self._residual)
            self._check.require_finite(self._residual)
            bucket_kernels.find_scales(self._residual, self._bucket, self._scales)
        with self._meter.time("communicate"):
            self._group.Allreduce(MPI.IN_PLACE, self._scales, MPI.MAX)
        with self._meter.time("encode"):
            row = self._sum.row
            if self._stochastic:
                bucket_kernels.round_at_random(self._residual, *buckets, self._key(), row)
            else:
                bucket_kernels.round_to_nearest(self._residual, *buckets, row)
            if self._error_feedback:
                bucket_kernels.subtract_units(row, *buckets, self._residual)
            else:
                self._residual[:] = 0
        with self._meter.time("communicate"):
            self._sums[self._sum.mine] = self._sum.reduce(1.0, (0, 0))
            self._sum.finish()
        self._steps += 1
        self._meter.updates_sent += self._residual.size
        self._meter.bytes_sent += self._scales.nbytes if self._sum.hosts.count > 1 else 0
        return QSGDUpdate(self._sums, *buckets)

    def _key(self) -> "np.uint64":
        """Key of the random numbers of a worker's step."""
        import numpy as np

        sequence = np.random.SeedSequence([self._seed, self._group.rank, int(self._steps[0])])
        key: np.uint64 = sequence.generate_state(1, np.uint64)[0]
        return key

    def state(self) -> "State":
        """The residual (n,), and the number of steps (1,)."""
        return {**super().state(), "steps": self._steps}


class QSGDSpec(ExchangeSpec, frozen=True, tag="qsgd"):
    """Numbers are rounded to a few levels of their bucket's largest number."""

    #: Largest integer, s, that a number is rounded to: 7 takes 4 bits at most, 127 takes 8.
    #:
    #: Lower it when messages are the bottleneck, raise it when the loss falls more slowly than with
    #: `dense`.
    levels: Annotated[int, Meta(ge=2, le=127)] = 7

    #: Numbers in a bucket. Every bucket has a unit of its own.
    #:
    #: Leave it at the source's 512. Smaller buckets round more finely and send more units.
    bucket: Annotated[int, Meta(ge=1, le=2**30)] = 512

    #: Rounding: `stochastic` rounds up or down at random, `nearest` does not.
    #:
    #: Use `stochastic` for the method of the source. Compare with `nearest`, which needs error
    #: feedback.
    rounding: Literal["stochastic", "nearest"] = "stochastic"

    #: Keep what rounding took away as a residual.
    #:
    #: The source has none: set it to `false` for that.
    error_feedback: bool = True

    label: ClassVar[str] = "qsgd"

    def build(
        self, group: "MPI.Comm", shapes: Shapes, meter: "Meter | None", seed: int = 0
    ) -> "Exchange":
        """Build the exchange."""
        return QSGDExchange(
            group,
            count_parameters(shapes),
            self.levels,
            self.bucket,
            meter,
            stochastic=self.rounding == "stochastic",
            error_feedback=self.error_feedback,
            seed=seed,
        )

    def sent(self, shapes: Shapes) -> Collectives:
        """The units of all buckets, then the integers."""
        n = count_parameters(shapes)
        units = Sent("allreduce", FLOAT * -(-n // self.bucket))
        return (units, Summed(n, Rounded(self.levels / _PEAK)))

    def encoding(self, shapes: Shapes) -> Work:
        """An addition, a check, and the rounding (`gtcbmuf bench kernels`)."""
        n = count_parameters(shapes)
        return {
            "exchange": 1,
            "dense_parameter": 2 * n,
            "check_parameter": n,
            "quantise_parameter": 2 * n,
        }

    def adding(self, shapes: Shapes, group_size: int) -> Work:
        """One addition of the sums."""
        return {"add_parameter": count_parameters(shapes)}
