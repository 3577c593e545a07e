"""Communication, on the ranks that it is started with: each of our ways against a plainer one.

    mpirun -n 4 gtcbmuf bench collectives
    scripts/hosts 2 1gbit 1 gtcbmuf bench collectives       # on emulated hosts with thin links

A time is that of the slowest rank.
"""

import os
import time
from collections.abc import Callable, Mapping

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.acoustic.mlp import MLP, Architecture, initial_parameters
from gtcbmuf.bench.figures import Figure, figure, time_in_turns
from gtcbmuf.core import wire
from gtcbmuf.core.algorithm import BMUF
from gtcbmuf.core.overlap import Overlapped, cut
from gtcbmuf.methods import EXCHANGES
from gtcbmuf.mpi.collectives import MessageGather, PatientComm, RankOrderSum
from gtcbmuf.mpi.topology import Topology

SHAPE = Architecture((440, 1024, 1024, 1024, 1024, 1500), "relu")  # 5.1 M parameters
FRAMES = 256
DENSITY = 1e-3
#: Share of the communication that could be hidden, which is not.
GOAL_UNHIDDEN = 0.2

Times = dict[str, NDArray[np.float64]]


def figures(world: MPI.Comm, rounds: int) -> list[Figure]:
    """All of them; collective. The list of rank 0 counts."""
    names = world.allgather(os.uname().nodename)
    hosts = list(dict.fromkeys(names))
    per_host = len(names) // len(hosts)
    whole_hosts = names == [host for host in hosts for _ in range(per_host)]
    topology = Topology(world, per_host if whole_hosts else 1)
    where = f"{world.size} ranks on {len(hosts)} hosts"
    found = [_sums(world, rounds, where), _messages(world, rounds, where)]
    if len(hosts) > 1 and topology.group.size > 1:
        found.append(_leaders(topology, rounds, where))
    if world.size > 1:
        for kind in (
            kind for kind, spec in EXCHANGES.items() if "overlap" in spec.__struct_fields__
        ):
            found += _overlap(world, rounds, where, kind)
    topology.free()
    return found


def _seconds(world: MPI.Comm, candidates: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Seconds (rounds,) of each candidate on the slowest rank, in turns; one round is for nothing.

    Collective.
    """
    times = time_in_turns(candidates, rounds=rounds, prepare=world.Barrier)
    for taken in times.values():
        world.Allreduce(MPI.IN_PLACE, taken, MPI.MAX)
    return times


def _sums(world: MPI.Comm, rounds: int, where: str) -> Figure:
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
    return figure(f"sum in rank order, {where}", times["ours"] / times["plain"], "x MPI_Allreduce")


def _messages(world: MPI.Comm, rounds: int, where: str) -> Figure:
    longest = wire.max_words(SHAPE.parameters)
    gather = MessageGather(world, longest)
    words = np.arange(int(SHAPE.parameters * DENSITY * 12.4 / 32), dtype=np.uint32)
    sizes = np.empty(world.size, np.int32)
    received = np.empty(words.size * world.size, np.uint32)

    def in_two() -> None:
        world.Allgather(np.array([words.size], np.int32), sizes)
        world.Allgatherv(words, [received, sizes])

    def calls(call: Callable[[], object]) -> Callable[[], None]:
        def several() -> None:
            for _ in range(10):
                call()

        return several

    times = _seconds(world, {"ours": calls(lambda: gather(words)), "plain": calls(in_two)}, rounds)
    what = f"gather messages of {4 * words.size / 1000:.0f} kB, {where}"
    return figure(what, times["ours"] / times["plain"], "x sizes first, then messages")


def _leaders(topology: Topology, rounds: int, where: str) -> Figure:
    model = np.zeros(SHAPE.parameters, np.float32)
    one, sharded = (BMUF(topology, model, sharded=sharded) for sharded in (False, True))
    times = _seconds(
        topology.world, {"ours": lambda: sharded(model), "plain": lambda: one(model)}, rounds
    )
    what = f"block filter with sharded leaders, {where}"
    return figure(what, times["ours"] / times["plain"], "x one leader a group")


def _overlap(world: MPI.Comm, rounds: int, where: str, kind: str) -> list[Figure]:
    """The step with overlap, and the share of the communication that could hide but does not.

    What could hide follows from when each slice is ready and how long its exchange takes by
    itself: one exchange after the other, none before its slice is ready.
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
    alone = [sliced.build(patient, part.shapes, None) for part in slices]
    ready_at = np.zeros(len(slices))
    begin = 0.0

    def note(first: int) -> None:
        ready_at[[number for number, part in enumerate(slices) if part.first == first]] = (
            time.perf_counter() - begin
        )

    def compute() -> None:
        nonlocal begin
        begin = time.perf_counter()
        mlp.backward(model, inputs, targets, note)

    def one_after_the_other() -> None:
        mlp.backward(model, inputs, targets)
        blocking(mlp.gradient)

    def at_once() -> None:
        mlp.backward(model, inputs, targets, lambda first: overlapped.ready(mlp.gradient, first))
        overlapped(mlp.gradient)

    def exchange(number: int) -> Callable[[], object]:
        return lambda: alone[number](mlp.gradient[slices[number].first : slices[number].end])

    steps = {"compute": compute, "plain": one_after_the_other, "ours": at_once}
    exchanges = {f"{number}": exchange(number) for number in range(len(slices))}
    times = _seconds(world, {**steps, **exchanges}, rounds)
    world.Allreduce(MPI.IN_PLACE, ready_at, MPI.MAX)
    done = np.zeros(rounds)
    for number in reversed(range(len(slices))):
        done = np.maximum(done, ready_at[number]) + times[f"{number}"]
    apart = times["compute"] + sum(times[number] for number in exchanges)
    hidden = (times["plain"] - times["ours"]) / (apart - done)
    return [
        figure(f"step with overlap, {kind}, {where}", times["ours"] / times["plain"], "x blocking"),
        figure(f"not hidden of what could be, {kind}, {where}", 1 - hidden, "of it", GOAL_UNHIDDEN),
    ]
