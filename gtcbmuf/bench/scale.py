"""Benchmark of many ranks on few cores: step time, start-up, memory and threads of a rank.

Each rank runs a worker of `gtcbmuf train`, with GTC in groups and BMUF across them. It trains on
noise, so it never waits for a file. The time of a step is that of a block on the slowest rank,
divided by the block's 20 steps. It includes the block filter.

In the ideal step, no core waits for messages or handles them. Its time is the processor time of a
step of the same worker in a group of its own: forward and backward pass, threshold, coding and
descent. This time is summed over the ranks of a host and divided by the host's cores.

The ranks take turns at the ideal step. One rank per core works while the others sleep. A rank takes
one step per turn, so the caches still hold the data of the ranks before it. The rest of a real step
is overhead: messages, waiting, decoding of other ranks' messages, and the block filter.
"""

import math
import os
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import numba
import numpy as np
from numpy.typing import NDArray

from gtcbmuf.acoustic.mlp import MLP, Architecture, initial_parameters
from gtcbmuf.acoustic.posteriors import BATCH
from gtcbmuf.bench.figures import Figure, summarise
from gtcbmuf.config.schema import Config, TrainConfig
from gtcbmuf.methods.bmuf import BMUFSpec
from gtcbmuf.methods.gtc import GTCSpec
from gtcbmuf.methods.none import NoFilterSpec
from gtcbmuf.mpi import launcher
from gtcbmuf.mpi.hosts import host_of_rank
from gtcbmuf.mpi.topology import Topology
from gtcbmuf.training.construction import build_worker

SHAPE = Architecture((440, 512, 512, 144), "relu")
GROUP = 8
CONFIG = Config(
    train=TrainConfig(minibatch=64),
    exchange=GTCSpec(tau=32.0),
    block_filter=BMUFSpec(period=20),
)
LEARNING_RATE = 1e-4
LAPS = 3  # turns of each rank
WAKING = 0.005  # seconds of a turn for a rank to wake up and for the rank before it to finish

GOAL_STEP, GOAL_START, GOAL_MEMORY, GOAL_THREADS = 1.3, 60, 70, 1


def measure(world: Any, rounds: int) -> list[Figure]:
    """Measure step, start, memory and threads; collective.

    Args:
        world: the workers, from `gtcbmuf.mpi.launcher.start`.
        rounds: number of blocks.

    Returns:
        The figures of all ranks, on every rank.
    """
    training = _Training(world)
    training.train_block(1)
    ages = [age for age in world.allgather(launcher.age()) if age is not None]

    steps = CONFIG.block_filter.period
    training.train_block(steps)
    memory = np.array(world.allgather(_proportional_set() - 6 * training.model.nbytes)) / 1e6
    threads = world.allgather(_threads())

    ideal = _IdealStep(training)
    ideal_times, step_times = [], []
    for _ in range(rounds):
        ideal_times.append(ideal.measure())
        step_times.append(training.train_block(steps) / steps)
    ideal.topology.free()
    training.topology.free()

    step, best = np.array(step_times), np.array(ideal_times)
    setting = (
        f"{world.size} ranks on {training.cores} cores, groups of {training.group_size}, "
        f"{training.model.size / 1e6:.2g} M parameters"
    )
    figures = [
        summarise(f"step of {setting}", step / best, "x ideal", GOAL_STEP),
        summarise("ideal step", 1e3 * best, "ms"),
    ]
    if ages:
        start = np.array([max(ages)])
        figures.append(summarise("start of mpirun to end of step 1", start, "s", GOAL_START))
    memory_name = "proportional set of a rank less 6 parameter vectors"
    figures += [
        summarise(f"{memory_name}, over ranks", memory, "MB", GOAL_MEMORY),
        summarise(f"{memory_name}, largest", np.array([memory.max()]), "MB", GOAL_MEMORY),
        summarise(
            "threads of BLAS or Numba, most of a rank",
            np.array([max(threads)]),
            "threads",
            GOAL_THREADS,
        ),
    ]
    return figures


class _Training:
    """The worker of a rank, with a minibatch of noise; collective."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.group_size = math.gcd(world.size, GROUP)
        self.topology = Topology(world, self.group_size)
        self.cores = len(os.sched_getaffinity(0))
        self.model = initial_parameters(SHAPE, np.random.default_rng(0))
        self._worker = build_worker(CONFIG, self.topology, self.model, SHAPE.shapes)
        minibatch = CONFIG.train.minibatch
        self._mlp = MLP(SHAPE, max(minibatch, BATCH))
        stream = np.random.default_rng([1, world.rank])
        self._inputs = stream.standard_normal((minibatch, SHAPE.widths[0]), np.float32)
        self._targets = stream.integers(0, SHAPE.widths[-1], minibatch, np.uint16)

    def gradient(self, step: int) -> NDArray[np.float32]:
        """Compute the gradient, (n,) float32. Every step has the same minibatch."""
        self._mlp.backward(self.model, self._inputs, self._targets)
        return self._mlp.gradient

    def train_block(self, steps: int) -> float:
        """Train for a block, and return its seconds on the slowest rank; collective."""
        self.world.Barrier()
        begin = time.perf_counter()
        self._worker.run(steps, self.gradient, lambda step: LEARNING_RATE)
        return float(max(self.world.allgather(time.perf_counter() - begin)))


class _IdealStep:
    """The same worker in a group of its own, without a block filter; collective."""

    def __init__(self, training: _Training) -> None:
        self._training, self._world = training, training.world
        self.topology = Topology(self._world, 1)
        config = msgspec.structs.replace(CONFIG, block_filter=NoFilterSpec())
        self._worker = build_worker(config, self.topology, training.model, SHAPE.shapes)
        hosts = host_of_rank(self._world)
        self._host = hosts[self._world.rank]
        self._host_rank = hosts[: self._world.rank].count(self._host)
        self._busy_cores = min(training.cores, hosts.count(self._host))
        self._turns = -(-hosts.count(self._host) // self._busy_cores)

    def measure(self) -> float:
        """Measure the seconds of an ideal step on the slowest host; collective.

        The clock starts the turns. Messages cannot start them, because a rank that waits for a
        message uses processor time.
        """
        turn = 2 * max(self._world.allgather(self._processor_seconds())) + WAKING
        times = []
        begin = time.monotonic()
        for lap in range(LAPS):
            _sleep_until(begin + (lap * self._turns + self._host_rank // self._busy_cores) * turn)
            times.append(self._processor_seconds())
        _sleep_until(begin + LAPS * self._turns * turn)
        share = float(np.median(times)) / self._busy_cores
        seconds_of_host: dict[str, float] = {}
        for host, seconds in self._world.allgather((self._host, share)):
            seconds_of_host[host] = seconds_of_host.get(host, 0) + seconds
        return max(seconds_of_host.values())

    def _processor_seconds(self) -> float:
        """Measure the processor time of a step. Learning rate 0 keeps the replicas equal."""
        begin = time.process_time()
        self._worker.run(1, self._training.gradient, lambda step: 0)
        return time.process_time() - begin


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0))


def _proportional_set() -> int:
    """Read the proportional set size of this process, in bytes."""
    text = Path("/proc/self/smaps_rollup").read_text()
    match = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    assert match is not None
    return 1024 * int(match[1])


def _threads() -> int:
    """Read the number of threads of BLAS or of Numba, whichever is larger."""
    import threadpoolctl

    pools = [int(pool["num_threads"]) for pool in threadpoolctl.threadpool_info()]
    return max([*pools, int(numba.config.NUMBA_NUM_THREADS)])  # type: ignore[attr-defined]
