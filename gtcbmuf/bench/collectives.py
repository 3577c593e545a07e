"""Benchmark of the collectives, each against simpler ones, on all ranks of a job.

    mpirun -n 4 gtcbmuf bench collectives
    scripts/hosts 2 1gbit 1 gtcbmuf bench collectives       # on emulated hosts with thin links

All times are those of the slowest rank.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.acoustic.mlp import MLP, Architecture, initial_parameters
from gtcbmuf.bench.figures import Figure, summarise, time_in_turns
from gtcbmuf.core import wire
from gtcbmuf.core.algorithm import BMUF
from gtcbmuf.core.overlap import Overlapped, cut
from gtcbmuf.core.sums import IntegerSum
from gtcbmuf.methods.dense import DenseSpec
from gtcbmuf.mpi.collectives import PatientComm, RankOrderSum
from gtcbmuf.mpi.hosts import host_of_rank
from gtcbmuf.mpi.topology import Topology

SHAPE = Architecture((440, 1024, 1024, 1024, 1024, 1500), "relu")  # 5.1 M parameters
FRAMES = 256
DENSITY = 0.01
#: Goal for the unhidden share of the communication that the backward pass could hide.
GOAL_UNHIDDEN = 0.2

Times = dict[str, NDArray[np.float64]]


def measure(world: MPI.Comm, rounds: int) -> list[Figure]:
    """Measure all collectives; collective.

    Args:
        world: all ranks.
        rounds: rounds of each measurement.

    Returns:
        The figures. Those of rank 0 are reported.
    """
    names = host_of_rank(world)
    hosts = list(dict.fromkeys(names))
    per_host = len(names) // len(hosts)
    whole_hosts = names == [host for host in hosts for _ in range(per_host)]
    topology = Topology(world, per_host if whole_hosts and len(hosts) > 1 else 1)
    where = f"{world.size} ranks on {len(hosts)} hosts"
    figures = [
        _measure_rank_order(world, rounds, where),
        *_measure_signs(world, rounds, where),
        _measure_block_end(topology, rounds, where),
    ]
    if world.size > 1:
        figures += _measure_overlap(world, rounds, where)
    topology.free()
    return figures


def _seconds(world: MPI.Comm, candidates: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Time each candidate on the slowest rank, in seconds (rounds,); collective."""
    times = time_in_turns(candidates, rounds=rounds, prepare=world.Barrier)
    for seconds in times.values():
        world.Allreduce(MPI.IN_PLACE, seconds, MPI.MAX)
    return times


def _measure_rank_order(world: MPI.Comm, rounds: int, where: str) -> Figure:
    n = SHAPE.parameters
    vector, total = np.ones(n, np.float32), np.empty(n, np.float32)
    parts = RankOrderSum(world, n)
    times = _seconds(
        world,
        {
            "ours": lambda: parts.gather(parts.scatter(vector), total),
            "plain": lambda: world.Allreduce(vector, total),
        },
        rounds,
    )
    ratio = times["ours"] / times["plain"]
    return summarise(f"sum in rank order, {where}", ratio, "x MPI_Allreduce")


def _measure_signs(world: MPI.Comm, rounds: int, where: str) -> list[Figure]:
    """Compare the sum of GTC's signs with MPI's sums, and with an exchange of everyone's signs."""
    n, stream = SHAPE.parameters, np.random.default_rng(world.rank)
    signs = np.where(stream.random(n) < DENSITY, stream.choice([-1, 1], n), 0).astype(np.int32)
    sums, tally = IntegerSum(world, n, bound=1), np.zeros(wire.TALLY, np.int64)
    sums.row[:] = 1 + signs
    counts = sums.hosts.array((n,), np.int16)
    coder, total, words = wire.Coder(n), np.zeros(n, np.int32), np.zeros(n, np.uint32)

    def sum_integers() -> None:
        counts[sums.mine] = sums.reduce(1.0, (0, 0))
        sums.finish()

    def gather_messages() -> None:
        message = coder.encode(signs, 1.0, tally, words)
        sizes = world.allgather(message.size)
        messages = np.empty(sum(sizes), np.uint32)
        world.Allgatherv(message, [messages, sizes])
        total[:] = 0
        for part in np.split(messages, np.cumsum(sizes)[:-1]):
            coder.add(part, 1.0, 1, total)

    def allreduce(dtype: type) -> Callable[[], None]:
        one: NDArray[Any] = signs.astype(dtype)
        sum_of_all = np.empty_like(one)
        return lambda: world.Allreduce(one, sum_of_all)

    others: dict[str, Callable[[], object]] = {
        "messages that every rank decodes": gather_messages,
        **{f"MPI_Allreduce of {t.__name__}": allreduce(t) for t in (np.int8, np.int32, np.float32)},
    }
    times = _seconds(world, {"ours": sum_integers, **others}, rounds)
    what = f"sum of signs of density {DENSITY:g}, {where}"
    return [summarise(what, times["ours"] / times[name], f"x {name}") for name in others]


def _measure_block_end(topology: Topology, rounds: int, where: str) -> Figure:
    """Compare the end of BMUF's block with the sum of all models by MPI."""
    model = np.random.default_rng(0).standard_normal(SHAPE.parameters, np.float32)
    change = np.random.default_rng(1 + topology.world.rank).standard_normal(model.size, np.float32)
    block_filter, total = BMUF(topology, model, nesterov=True), np.empty_like(model)

    def end_block() -> None:
        block_filter(model)

    def sum_models() -> None:
        topology.world.Allreduce(model, total)

    def train() -> None:
        np.add(model, change, out=model)

    candidates = {"train": train, "ours": end_block, "plain": sum_models}
    times = _seconds(topology.world, candidates, rounds)
    what = f"end of a block, groups of {topology.group.size}, {where}"
    return summarise(what, times["ours"] / times["plain"], "x MPI_Allreduce of the models")


def _measure_overlap(world: MPI.Comm, rounds: int, where: str) -> list[Figure]:
    """Measure a step with overlap, and the share of its communication that stays unhidden.

    Each exchange is also timed alone. In the ideal schedule, the exchanges take these times, run
    one after the other, and start no earlier than their slices' gradients are ready.

    Args:
        world: all ranks, one group.
        rounds: rounds of each measurement.
        where: ranks and hosts, for the figures' names.

    Returns:
        The ratio of the step's time to that without overlap, and the unhidden share of the
        communication that the ideal schedule hides.
    """
    mlp, stream = MLP(SHAPE, FRAMES), np.random.default_rng(world.rank)
    model = initial_parameters(SHAPE, np.random.default_rng(0))
    inputs = stream.standard_normal((FRAMES, SHAPE.widths[0]), np.float32)
    targets = stream.integers(0, SHAPE.widths[-1], FRAMES, np.uint16)
    slices = cut(SHAPE.shapes)
    plain, sliced = (DenseSpec(overlap=overlap) for overlap in (False, True))
    blocking = plain.build(world, SHAPE.shapes, None)
    patient = PatientComm(world)
    overlapped = Overlapped(slices, lambda part, meter: sliced.build(patient, part.shapes, meter))
    slice_exchanges = [sliced.build(patient, part.shapes, None) for part in slices]
    ready_at = np.zeros(len(slices))
    begin = 0.0

    def record_ready(first: int) -> None:
        ready_at[[number for number, part in enumerate(slices) if part.first == first]] = (
            time.perf_counter() - begin
        )

    def compute() -> None:
        nonlocal begin
        begin = time.perf_counter()
        mlp.backward(model, inputs, targets, record_ready)

    def blocking_step() -> None:
        mlp.backward(model, inputs, targets)
        blocking(mlp.gradient)

    def overlapped_step() -> None:
        mlp.backward(model, inputs, targets, lambda first: overlapped.ready(mlp.gradient, first))
        overlapped(mlp.gradient)

    def exchange(number: int) -> Callable[[], object]:
        return lambda: slice_exchanges[number](
            mlp.gradient[slices[number].first : slices[number].end]
        )

    steps = {"compute": compute, "plain": blocking_step, "ours": overlapped_step}
    exchanges = {f"{number}": exchange(number) for number in range(len(slices))}
    times = _seconds(world, {**steps, **exchanges}, rounds)
    world.Allreduce(MPI.IN_PLACE, ready_at, MPI.MAX)
    ideal = np.zeros(rounds)
    for number in reversed(range(len(slices))):
        ideal = np.maximum(ideal, ready_at[number]) + times[f"{number}"]
    sequential = times["compute"] + sum(times[number] for number in exchanges)
    unhidden = 1 - (times["plain"] - times["ours"]) / (sequential - ideal)
    ratio = times["ours"] / times["plain"]
    return [
        summarise(f"step of sync-sgd with overlap, {where}", ratio, "x blocking"),
        summarise(f"not hidden of what could be, {where}", unhidden, "of it", GOAL_UNHIDDEN),
    ]
