"""Makers of the exchanges that are no part of the paper: group, n, meter -> exchange."""

import math
from collections.abc import Callable
from functools import partial

from mpi4py import MPI

from gtcbmuf.base.shapes import Shapes
from gtcbmuf.core.algorithm import Exchange
from gtcbmuf.core.meter import Meter
from gtcbmuf.methods.declaration import ExchangeSpec
from gtcbmuf.methods.one_bit import OneBitSpec
from gtcbmuf.methods.powersgd import PowerSGDSpec
from gtcbmuf.methods.qsgd import QSGDSpec
from gtcbmuf.methods.signsgd import SignSGDSpec
from gtcbmuf.methods.top_k import DGCSpec, TopKSpec

SPECS: list[ExchangeSpec] = [
    OneBitSpec(),
    SignSGDSpec(),
    SignSGDSpec(error_feedback=True),
    QSGDSpec(bucket=100),
    QSGDSpec(bucket=100, rounding="nearest"),
    QSGDSpec(bucket=100, error_feedback=False),
    PowerSGDSpec(rank=1),
    PowerSGDSpec(rank=2),
    TopKSpec(density=0.1),
    DGCSpec(density=0.1, warmup_steps=3),
]


def shapes_of(n: int) -> Shapes:
    """Return the shapes of a model with n parameters: two matrices and a vector, if n allows."""
    side = math.isqrt(n) // 2
    if side < 3:
        return [(n,)]
    return [(side, side), (2 * side, side), (n - 3 * side * side,)]


def build(
    spec: ExchangeSpec, group: MPI.Comm, n: int = 1000, meter: Meter | None = None
) -> Exchange:
    """Build an exchange for a model of n parameters."""
    return spec.build(group, shapes_of(n), meter)


RIVALS: list[Callable[..., Exchange]] = [partial(build, spec) for spec in SPECS]
