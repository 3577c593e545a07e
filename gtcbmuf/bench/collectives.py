"""Benchmark of the collectives, each against a simpler one, on all ranks of a job.

    mpirun -n 4 gtcbmuf bench collectives
    scripts/hosts 2 1gbit 1 gtcbmuf bench collectives       # on emulated hosts with thin links

All times are those of the slowest rank.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.acoustic.mlp import MLP, Architecture, initial_parameters
from gtcbmuf.bench.figures import Figure, summarise, time_in_turns
from gtcbmuf.core import wire
from gtcbmuf.core.algorithm import BMUF
from gtcbmuf.core.overlap import Overlapped, cut
from gtcbmuf.methods import EXCHANGES
from gtcbmuf.mpi.collectives import MessageGather, PatientComm, RankOrderSum
from gtcbmuf.mpi.topology import Topology, host_of_rank

SHAPE = Architecture((440, 1024, 1024, 1024, 1024, 1500), "relu")  # 5.1 M parameters
FRAMES = 256
DENSITY = 1e-3
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
    topology = Topology(world, per_host if whole_hosts else 1)
    where = f"{world.size} ranks on {len(hosts)} hosts"
    figures = [_measure_sum(world, rounds, where), _measure_messages(world, rounds, where)]
    if len(hosts) > 1 and topology.group.size > 1:
        figures.append(_measure_leaders(topology, rounds, where))
    if world.size > 1:
        for kind in (
            kind for kind, spec in EXCHANGES.items() if "overlap" in spec.__struct_fields__
        ):
            figures += _measure_overlap(world, rounds, where, kind)
    topology.free()
    return figures


def _seconds(world: MPI.Comm, candidates: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Time each candidate on the slowest rank, in seconds (rounds,); collective."""
    times = time_in_turns(candidates, rounds=rounds, prepare=world.Barrier)
    for seconds in times.values():
        world.Allreduce(MPI.IN_PLACE, seconds, MPI.MAX)
    return times


def _measure_sum(world: MPI.Comm, rounds: int, where: str) -> Figure:
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


def _measure_messages(world: MPI.Comm, rounds: int, where: str) -> Figure:
    longest = wire.max_words(SHAPE.parameters)
    gather = MessageGather(world, longest)
    words = np.arange(int(SHAPE.parameters * DENSITY * 12.4 / 32), dtype=np.uint32)
    sizes = np.empty(world.size, np.int32)
    messages = np.empty(words.size * world.size, np.uint32)

    def gather_sizes_first() -> None:
        world.Allgather(np.array([words.size], np.int32), sizes)
        world.Allgatherv(words, [messages, sizes])

    def repeat(call: Callable[[], object]) -> Callable[[], None]:
        def ten_calls() -> None:
            for _ in range(10):
                call()

        return ten_calls

    times = _seconds(
        world,
        {"ours": repeat(lambda: gather(words)), "plain": repeat(gather_sizes_first)},
        rounds,
    )
    what = f"gather messages of {4 * words.size / 1000:.0f} kB, {where}"
    return summarise(what, times["ours"] / times["plain"], "x sizes first, then messages")


def _measure_leaders(topology: Topology, rounds: int, where: str) -> Figure:
    model = np.zeros(SHAPE.parameters, np.float32)
    plain, sharded = (BMUF(topology, model, sharded=sharded) for sharded in (False, True))
    times = _seconds(
        topology.world, {"ours": lambda: sharded(model), "plain": lambda: plain(model)}, rounds
    )
    what = f"block filter with sharded leaders, {where}"
    return summarise(what, times["ours"] / times["plain"], "x one leader a group")


def _measure_overlap(world: MPI.Comm, rounds: int, where: str, kind: str) -> list[Figure]:
    """Measure a step with overlap, and the share of its communication that stays unhidden.

    Each exchange is also timed alone. In the ideal schedule, the exchanges take these times, run
    one after the other, and start no earlier than their slices' gradients are ready.

    Args:
        world: all ranks, one group.
        rounds: rounds of each measurement.
        where: ranks and hosts, for the figures' names.
        kind: kind of exchange.

    Returns:
        The ratio of the step's time to that without overlap, and the unhidden share of the
        communication that the ideal schedule hides.
    """
    mlp, stream = MLP(SHAPE, FRAMES), np.random.default_rng(world.rank)
    model = initial_parameters(SHAPE, np.random.default_rng(0))
    inputs = stream.standard_normal((FRAMES, SHAPE.widths[0]), np.float32)
    targets = stream.integers(0, SHAPE.widths[-1], FRAMES, np.uint16)
    mlp.backward(model, inputs, targets)
    tau = float(np.quantile(np.abs(mlp.gradient), 1 - DENSITY))
    slices = cut(SHAPE.shapes)
    plain, sliced = (
        EXCHANGES[kind]().with_keys(tau=tau, overlap=overlap) for overlap in (False, True)
    )
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
        summarise(f"step with overlap, {kind}, {where}", ratio, "x blocking"),
        summarise(
            f"not hidden of what could be, {kind}, {where}", unhidden, "of it", GOAL_UNHIDDEN
        ),
    ]
