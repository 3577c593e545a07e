"""Benchmark of the wire format: size against entropy, and time to encode and to decode."""

import math

import numpy as np

from gtcbmuf.base.arrays import Words
from gtcbmuf.bench.figures import Figure, summarise, time_in_turns
from gtcbmuf.core import kernels, wire

PARAMETERS = 8_000_000
DENSITIES = (1e-4, 1e-3, 1e-2, 3e-2)
GOAL_SIZE, GOAL_ENCODE, GOAL_DECODE = 1.02, 3, 4


def measure(rounds: int) -> list[Figure]:
    """Measure size, encoding and decoding of messages for each density.

    The indices of the updates are random.

    Args:
        rounds: rounds of each measurement.

    Returns:
        Three figures for each density.
    """
    stream = np.random.default_rng(0)
    figures = []
    for density in DENSITIES:
        indices = np.flatnonzero(stream.random(PARAMETERS) < density).astype(np.uint32)
        updates = indices << np.uint32(1) | stream.integers(0, 2, indices.size, np.uint32)
        count = updates.size
        k = kernels.rice_parameter(PARAMETERS, count)
        words = np.empty(wire.max_words(PARAMETERS), np.uint32)
        packed = words[: kernels.pack(updates, k, words)].copy()
        unpacked = np.empty_like(updates)

        def pack(updates: Words = updates, k: int = k, words: Words = words) -> None:
            kernels.pack(updates, k, words)

        def unpack(packed: Words = packed, k: int = k, unpacked: Words = unpacked) -> None:
            assert kernels.unpack(packed, k, PARAMETERS, unpacked)

        times = time_in_turns({"pack": pack, "unpack": unpack}, rounds=rounds)
        share = count / PARAMETERS
        entropy = -(share * math.log2(share) + (1 - share) * math.log2(1 - share)) * PARAMETERS
        entropy += count  # bits of the signs
        size = np.array([32 * packed.size / entropy])
        message = f"{count:,} of {PARAMETERS / 1e6:g} M parameters"
        encode, decode = (1e9 * times[name] / count for name in ("pack", "unpack"))
        figures += [
            summarise(f"size of {message}", size, "x entropy", GOAL_SIZE),
            summarise(f"encode {message}", encode, "ns an update", GOAL_ENCODE),
            summarise(f"decode {message}", decode, "ns an update", GOAL_DECODE),
        ]
    return figures
