"""Measurement of the kernels of both tiers, for the costs of a profile."""

import math
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike, NDArray

from gtcbmuf.base.arrays import Integers
from gtcbmuf.cluster.fitting import fit
from gtcbmuf.cluster.profile import SIZES
from gtcbmuf.core import kernels, wire
from gtcbmuf.core.algorithm import BMUF, GTCExchange
from gtcbmuf.mpi.topology import Topology

#: Bytes of all vectors between which a measurement alternates. Between two passes over one of its
#: vectors, a worker needs its others.
_VECTORS = 4 << 20
#: Rows of the sums, and workers that share a sum.
_ROWS, _WORKERS = (4, 16), 16
#: Integers of a message, and their standard deviations in the two forms of a message.
_LENGTH, _DEVIATIONS, _IN_FIELDS = 1 << 18, (0.2, 0.3, 0.5, 1.0), 256.0
#: Parameters of a model that takes no time.
_TINY = 64


def measure_seconds(call: Callable[[], object], rounds: int) -> NDArray[np.float64]:
    """Measure the seconds of a call, (rounds,) float64, after two warm-up calls.

    A round repeats the call for about 1 ms or longer.
    """
    call()
    begin = time.perf_counter()
    call()
    repeats = max(1, math.ceil(1e-3 / (time.perf_counter() - begin)))
    seconds = np.empty(rounds)
    for number in range(rounds):
        begin = time.perf_counter()
        for _ in range(repeats):
            call()
        seconds[number] = (time.perf_counter() - begin) / repeats
    return seconds


def measure_kernels(rounds: int) -> dict[str, Any]:
    """Measure the costs of the kernels in seconds, by their names in `Compute`.

    Args:
        rounds: rounds of each measurement. The result is their median.
    """
    passes = [_passes(n, rounds) for n in SIZES]
    pairs = {name: (passes[0][name], passes[1][name]) for name in passes[0]}
    exchange, block_filter = _steps(_TINY)
    return {
        "exchange": _median(exchange, rounds),
        "filter": _median(block_filter, rounds),
        **_messages(rounds),
        **pairs,
    }


def _median(call: Callable[[], object], rounds: int) -> float:
    return float(np.median(measure_seconds(call, rounds)))


def _passes(n: int, rounds: int) -> dict[str, float]:
    """Measure the costs of passes over vectors of n numbers, in seconds per number."""
    stream, half = np.random.default_rng(2), np.float32(0.5)
    sets = cycle(
        [
            (
                *(stream.standard_normal((3, n), np.float32)),
                *np.ones((2, n), np.int16),
                np.ones(n, np.uint8),
            )
            for _ in range(max(1, _VECTORS // (16 * n)))
        ]
    )

    def dense() -> None:
        one, two, *_ = next(sets)
        kernels.add_scaled(one, half, two)

    def threshold() -> None:
        one, two, _, _, _, signs = next(sets)
        kernels.threshold(one, two, np.float32(3), signs)

    def add() -> None:
        one, _, _, counts, _, _ = next(sets)
        kernels.add_counts(counts, half, one)

    def check() -> None:
        kernels.all_finite(next(sets)[0])

    def quantise() -> None:
        one, two, _, integers, _, _ = next(sets)
        kernels.quantise(one, two, half, integers)
        kernels.energy(one, two, half)

    def restart() -> None:
        one, two, three, *_ = next(sets)
        kernels.restart(one, two, three, half, half)

    def sum_floats() -> None:
        one, two, *_ = next(sets)
        np.add(one, two, out=two)

    calls = {
        "dense_parameter": dense,
        "threshold_parameter": threshold,
        "add_parameter": add,
        "check_parameter": check,
        "quantise_parameter": quantise,
        "restart_parameter": restart,
        "sum_float": sum_floats,
    }
    costs = {name: _median(call, rounds) / n for name, call in calls.items()}
    costs |= _sums(n, rounds)
    _, filter_block = _steps(n)
    others = ("check_parameter", "quantise_parameter", "restart_parameter")
    known = sum(costs[name] for name in (*others, "sum_integer", "sum_parameter"))
    costs["filter_parameter"] = max(_median(filter_block, rounds) / n - known, 0.0)
    return costs


def _sums(n: int, rounds: int) -> dict[str, float]:
    """Measure the costs of sums over rows of n integers, slice after slice."""
    size = n // _WORKERS // 64 * 64
    starts = cycle(range(0, _WORKERS * size, size))
    values, counts = np.zeros(size, np.int32), np.zeros(size, np.int16)
    scratch = np.zeros(size // 8, np.uint64)

    def sum_signs(rows: NDArray[np.uint8]) -> None:
        words, first = rows.view(np.uint64), next(starts) // 8
        kernels.sum_signs(words, first, scratch, scratch.view(np.uint8), values)
        counts[:] = values

    def sum_integers(rows: NDArray[np.int16]) -> None:
        kernels.sum_rows(rows, next(starts), values)
        counts[:] = values

    def seconds(call: Callable[[NDArray[Any]], None], dtype: DTypeLike) -> list[float]:
        rows = np.ones((max(_ROWS), _WORKERS * size), dtype)
        return [_median(partial(call, rows[:count]), rounds) / size for count in _ROWS]

    terms = [(count, 1) for count in _ROWS]
    sum_sign, sum_parameter = fit(terms, seconds(sum_signs, np.uint8)).tolist()
    few, many = seconds(sum_integers, np.int16)
    sum_integer = max(many - few, 0.0) / (_ROWS[1] - _ROWS[0])
    return {"sum_sign": sum_sign, "sum_parameter": sum_parameter, "sum_integer": sum_integer}


def _messages(rounds: int) -> dict[str, float]:
    """Measure the costs of messages in seconds, by their names in `Compute`."""
    stream, n = np.random.default_rng(3), _LENGTH
    encode_times, decode_times, terms = [], [], []
    for deviation in (*_DEVIATIONS, _IN_FIELDS):
        integers = np.rint(stream.normal(0, deviation, n)).astype(np.int32)
        encode_time, decode_time = _message_seconds(integers, rounds)
        sizes = np.abs(integers)
        terms.append((n, int(np.count_nonzero(sizes) + np.count_nonzero(sizes > 1))))
        encode_times.append(encode_time)
        decode_times.append(decode_time)
    encode_integer, encode_code = fit(terms[:-1], encode_times[:-1]).tolist()
    [decode_code] = fit([(codes,) for _, codes in terms[:-1]], decode_times[:-1])
    return {
        "message": _median(_send_to_itself(), rounds) / 2,
        "encode_integer": encode_integer,
        "encode_code": encode_code,
        "decode_code": float(decode_code),
        "encode_field": max(encode_times[-1] / n - encode_integer, 0.0),
        "decode_field": decode_times[-1] / n,
    }


def _message_seconds(integers: Integers, rounds: int) -> tuple[float, float]:
    """Measure the seconds to encode integers, and the seconds to decode and add them."""
    bound, tally = int(np.abs(integers).max()), np.zeros(wire.TALLY, np.int64)
    coder, total = wire.Coder(integers.size), np.zeros_like(integers)
    words = np.zeros(wire.max_words(integers.size, bound), np.uint32)
    encode_time = _median(lambda: coder.encode(integers, 1.0, tally, words), rounds)
    message = coder.encode(integers, 1.0, tally, words)
    return encode_time, _median(lambda: coder.add(message, 1.0, bound, total), rounds)


def _send_to_itself() -> Callable[[], None]:
    """Make a function that encodes, sends, receives and decodes a short message."""
    comm, integers, tally = MPI.COMM_SELF, np.zeros(_TINY, np.int32), np.zeros(wire.TALLY, np.int64)
    coder, total, status = wire.Coder(_TINY), np.zeros_like(integers), MPI.Status()
    outgoing, incoming = np.zeros((2, wire.max_words(_TINY, 1)), np.uint32)

    def send() -> None:
        receiving = comm.Irecv(incoming, 0)
        sending = comm.Isend(coder.encode(integers, 1.0, tally, outgoing), 0)
        MPI.Request.Waitany([receiving], status)
        coder.add(incoming[: status.Get_count(MPI.UINT32_T)], 1.0, 1, total)
        sending.Wait()

    return send


def _steps(n: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Make functions that exchange and filter a model of n parameters, with one worker."""
    gradient, model = np.zeros((2, n), np.float32)
    gtc = GTCExchange(MPI.COMM_SELF, n, tau=1.0)
    block_filter = BMUF(Topology(MPI.COMM_SELF, 1), model, nesterov=True)

    def exchange() -> None:
        gtc(gradient).add_to(model, 0.5)

    def filter_block() -> None:
        model[0] += 1  # a change has a root mean square
        block_filter(model)

    return exchange, filter_block
