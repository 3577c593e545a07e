"""Many ranks on few cores: the step against its ideal, the start, and what a rank takes.

A worker as `gtcbmuf train` makes it, GTC in groups and BMUF across them, trains on noise, so that
there is no file and no frame to wait for.

The ideal step is the one in which no core waits for a message, or works for one: the processor time
of the same step of the same worker in a group of its own (forward and backward pass, thresholding,
coding, descent), summed over the ranks on a host, over its cores. The ranks take turns for it, as
many at a time as there are cores, while the others sleep; in a turn a rank takes one step, so that
it finds its data where an ideal step would: in the caches as far as the ranks before it have left
them. All else is overhead: messages, the waiting for them, the decoding of those of others, and the
block filter. The time of a step is a block's, of 20 steps and its filter, over its steps, on the
slowest rank.
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
from gtcbmuf.bench.figures import Figure, figure
from gtcbmuf.config.schema import Config, TrainConfig
from gtcbmuf.methods.bmuf import BMUFSpec
from gtcbmuf.methods.gtc import GTCSpec
from gtcbmuf.methods.none import NoFilterSpec
from gtcbmuf.mpi import launcher
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
WAKING = 0.005  # seconds of a turn, for a rank to wake up and the one before it to end

GOAL_STEP, GOAL_START, GOAL_MEMORY, GOAL_THREADS = 1.3, 60, 70, 1


def figures(world: Any, rounds: int) -> list[Figure]:
    """Step, start, memory and threads; collective.

    Args:
        world: the workers, as `gtcbmuf.mpi.launcher.start` gives it.
        rounds: how many blocks.

    Returns:
        The figures of all ranks, on every rank.
    """
    training = _Training(world)
    training.block(1)
    started = [age for age in world.allgather(launcher.age()) if age is not None]

    steps = CONFIG.block_filter.period
    training.block(steps)
    memory = np.array(world.allgather(_proportional_set() - 6 * training.model.nbytes)) / 1e6
    threads = world.allgather(_threads())

    alone = _Alone(training)
    ideal, taken = [], []
    for _ in range(rounds):
        ideal.append(alone.step())
        taken.append(training.block(steps) / steps)
    alone.topology.free()
    training.topology.free()

    step, best = np.array(taken), np.array(ideal)
    of = (
        f"{world.size} ranks on {training.cores} cores, groups of {training.group_size}, "
        f"{training.model.size / 1e6:.2g} M parameters"
    )
    less = "proportional set of a rank less 6 parameter vectors"
    found = [
        figure(f"step of {of}", step / best, "x ideal", GOAL_STEP),
        figure("ideal step", 1e3 * best, "ms"),
    ]
    if started:
        found.append(
            figure("start of mpirun to end of step 1", np.array([max(started)]), "s", GOAL_START)
        )
    found += [
        figure(f"{less}, over ranks", memory, "MB", GOAL_MEMORY),
        figure(f"{less}, largest", np.array([memory.max()]), "MB", GOAL_MEMORY),
        figure("threads of BLAS or Numba, most of a rank", np.array([max(threads)]), "threads", 1),
    ]
    return found


class _Training:
    """One rank's worker, and its share of noise; collective."""

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
        """Of the same minibatch in every step."""
        self._mlp.backward(self.model, self._inputs, self._targets)
        return self._mlp.gradient

    def block(self, steps: int) -> float:
        """Seconds of a block on the slowest rank; collective."""
        self.world.Barrier()
        begin = time.perf_counter()
        self._worker.run(steps, self.gradient, lambda step: LEARNING_RATE)
        return float(max(self.world.allgather(time.perf_counter() - begin)))


class _Alone:
    """The same worker in a group of its own, without a filter; collective."""

    def __init__(self, training: _Training) -> None:
        self._training, self._world = training, training.world
        self.topology = Topology(self._world, 1)
        config = msgspec.structs.replace(CONFIG, block_filter=NoFilterSpec())
        self._worker = build_worker(config, self.topology, training.model, SHAPE.shapes)
        self._host = os.uname().nodename
        hosts = self._world.allgather(self._host)
        self._place = hosts[: self._world.rank].count(self._host)  # of this rank on its host
        self._busy = min(training.cores, hosts.count(self._host))
        self._turns = -(-hosts.count(self._host) // self._busy)

    def step(self) -> float:
        """Seconds of an ideal step on the slowest host; collective.

        By the clock, not by messages: a rank that waits for one takes processor time.
        """
        turn = 2 * max(self._world.allgather(self._processor_seconds())) + WAKING
        taken = []
        begin = time.monotonic()
        for lap in range(LAPS):
            _sleep_until(begin + (lap * self._turns + self._place // self._busy) * turn)
            taken.append(self._processor_seconds())
        _sleep_until(begin + LAPS * self._turns * turn)
        seconds: dict[str, float] = {}
        for host, own in self._world.allgather((self._host, float(np.median(taken)) / self._busy)):
            seconds[host] = seconds.get(host, 0) + own
        return max(seconds.values())

    def _processor_seconds(self) -> float:
        """Of a step that leaves the model as it is, so that the replicas stay equal."""
        begin = time.process_time()
        self._worker.run(1, self._training.gradient, lambda step: 0)
        return time.process_time() - begin


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0))


def _proportional_set() -> int:
    """Bytes of this process's memory, of what it shares its part."""
    text = Path("/proc/self/smaps_rollup").read_text()
    found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def _threads() -> int:
    """The most that BLAS or Numba would use."""
    import threadpoolctl

    pools = [int(pool["num_threads"]) for pool in threadpoolctl.threadpool_info()]
    return max([*pools, int(numba.config.NUMBA_NUM_THREADS)])  # type: ignore[attr-defined]
