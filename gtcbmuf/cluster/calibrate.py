"""Measurement of a cluster's profile, the input of `gtcbmuf.cluster.costs`.

    mpirun -n 1 gtcbmuf calibrate --out cluster.toml
    srun --nodes=2 --ntasks-per-node=2 --exclusive gtcbmuf calibrate --out cluster.toml

Rank 0 measures compute while the other ranks wait, so each rank should have a core of its own.
Two ranks per host are enough and disturb each other least. The workers per host are an option of
`gtcbmuf plan`.
"""

import shlex
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.acoustic.mlp import MLP, Architecture, initial_parameters
from gtcbmuf.base.provenance import environment, short_commit
from gtcbmuf.cluster.fitting import fit
from gtcbmuf.cluster.kernel_costs import measure_kernels, measure_seconds
from gtcbmuf.cluster.profile import VERSION, ClusterProfile, Compute, Network
from gtcbmuf.data.corpus import Frames
from gtcbmuf.data.minibatches import FrameReader
from gtcbmuf.mpi.hosts import cores_of_hosts, host_of_rank
from gtcbmuf.mpi.probes import find_partners, time_both_ways, time_one_way

#: Shapes and minibatches of the steps that determine the compute costs.
SHAPES = (
    Architecture((440, 256, 256, 147), "relu"),
    Architecture((440, 512, 512, 512, 147), "relu"),
    Architecture((440, 1024, 1024, 1024, 147), "relu"),
)
MINIBATCHES = (32, 128, 256)
_CONTEXT, _DIM = 5, 40
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


def _compute(rounds: int) -> Compute:
    terms, medians, deviations = [], [], []
    for shape in SHAPES:
        for minibatch in MINIBATCHES:
            stream = np.random.default_rng(1)
            model = initial_parameters(shape, stream)
            gradient = make_gradient_source(shape, model, minibatch, stream)
            seconds = measure_seconds(partial(gradient, 0), rounds)
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
        **measure_kernels(rounds),
    )


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
