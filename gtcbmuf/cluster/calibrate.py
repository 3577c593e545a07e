"""Measures what `gtcbmuf.cluster.costs` wants to know of a machine and its network.

    mpirun -n 1 gtcbmuf calibrate --out cluster.toml
    srun --nodes=2 --ntasks-per-node=2 --exclusive gtcbmuf calibrate --out cluster.toml

Compute is measured on rank 0 while the others wait, so the ranks should have cores of their own.
Two ranks a host are enough, and disturb each other least; a plan is told how many there will be.
"""

import math
import shlex
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.acoustic.mlp import MLP, Architecture, initial_parameters
from gtcbmuf.base.provenance import environment, short_commit
from gtcbmuf.cluster.fitting import fit
from gtcbmuf.cluster.profile import VERSION, ClusterProfile, Compute, Network
from gtcbmuf.core import kernels, wire
from gtcbmuf.data.corpus import Frames
from gtcbmuf.data.minibatches import FrameReader
from gtcbmuf.mpi.probes import both_ways, one_way, partners
from gtcbmuf.mpi.topology import cores_of_hosts, host_of_rank

#: Shapes and minibatches that compute is fitted to.
SHAPES = (
    Architecture((440, 256, 256, 147), "relu"),
    Architecture((440, 512, 512, 512, 147), "relu"),
    Architecture((440, 1024, 1024, 1024, 147), "relu"),
)
MINIBATCHES = (32, 128, 256)
_CONTEXT, _DIM = 5, 40
#: Parameters of the vectors that the kernels are timed with, and densities of their updates.
_PARAMETERS = 4_000_000
_DENSITIES = (1e-4, 1e-3, 1e-2)
#: Messages that are decoded together.
_GROUP = 8
#: Bytes of messages that tell latency and bandwidth.
_SMALL, _LARGE = 8, 4 << 20


def calibrate(world: MPI.Comm, rounds: int) -> ClusterProfile:
    """Measure; collective. The result of rank 0 counts.

    Args:
        world: two hosts with two ranks each give all of it; one rank gives compute alone.
        rounds: of each measurement, of which the median counts.
    """
    compute = _compute(rounds) if world.rank == 0 else None
    world.Barrier()
    network = _network(world, rounds)
    told = environment()
    measured = f"measured {told['started']} by {shlex.join(told['command'])}"
    return ClusterProfile(
        version=VERSION,
        source=f"{measured}, commit {short_commit(told)}",
        processor=told["processor"],
        compute=compute,
        network=network,
    )


def gradients(
    shape: Architecture, model: NDArray[np.float32], minibatch: int, stream: np.random.Generator
) -> Callable[[int], NDArray[np.float32]]:
    """What gives a worker a gradient at each step: frames at random, of noise.

    Args:
        shape: of the model.
        model: its parameters (n,) float32, as they are at each step.
        minibatch: frames of a step.
        stream: of all that is random.
    """
    rows = 2**16
    features = stream.standard_normal((rows, _DIM), np.float32).astype(np.float16)
    targets = stream.integers(0, shape.widths[-1], rows, np.uint16)
    reader = FrameReader(
        Frames(features, targets, np.arange(2**8, rows + 1, 2**8)), _CONTEXT, minibatch
    )
    minibatches, mlp = stream.integers(0, rows, (64, minibatch)), MLP(shape, minibatch)

    def gradient(step: int) -> NDArray[np.float32]:
        mlp.backward(model, *reader.gather(minibatches[step % len(minibatches)]))
        return mlp.gradient

    return gradient


def _seconds(call: Callable[[], object], rounds: int) -> NDArray[np.float64]:
    """Of each of so many calls, after two that do not count; each round is at least 1 ms long."""
    call()
    begin = time.perf_counter()
    call()
    repeats = max(1, math.ceil(1e-3 / (time.perf_counter() - begin)))
    taken = np.empty(rounds)
    for number in range(rounds):
        begin = time.perf_counter()
        for _ in range(repeats):
            call()
        taken[number] = (time.perf_counter() - begin) / repeats
    return taken


def _median(call: Callable[[], object], rounds: int) -> float:
    return float(np.median(_seconds(call, rounds)))


def _compute(rounds: int) -> Compute:
    terms, measured, deviations = [], [], []
    for shape in SHAPES:
        for minibatch in MINIBATCHES:
            stream = np.random.default_rng(1)
            gradient = gradients(shape, initial_parameters(shape, stream), minibatch, stream)
            taken = _seconds(partial(gradient, 0), rounds)
            n = shape.parameters
            terms.append((1, minibatch, minibatch * n, n))
            measured.append(float(np.median(taken)))
            # From quartiles, so that what else the machine did now and then is no deviation.
            low, high = np.percentile(taken, [25, 75])
            deviations.append(float((high - low) / 1.349 / measured[-1]))
    step, frame, frame_parameter, parameter = fit(terms, measured).tolist()
    return Compute(
        step=step,
        frame=frame,
        frame_parameter=frame_parameter,
        parameter=parameter,
        deviation=statistics.median(deviations),
        **_kernels(rounds),
    )


def _kernels(rounds: int) -> dict[str, float]:
    n, stream = _PARAMETERS, np.random.default_rng(2)
    sizes, encode, decode = [], [], []
    for density in (*_DENSITIES, 0.2):
        sent = np.flatnonzero(stream.random(n) < density)
        encoding, decoding = _message(n, sent, rounds)
        sizes.append(sent.size)
        encode.append(encoding)
        decode.append(decoding)
    bits = decode.pop() / n
    _, each = _message(1000, np.empty(0, np.int64), rounds)
    encode_parameter, encode_update = fit([(n, size) for size in sizes[:-1]], encode[:-1])
    [decode_update] = fit([(size,) for size in sizes[:-1]], [time - each for time in decode])
    model, delta, change = (np.ones(n, np.float32) for _ in range(3))
    half = np.float32(0.5)

    def filter_block() -> None:  # as BMUF does, with NBM
        for operation, other in ((np.multiply, half), (np.subtract, model), (np.multiply, half)):
            operation(change, other, out=change)
        np.multiply(delta, half, out=delta)
        np.add(delta, change, out=delta)
        np.add(model, delta, out=model)

    return {
        "dense_parameter": _median(lambda: kernels.add_scaled(change, half, model), rounds) / n,
        "encode_parameter": float(encode_parameter),
        "encode_update": float(encode_update),
        "decode_message": each,
        "decode_update": float(decode_update),
        "decode_bits": bits,
        "filter_parameter": _median(filter_block, rounds) / n,
        "sum_parameter": _median(lambda: np.add(delta, change, out=delta), rounds) / n,
    }


def _message(n: int, sent: NDArray[np.int64], rounds: int) -> tuple[float, float]:
    """Seconds to encode and to decode a message of n parameters, of which some are sent.

    To decode it among others: those of a group are decoded together.
    """
    residual, gradient, model = (np.zeros(n, np.float32) for _ in range(3))
    encoder, decoder, times = wire.Encoder(n), wire.Decoder(n), []
    for _ in range(rounds + 1):
        residual[sent] = 1.5
        begin = time.perf_counter()
        message = encoder.encode(residual, gradient, 1.0)
        times.append(time.perf_counter() - begin)
    rows = np.tile(np.concatenate([np.array([message.size], np.uint32), message]), (_GROUP, 1))
    decoding = _median(lambda: decoder.add_all(rows, 1.0, model), rounds)
    return statistics.median(times[1:]), decoding / _GROUP


def _network(world: MPI.Comm, rounds: int) -> Network | None:
    """From rank 0 to its neighbour, and to the slowest other host; None unless there are both.

    Bandwidths are of messages both ways at once, as in collectives. Workers and cores are those of
    this job: its ranks a host, and what they together may run on, on the host that has least.
    """
    hosts = host_of_rank(world)
    near, far = partners(hosts)
    if not (near and far):
        return None

    def slowest(of: Callable[..., float], others: Sequence[int], size: int, number: int) -> float:
        return max(of(world, other, size, number) for other in others)

    cores = min(cores_of_hosts(world, hosts).values())
    return Network(
        latency_within=slowest(one_way, near, _SMALL, 20 * rounds),
        latency_across=slowest(one_way, far, _SMALL, 20 * rounds),
        bandwidth_within=_LARGE / slowest(both_ways, near, _LARGE, rounds),
        bandwidth_across=_LARGE / slowest(both_ways, far, _LARGE, rounds),
        workers_per_host=world.size // (1 + len(far)),
        cores_per_host=float(cores),
    )
