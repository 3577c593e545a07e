"""Whole steps of every method, on the ranks that it is started with: what `gtcbmuf.costs` predicts.

    scripts/hosts 4 1gbit 2 gtcbmuf bench methods

Workers are those of a training run, but for their frames, which are noise. tau follows a density,
and residuals start spread evenly below it. A time is that of the slowest rank, of a block's steps.
"""

from collections.abc import Iterator

import numpy as np
from mpi4py import MPI

from gtcbmuf.algorithm import (
    BMUF,
    DenseExchange,
    Descent,
    Exchange,
    GTCExchange,
    NoExchange,
    NoFilter,
    Worker,
)
from gtcbmuf.bench import Figure, figure, seconds
from gtcbmuf.calibrate import gradients
from gtcbmuf.costs import Method
from gtcbmuf.meter import Meter
from gtcbmuf.model import Shape, initial
from gtcbmuf.topology import Topology, host_of_rank

SHAPES = (Shape((440, 512, 512, 512, 147), "relu"), Shape((440, 1024, 1024, 147), "relu"))
MINIBATCH, DENSITY, PERIOD = 64, 0.01, 4
_LEARNING_RATE = 1e-6  # so low that the model stays what it is


def figures(world: MPI.Comm, rounds: int) -> list[Figure]:
    """Seconds of a step of each method and shape; collective. The list of rank 0 counts."""
    names = host_of_rank(world)
    hosts = len(set(names))
    found = []
    for shape in SHAPES:
        for name, method in _methods(world.size, hosts):
            times, density = _measured(world, shape, method, rounds)
            facts = {
                "method": name,
                "workers": world.size,
                "hosts": hosts,
                "group_size": method.group_size,
                "density": None if method.density is None else density,
                "period": method.period,
                "parameters": shape.parameters,
                "minibatch": MINIBATCH,
            }
            where = f"{world.size} workers on {hosts} hosts"
            what = f"step of {name}, {shape.parameters / 1e6:.2g} M parameters, {where}"
            found.append(figure(what, times, "s", facts=facts))
    return found


def _methods(workers: int, hosts: int) -> Iterator[tuple[str, Method]]:
    if workers == 1:
        yield "sgd", Method(1, 1)
        return
    yield "sync-sgd", Method(workers, workers)
    yield "gtc", Method(workers, workers, DENSITY)
    yield "bmuf", Method(workers, 1, None, PERIOD)
    # Groups are hosts, or where each has one worker, halves of the world.
    size = workers // hosts if workers > hosts else workers // 2
    if size > 1 and workers % size == 0:
        yield "gtc-bmuf", Method(workers, size, DENSITY, PERIOD)


def _measured(
    world: MPI.Comm, shape: Shape, method: Method, rounds: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], float]:
    """Seconds (rounds,) of a step, and the share of the parameters that was sent."""
    topology, meter = Topology(world, method.group_size), Meter()
    n, stream = shape.parameters, np.random.default_rng(world.rank)
    model = initial(shape, np.random.default_rng(0))
    gradient = gradients(shape, model, MINIBATCH, stream)
    exchange: Exchange = NoExchange()
    if method.density is not None:
        # A random walk of this size a step reaches tau once in 1 / density steps.
        tau = float(np.std(gradient(0)) / np.sqrt(method.density))
        tau = world.bcast(tau)
        exchange = GTCExchange(topology.group, n, tau, meter, density=method.density)
        residual = stream.uniform(-tau, tau, n).astype(np.float32)
        exchange.restore({**exchange.state(), "residual": residual})
    elif method.group_size > 1:
        exchange = DenseExchange(topology.group, n, meter)
    period = method.period or PERIOD
    block_filter = BMUF(topology, model, meter=meter) if method.period else NoFilter()
    worker = Worker(model, exchange, block_filter, period, Descent(model), meter=meter)

    def block() -> None:
        worker.run(period, gradient, lambda step: _LEARNING_RATE)

    for _ in range(0 if method.density is None else 6):  # until tau is what the density wants
        block()
    meter.reset()
    times = seconds({"block": block}, rounds=rounds, prepare=world.Barrier)["block"]
    world.Allreduce(MPI.IN_PLACE, times, MPI.MAX)
    sent = world.allreduce(meter.updates_sent) / (world.size * (rounds + 1) * period * n)
    topology.free()
    return times / period, sent
