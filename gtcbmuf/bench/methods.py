"""Benchmark of whole steps of every method, on all ranks of a job. A plan predicts these steps.

    scripts/hosts 4 1gbit 2 gtcbmuf bench methods

Workers are those of a training run, but train on noise. tau follows a target density. The residuals
start uniformly distributed between -tau and tau. The time of a step is that of a block on the
slowest rank, divided by the steps of the block.
"""

from collections.abc import Iterator

import numpy as np
from mpi4py import MPI

from gtcbmuf.acoustic.mlp import Architecture, initial_parameters
from gtcbmuf.bench.figures import Figure, summarise, time_in_turns
from gtcbmuf.cluster.calibrate import make_gradient_source
from gtcbmuf.cluster.costs import Method
from gtcbmuf.core.algorithm import Worker
from gtcbmuf.core.meter import Meter
from gtcbmuf.methods import EXCHANGES, FILTERS
from gtcbmuf.methods.declaration import ExchangeSpec, FilterSpec
from gtcbmuf.methods.dense import DenseSpec
from gtcbmuf.methods.gtc import GTCSpec
from gtcbmuf.mpi.hosts import host_of_rank
from gtcbmuf.mpi.topology import Topology, compile_in_turn

SHAPES = (
    Architecture((440, 512, 512, 512, 147), "relu"),
    Architecture((440, 1024, 1024, 147), "relu"),
)
MINIBATCH, DENSITY, PERIOD = 64, 0.01, 4
_LEARNING_RATE = 1e-6  # too low to change the model


def measure(world: MPI.Comm, rounds: int) -> list[Figure]:
    """Measure a step of each method and shape; collective.

    Args:
        world: all ranks.
        rounds: blocks of each method.

    Returns:
        Seconds of a step, with the settings as facts. The figures of rank 0 are reported.
    """
    hosts = len(set(host_of_rank(world)))
    figures = []
    for shape in SHAPES:
        for method in _methods(world.size, hosts):
            times, density = _time_steps(world, shape, method, rounds)
            facts = {
                "method": method.name,
                "workers": world.size,
                "hosts": hosts,
                "group_size": method.group_size,
                "bits": getattr(method.exchange, "bits", None),
                "density": density if method.exchange.compresses else None,
                "period": method.block_filter.period if method.block_filter.connects else None,
                "parameters": shape.parameters,
                "minibatch": MINIBATCH,
            }
            where = f"{world.size} workers on {hosts} hosts"
            bits = " with 16 bits" if facts["bits"] == 16 else ""
            size = f"{shape.parameters / 1e6:.2g} M parameters"
            what = f"step of {method.name}{bits}, {size}, {where}"
            figures.append(summarise(what, times, "s", facts=facts))
    return figures


def _methods(workers: int, hosts: int) -> Iterator[Method]:
    """List every exchange alone, every block filter alone, and the paper's hybrid."""
    exchanges = [spec().with_keys(density=DENSITY) for spec in EXCHANGES.values()]
    exchanges.append(DenseSpec(bits=16))
    filters = [spec().with_keys(period=PERIOD) for spec in FILTERS.values()]
    if workers == 1:
        yield Method(1, 1)
        return
    for exchange in exchanges:
        if exchange.connects:
            yield Method(workers, workers, exchange)
    for block_filter in filters:
        if block_filter.connects:
            yield Method(workers, 1, block_filter=block_filter)
    # A host is a group. If every host has one worker, half of the workers are a group.
    size = workers // hosts if workers > hosts else workers // 2
    if size > 1 and workers % size == 0:
        gtc: ExchangeSpec = EXCHANGES["gtc"]().with_keys(density=DENSITY)
        bmuf: FilterSpec = FILTERS["bmuf"]().with_keys(period=PERIOD)
        yield Method(workers, size, gtc, bmuf)


def _time_steps(
    world: MPI.Comm, shape: Architecture, method: Method, rounds: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], float]:
    """Time a step, in seconds (rounds,), and measure its density; collective."""
    topology, meter = Topology(world, method.group_size), Meter()
    n, stream = shape.parameters, np.random.default_rng(world.rank)
    model = initial_parameters(shape, np.random.default_rng(0))
    gradient = make_gradient_source(shape, model, MINIBATCH, stream)
    spec, residual = method.exchange, None
    if isinstance(spec, GTCSpec):
        # A random walk with steps of this size reaches tau about once in 1 / density steps.
        tau = world.bcast(float(np.std(gradient(0)) / np.sqrt(DENSITY)))
        spec = spec.with_keys(tau=tau)
        residual = stream.uniform(-tau, tau, n).astype(np.float32)
    exchange = spec.build(topology.group, shape.shapes, meter)
    compile_in_turn(world)
    if residual is not None:
        exchange.restore({**exchange.state(), "residual": residual})
    period = method.block_filter.period if method.block_filter.connects else PERIOD
    block_filter = method.block_filter.build(topology, model, meter)
    worker = Worker(model, exchange, block_filter, period, meter=meter)

    def train_block() -> None:
        worker.run(period, gradient, lambda step: _LEARNING_RATE)

    for _ in range(6 if spec.compresses else 0):  # until tau has reached the target density
        train_block()
    meter.reset()
    times = time_in_turns({"block": train_block}, rounds=rounds, prepare=world.Barrier)["block"]
    world.Allreduce(MPI.IN_PLACE, times, MPI.MAX)
    density = world.allreduce(meter.updates_sent) / (world.size * (rounds + 1) * period * n)
    topology.free()
    return times / period, density
