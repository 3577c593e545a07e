"""Numba kernels of gradient threshold compression: arrays in, arrays out.

Every kernel has a scalar oracle in tests/test_kernels.py. A word is a uint32 as it travels; its
two forms are described in `gtcbmuf.wire`. Kernels check nothing that their callers can: lengths
and dtypes are the callers' promise, except in `are_indices` and `are_bits`, which judge words
from outside.
"""
# mypy: disable-error-code="assignment"
# (Numba unifies the types of a variable's assignments by itself.)

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Words = NDArray[np.uint32]
F = TypeVar("F", bound=Callable[..., Any])

#: Parameters whose crossings are counted together; those blocks without any are not read twice.
BLOCK = 64


def _kernel(function: F) -> F:
    # "numpy": division by zero gives no exception, which would keep loops from being vectorised.
    return numba.njit(cache=True, error_model="numpy", nogil=True)(function)  # type: ignore[return-value]


@_kernel
def accumulate(
    residual: Vector, gradient: Vector, tau: np.float32, crossings: NDArray[np.uint8]
) -> int:
    """residual += gradient, and count where |residual| >= tau (Strom 2015, section 2).

    Args:
        residual: (n,) float32, in place.
        gradient: (n,) float32.
        tau: the threshold, above 0.
        crossings: (ceil(n / BLOCK),) uint8, out: the count of each block of parameters.

    Returns:
        The count of all blocks.
    """
    n = residual.size
    total = 0
    for block in range(crossings.size):
        count = np.int32(0)
        begin = block * BLOCK
        if begin + BLOCK <= n:  # a length known when compiled: LLVM makes it 8 or 16 lanes wide
            for i in range(begin, begin + BLOCK):
                value = residual[i] + gradient[i]
                residual[i] = value
                count += np.int32(abs(value) >= tau)
        else:
            for i in range(begin, n):
                residual[i] += gradient[i]
                count += np.int32(abs(residual[i]) >= tau)
        crossings[block] = count
        total += count
    return total


@_kernel
def take_indices(
    residual: Vector, tau: np.float32, crossings: NDArray[np.uint8], words: Words
) -> None:
    """Move one tau from each |residual| >= tau to a word `index << 1 | negative`, ascending.

    Args:
        residual: (n,) float32, in place.
        tau, crossings: as given to, and filled by, `accumulate`.
        words: uint32, out: one word for each crossing, and room for one more.
    """
    n = residual.size
    k = 0
    for block in range(crossings.size):
        if crossings[block] == 0:
            continue
        first = k
        for i in range(block * BLOCK, min((block + 1) * BLOCK, n)):
            words[k] = i  # kept only where k moves on: no branch to mispredict
            k += abs(residual[i]) >= tau
        for j in range(first, k):
            i = np.int64(words[j])
            if residual[i] > 0:
                residual[i] -= tau
                words[j] = i << 1
            else:
                residual[i] += tau
                words[j] = i << 1 | 1


@_kernel
def take_bits(residual: Vector, tau: np.float32, words: Words) -> None:
    """Move one tau from each |residual| >= tau to 2 bits a parameter: 1 is +tau, 3 is -tau.

    Args:
        residual: (n,) float32, in place.
        tau: the threshold.
        words: (ceil(n / 16),) uint32, out; parameter i has bits 2 (i % 16) and up of word i // 16.
    """
    n = residual.size
    for w in range(words.size):
        begin = w * 16
        bits = np.uint32(0)
        for k in range(min(16, n - begin)):
            value = residual[begin + k]
            sent = np.uint32(abs(value) >= tau)
            negative = np.uint32(value < 0)
            residual[begin + k] = value - np.float32(sent) * np.copysign(tau, value)
            bits |= np.uint32(sent * (1 + 2 * negative) << 2 * k)
        words[w] = bits


@_kernel
def are_indices(words: Words, n: int) -> bool:
    """Whether the words name parameters below n in strictly ascending order."""
    last = -1
    for word in words:
        index = np.int64(word >> np.uint32(1))
        if index <= last or index >= n:
            return False
        last = index
    return True


@_kernel
def are_bits(words: Words, n: int, count: int) -> bool:
    """Whether the bits name `count` parameters below n, each with a valid code."""
    sent_bits = np.uint32(0x55555555)
    found = 0
    for w in range(words.size):
        sent = words[w] & sent_bits
        negative = (words[w] >> np.uint32(1)) & sent_bits
        if negative & ~sent:
            return False
        # The number of ones, by pairs, then in a product's top byte.
        nibbles = (sent & np.uint32(0x33333333)) + ((sent >> np.uint32(2)) & np.uint32(0x33333333))
        octets = (nibbles + (nibbles >> np.uint32(4))) & np.uint32(0x0F0F0F0F)
        found += np.uint32(octets * np.uint32(0x01010101)) >> np.uint32(24)
    tail = n % 16
    beyond = tail != 0 and words[words.size - 1] >> np.uint32(2 * tail) != 0
    return found == count and not beyond


@_kernel
def add_indices(words: Words, step: np.float32, vector: Vector) -> None:
    """vector[index] += step, or -= step where negative, for words that `are_indices`."""
    for word in words:
        if word & np.uint32(1):
            vector[word >> np.uint32(1)] -= step
        else:
            vector[word >> np.uint32(1)] += step


@_kernel
def add_bits(words: Words, step: np.float32, vector: Vector) -> None:
    """The same for words that `are_bits`."""
    for w in range(words.size):
        bits = words[w]
        begin = w * 16
        for k in range(min(16, vector.size - begin)):
            sent = np.int32(bits >> np.uint32(2 * k)) & np.int32(1)
            negative = np.int32(bits >> np.uint32(2 * k + 1)) & np.int32(1)
            vector[begin + k] += step * np.float32(sent - 2 * negative)


@_kernel
def add_scaled(update: Vector, scale: np.float32, vector: Vector) -> None:
    """vector += scale * update; both (n,) float32."""
    for i in range(vector.size):
        vector[i] += scale * update[i]


def compile_all() -> None:
    """Compile every kernel, or load it from Numba's cache.

    Numba's cache is not safe for processes that write it at once: under MPI one rank a host calls
    this first (`gtcbmuf.topology.in_turn`).
    """
    residual, gradient = np.zeros(1, np.float32), np.ones(1, np.float32)
    crossings, words = np.zeros(1, np.uint8), np.zeros(1, np.uint32)
    tau = np.float32(1)
    accumulate(residual, gradient, tau, crossings)
    take_indices(residual, tau, crossings, words)
    take_bits(residual, tau, words)
    are_indices(words, 1)
    are_bits(words, 1, 0)
    add_indices(words, tau, residual)
    add_bits(words, tau, residual)
    add_scaled(gradient, tau, residual)
