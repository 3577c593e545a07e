"""Messages: their size against the entropy of what they say, and the time to code it."""

import math

import numpy as np

from gtcbmuf.base.arrays import Words
from gtcbmuf.bench.figures import Figure, figure, time_in_turns
from gtcbmuf.core import kernels, wire

PARAMETERS = 8_000_000
DENSITIES = (1e-4, 1e-3, 1e-2, 3e-2)
GOAL_SIZE, GOAL_ENCODE, GOAL_DECODE = 1.02, 3, 4


def figures(rounds: int) -> list[Figure]:
    """Size, encoding and decoding for each density, updates at places drawn at random."""
    stream = np.random.default_rng(0)
    found = []
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
        sent = count / PARAMETERS
        bits = -(sent * math.log2(sent) + (1 - sent) * math.log2(1 - sent)) * PARAMETERS + count
        size = np.array([32 * packed.size / bits])
        of = f"{count:,} of {PARAMETERS / 1e6:g} M parameters"
        found += [
            figure(f"size of {of}", size, "x entropy", GOAL_SIZE),
            figure(f"encode {of}", 1e9 * times["pack"] / count, "ns an update", GOAL_ENCODE),
            figure(f"decode {of}", 1e9 * times["unpack"] / count, "ns an update", GOAL_DECODE),
        ]
    return found
