"""Benchmark of GTC's kernels, top-k's selection and optimisers, against simpler work."""

from collections.abc import Callable
from functools import partial

import numpy as np
from mpi4py import MPI

from gtcbmuf.base.arrays import Vector
from gtcbmuf.bench.figures import Figure, summarise, time_in_turns
from gtcbmuf.core import kernels
from gtcbmuf.core.algorithm import DenseUpdate, Descent
from gtcbmuf.core.optimisers import AdamW, Nesterov
from gtcbmuf.methods.top_k import TopKExchange

PARAMETERS = (200_000, 5_600_000)
DENSITIES = (1e-3, 1e-2, 5e-2)
#: Workers of a host that exchange signs in its memory.
WORKERS = 16
GOAL_EXCHANGE = 4

_TAU = np.float32(1)
_RATE = 1e-6  # too low to change the model


def measure(rounds: int) -> list[Figure]:
    """Time the threshold, the exchange on a host, the top-k selection, and the optimisers.

    The exchange is all work of one worker among those of a host: the threshold, the sum of a slice
    of the rows of all of them, and the addition of the sums. It has no barriers.

    Args:
        rounds: rounds of each measurement.

    Returns:
        For each number of parameters, three figures for each density, and one for each optimiser:
        what it takes besides plain SGD.
    """
    figures = []
    for n in PARAMETERS:
        for density in DENSITIES:
            figures += _measure(n, density, rounds)
        figures += _measure_optimisers(n, rounds)
    return figures


def _measure_optimisers(n: int, rounds: int) -> list[Figure]:
    stream = np.random.default_rng(0)
    update = DenseUpdate(stream.normal(0, 0.1, n).astype(np.float32))
    model, other = np.zeros((2, n), np.float32)
    optimisers = {
        "sgd": Descent(n),
        "heavy ball": Descent(n, 0.9),
        "nesterov": Nesterov(n, 0.9),
        "adamw": AdamW(n),
    }
    candidates: dict[str, Callable[[], object]] = {
        name: partial(optimiser, model, update, _RATE) for name, optimiser in optimisers.items()
    }
    candidates["pass"] = lambda: kernels.add_scaled(update.vector, np.float32(_RATE), other)
    times = time_in_turns(candidates, rounds=rounds)
    sgd = times.pop("sgd")
    one_pass = times.pop("pass")
    return [
        summarise(
            f"{name} besides sgd, {n / 1e6:g} M parameters",
            (seconds - sgd) / one_pass,
            "x model += number * update",
        )
        for name, seconds in times.items()
    ]


def _measure(n: int, density: float, rounds: int) -> list[Figure]:
    stream, residual = np.random.default_rng(0), np.zeros(n, np.float32)
    gradient = stream.normal(0, 0.1, n).astype(np.float32)
    reaching = stream.random(n) < density
    gradient[reaching] = np.copysign(np.float32(1.5), gradient[reaching])
    worker = _Worker(n, density, stream)
    top_k = TopKExchange(MPI.COMM_SELF, n, density)

    def prepare() -> None:
        residual.fill(0)
        top_k.forget()

    candidates: dict[str, Callable[[], object]] = {
        "add": lambda: np.add(residual, gradient, out=residual),
        "threshold": lambda: kernels.threshold(residual, gradient, _TAU, worker.signs),
        "exchange": lambda: worker.exchange(residual, gradient),
        "select": lambda: top_k(gradient),
    }
    times = time_in_turns(candidates, rounds=rounds, prepare=prepare)
    size, one_pass = f"{n / 1e6:g} M parameters, density {density:g}", "x residual += gradient"
    exchange, threshold = times["exchange"] / times["add"], times["threshold"] / times["add"]
    what = f"exchange of a gtc worker among {WORKERS} on a host, {size}"
    return [
        summarise(f"threshold of {size}", threshold, one_pass),
        summarise(what, exchange, one_pass, GOAL_EXCHANGE),
        summarise(f"top-k of {size}", times["select"] / times["threshold"], "x threshold"),
    ]


class _Worker:
    """The first worker of a host, and the signs of all others."""

    def __init__(self, n: int, density: float, stream: np.random.Generator) -> None:
        padded = -(-n // 64) * 64
        sent = round(density / 2 * 2**16)
        signs = np.ones(2**16, np.uint8)
        signs[:sent], signs[sent : 2 * sent] = 0, 2
        rows = signs[stream.integers(0, 2**16, (WORKERS, padded), np.uint16)]
        self.signs, self._words = rows[0, :n], rows.view(np.uint64)
        self._values = np.zeros(padded // WORKERS, np.int32)
        self._scratch = np.zeros(-(-self._values.size // 8), np.uint64)
        self._counts, self._model = np.zeros(n, np.int16), np.zeros(n, np.float32)

    def exchange(self, residual: Vector, gradient: Vector) -> None:
        """Do this worker's part of an exchange, and add the counts to its model."""
        scratch, values = self._scratch, self._values
        kernels.threshold(residual, gradient, _TAU, self.signs)
        kernels.sum_signs(self._words, 0, scratch, scratch.view(np.uint8), values)
        self._counts[: values.size] = values
        kernels.add_counts(self._counts, np.float32(-0.5), self._model)
