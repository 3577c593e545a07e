"""Benchmark of the wire format: size against entropy, and time to encode and to decode."""

import numpy as np

from gtcbmuf.base.arrays import Integers
from gtcbmuf.bench.figures import Figure, summarise, time_in_turns
from gtcbmuf.core import wire

PARAMETERS = 1_000_000
DENSITIES, WORKERS, STEPS = (1e-3, 1e-2, 5e-2), 16, (2, 3)
#: Standard deviation of the integers of sync-sgd with 16 bits.
DENSE = 256
GOAL_SIZE = 1.03


def measure(rounds: int) -> list[Figure]:
    """Measure size, encoding and decoding of messages with random integers.

    Args:
        rounds: rounds of each measurement.

    Returns:
        Three figures for each kind of message.
    """
    return [figure for what, values in _kinds() for figure in _measure(what, values, rounds)]


def _kinds() -> list[tuple[str, Integers]]:
    """List the integers of each kind of message, with their name."""
    stream, n = np.random.default_rng(0), PARAMETERS
    kinds = []
    for density in DENSITIES:
        for workers in (1, WORKERS):
            signs = stream.binomial(workers, density, n)
            what = f"signs of density {density:g}, {workers} workers"
            kinds.append((what, 2 * stream.binomial(signs, 0.5) - signs))
    for step in STEPS:
        change = np.rint(stream.standard_normal(n) / step)
        kinds.append((f"block change, step {step}", change))
    kinds.append(("gradient of sync-sgd, 16 bits", np.rint(stream.normal(0, DENSE, n))))
    return [(what, values.astype(np.int32)) for what, values in kinds]


def _measure(what: str, values: Integers, rounds: int) -> list[Figure]:
    n, bound, tally = values.size, int(np.abs(values).max()), np.zeros(wire.TALLY, np.int64)
    coder, total = wire.Coder(n), np.zeros_like(values)
    words = np.zeros(wire.max_words(n, bound), np.uint32)
    message = coder.encode(values, 1.0, tally, words).copy()
    times = time_in_turns(
        {
            "encode": lambda: coder.encode(values, 1.0, tally, words),
            "decode": lambda: coder.add(message, 1.0, bound, total),
        },
        rounds=rounds,
    )
    shares = np.unique(values, return_counts=True)[1] / n
    entropy = -float(shares @ np.log2(shares))
    bits = 32 * (message.size - wire.HEADER) / n
    ratio = np.array([bits / entropy])
    encode, decode = (1e9 * times[name] / n for name in ("encode", "decode"))
    return [
        summarise(f"size of {what}: {bits:.3g} bits", ratio, "x entropy", GOAL_SIZE),
        summarise(f"encode {what}", encode, "ns a parameter"),
        summarise(f"decode {what}", decode, "ns a parameter"),
    ]
