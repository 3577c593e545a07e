"""Measurement of a cluster's profile, the input of `gtcbmuf.cluster.costs`.

    mpirun -n 1 gtcbmuf calibrate --out cluster.toml
    srun --nodes=2 --ntasks-per-node=2 --exclusive gtcbmuf calibrate --out cluster.toml

Rank 0 measures compute while the other ranks wait, so each rank should have a core of its own.
Two ranks per host are enough and disturb each other least. The workers per host are an option of
`gtcbmuf plan`.
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
from gtcbmuf.mpi.probes import find_partners, time_both_ways, time_one_way
from gtcbmuf.mpi.topology import cores_of_hosts, host_of_rank

#: Shapes and minibatches of the steps that determine the compute costs.
SHAPES = (
    Architecture((440, 256, 256, 147), "relu"),
    Architecture((440, 512, 512, 512, 147), "relu"),
    Architecture((440, 1024, 1024, 1024, 147), "relu"),
)
MINIBATCHES = (32, 128, 256)
_CONTEXT, _DIM = 5, 40
#: Length of the vectors for the timing of the kernels, and densities of the updates.
_PARAMETERS = 4_000_000
_DENSITIES = (1e-4, 1e-3, 1e-2)
#: Messages of a group. A worker decodes them together.
_GROUP = 8
#: Bytes of a message, for the latency and for the bandwidth.
_SMALL, _LARGE = 8, 4 << 20


def calibrate(world: MPI.Comm, rounds: int) -> ClusterProfile:
    """Measure a cluster's profile; collective.

    Args:
        world: all ranks. The network is measured on two hosts with two ranks each. On one host,
            only compute is measured.
        rounds: rounds of each measurement. The result is their median.

    Returns:
        The profile, complete on rank 0.
    """
    compute = _compute(rounds) if world.rank == 0 else None
    world.Barrier()
    network = _network(world, rounds)
    facts = environment()
    origin = f"measured {facts['started']} by {shlex.join(facts['command'])}"
    return ClusterProfile(
        version=VERSION,
        source=f"{origin}, commit {short_commit(facts)}",
        processor=facts["processor"],
        compute=compute,
        network=network,
    )


def make_gradient_source(
    shape: Architecture, model: NDArray[np.float32], minibatch: int, stream: np.random.Generator
) -> Callable[[int], NDArray[np.float32]]:
    """Make a function that computes a worker's gradient on frames of noise.

    Args:
        shape: shape of the model.
        model: (n,) float32 parameters; the function reads their values at each call.
        minibatch: frames in a step.
        stream: random generator of the noise and of the minibatches.

    Returns:
        A function that maps the number of a step to its gradient, (n,) float32.
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


def _median_seconds(call: Callable[[], object], rounds: int) -> float:
    return float(np.median(_seconds(call, rounds)))


def _compute(rounds: int) -> Compute:
    terms, medians, deviations = [], [], []
    for shape in SHAPES:
        for minibatch in MINIBATCHES:
            stream = np.random.default_rng(1)
            model = initial_parameters(shape, stream)
            gradient = make_gradient_source(shape, model, minibatch, stream)
            seconds = _seconds(partial(gradient, 0), rounds)
            n = shape.parameters
            terms.append((1, minibatch, minibatch * n, n))
            medians.append(float(np.median(seconds)))
            # Quartiles ignore the few rounds in which other processes disturbed the machine. The
            # quartiles of a normal distribution are 1.349 standard deviations apart.
            low, high = np.percentile(seconds, [25, 75])
            deviations.append(float((high - low) / 1.349 / medians[-1]))
    step, frame, frame_parameter, parameter = fit(terms, medians).tolist()
    return Compute(
        step=step,
        frame=frame,
        frame_parameter=frame_parameter,
        parameter=parameter,
        deviation=statistics.median(deviations),
        **_kernel_costs(rounds),
    )


def _kernel_costs(rounds: int) -> dict[str, float]:
    """Measure the costs of the kernels in seconds, by their names in `Compute`."""
    n, stream = _PARAMETERS, np.random.default_rng(2)
    sizes, encode_times, decode_times = [], [], []
    for density in (*_DENSITIES, 0.2):
        updates = np.flatnonzero(stream.random(n) < density)
        encode_time, decode_time = _message_seconds(n, updates, rounds)
        sizes.append(updates.size)
        encode_times.append(encode_time)
        decode_times.append(decode_time)
    # At the last density, a message is in the dense format: two bits per parameter.
    decode_bits = decode_times.pop() / n
    _, decode_message = _message_seconds(1000, np.empty(0, np.int64), rounds)
    encode_parameter, encode_update = fit([(n, size) for size in sizes[:-1]], encode_times[:-1])
    [decode_update] = fit(
        [(size,) for size in sizes[:-1]], [seconds - decode_message for seconds in decode_times]
    )
    model, delta, change = (np.ones(n, np.float32) for _ in range(3))
    half = np.float32(0.5)

    def filter_block() -> None:  # the same operations as BMUF with NBM
        for operation, operand in ((np.multiply, half), (np.subtract, model), (np.multiply, half)):
            operation(change, operand, out=change)
        np.multiply(delta, half, out=delta)
        np.add(delta, change, out=delta)
        np.add(model, delta, out=model)

    return {
        "dense_parameter": _median_seconds(lambda: kernels.add_scaled(change, half, model), rounds)
        / n,
        "encode_parameter": float(encode_parameter),
        "encode_update": float(encode_update),
        "decode_message": decode_message,
        "decode_update": float(decode_update),
        "decode_bits": decode_bits,
        "filter_parameter": _median_seconds(filter_block, rounds) / n,
        "sum_parameter": _median_seconds(lambda: np.add(delta, change, out=delta), rounds) / n,
    }


def _message_seconds(n: int, updates: NDArray[np.int64], rounds: int) -> tuple[float, float]:
    """Measure the seconds to encode a message and the seconds to decode one.

    A worker decodes the messages of its group together. The decoding time is one message's share.

    Args:
        n: parameters of the model.
        updates: indices of the parameters with an update.
        rounds: rounds of each measurement. The result is their median.
    """
    residual, gradient, model = (np.zeros(n, np.float32) for _ in range(3))
    encoder, decoder, times = wire.Encoder(n), wire.Decoder(n), []
    for _ in range(rounds + 1):
        residual[updates] = 1.5
        begin = time.perf_counter()
        message = encoder.encode(residual, gradient, 1.0)
        times.append(time.perf_counter() - begin)
    rows = np.tile(np.concatenate([np.array([message.size], np.uint32), message]), (_GROUP, 1))
    decode_time = _median_seconds(lambda: decoder.add_all(rows, 1.0, model), rounds)
    return statistics.median(times[1:]), decode_time / _GROUP


def _network(world: MPI.Comm, rounds: int) -> Network | None:
    """Measure the network between rank 0 and others; collective.

    Within a host, the partner is a rank of rank 0's host. Across hosts, the slowest host counts.
    For the bandwidth, messages travel in both directions at once, as in collectives. The profile's
    workers per host are this job's ranks per host. Its cores per host are the fewest cores that the
    job may use on a host.

    Returns:
        The network. None if rank 0's host has no second rank, or if there is no second host.
    """
    hosts = host_of_rank(world)
    near, far = find_partners(hosts)
    if not (near and far):
        return None

    def slowest(
        probe: Callable[..., float], partners: Sequence[int], size: int, rounds: int
    ) -> float:
        return max(probe(world, partner, size, rounds) for partner in partners)

    cores = min(cores_of_hosts(world, hosts).values())
    return Network(
        latency_within=slowest(time_one_way, near, _SMALL, 20 * rounds),
        latency_across=slowest(time_one_way, far, _SMALL, 20 * rounds),
        bandwidth_within=_LARGE / slowest(time_both_ways, near, _LARGE, rounds),
        bandwidth_across=_LARGE / slowest(time_both_ways, far, _LARGE, rounds),
        workers_per_host=world.size // (1 + len(far)),
        cores_per_host=float(cores),
    )
