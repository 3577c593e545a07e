"""Tier 2 behind the next block: the groups train on while their changes are added up."""

from concurrent.futures import Future
from typing import Any

import numpy as np

from gtcbmuf.base.arrays import Vector
from gtcbmuf.core import kernels
from gtcbmuf.core.algorithm import BMUF, State
from gtcbmuf.core.checks import check_integer
from gtcbmuf.core.meter import Meter
from gtcbmuf.mpi.carried import background
from gtcbmuf.mpi.topology import Topology


class DelayedBMUF(BMUF):
    """BMUF whose result arrives some steps after the end of a block.

    At the end of a block, a separate thread begins to average and filter. After `delay` steps, a
    group's model V gets what it would have got at once,

        V = V + S(t) - S(t-1) - step * q

    so that the steps between count in full. At an epoch's end the result arrives at once.

    Meanwhile the group's gradients lack the last change of the start. So Nesterov momentum looks
    further ahead, S(t) = W(t) + eta * (1 + delay / period) * Delta(t) (scripts/unsent).

    Args:
        topology, model: as for `BMUF`. The MPI library must allow calls from several threads.
        delay: number of steps, shorter than a block.
        period: number of steps of a block.
        meter: counts.
        options: other arguments of `BMUF`.

    Examples:
        >>> from mpi4py import MPI
        >>> model = np.zeros(2, np.float32)
        >>> topology = Topology(MPI.COMM_SELF, 1)
        >>> bmuf = DelayedBMUF(topology, model, delay=2, period=4, momentum=0.5, step=0.01)
        >>> for step in range(8):
        ...     model += 1
        ...     bmuf.advance(model, learning_rate=1)
        ...     if step % 4 == 3:  # a block of 4 steps
        ...         bmuf(model, wait=step == 7)
        >>> np.round(model).tolist()  # 4, then 4 + 4/2 more
        [10.0, 10.0]
    """

    def __init__(
        self,
        topology: Topology,
        model: Vector,
        *,
        delay: int,
        period: int,
        meter: Meter | None = None,
        **options: Any,
    ) -> None:
        super().__init__(topology, model, meter=meter, patient=True, **options)
        self._delay = check_integer("delay", delay, 1)
        self._ahead = np.float32(1 + delay / check_integer("period", period, delay + 1))
        self._left = np.zeros(1, np.int64)  # steps until the result arrives; 0 if none is late
        self._before = np.zeros(model.size, np.float32)  # the model at the end of the block
        self._step_then = np.zeros(1, np.float32)  # quantisation step of that block
        self._thread = background(topology.world, "filter")
        self._filtering: Future[None] | None = None

    def __call__(self, model: Vector, *, wait: bool = True) -> None:
        self.arrive(model)
        if wait:
            super().__call__(model)
            return
        self._require_model(model)
        with self._meter.time("filter"):
            step, energy = self._quantise(model)
            self._before[:], self._step_then[0] = model, step
            self._filtering = self._thread.submit(self._filter, step, energy)
            self._left[0] = self._delay

    def advance(self, model: Vector, learning_rate: float) -> None:
        """Count a step; the last step of the delay adds the result to the model. Collective."""
        if self._left[0] == 1:
            self.arrive(model)
        elif self._left[0]:
            self._left -= 1

    def arrive(self, model: Vector) -> None:
        """Add what is late to the model now, if anything is. Collective in the world."""
        if not self._left[0]:
            return
        with self._meter.time("filter"):
            self._wait()
            after = self._before.copy()
            self._restart(after, float(self._step_then[0]))
            after -= self._before
            kernels.add_scaled(after, np.float32(1), model)
            self._left[0] = 0

    def _wait(self) -> None:
        """Wait until the thread has filtered."""
        if self._filtering is not None:
            self._filtering.result()
            self._filtering = None

    def anchor(self, model: Vector) -> Vector:
        """Return the global model, after what is late has been added to the model. Collective."""
        self.arrive(model)
        return super().anchor(model)

    def state(self) -> State:
        """Also what is late: steps left (1,), model and quantisation step at the block's end."""
        self._wait()
        return {**super().state(), **self._late()}

    def restore(self, state: State) -> None:
        """Continue from a `state`. Collective in the world."""
        self._wait()
        super().restore(state)
        for name, array in self._late().items():
            array[:] = state[name]

    def _late(self) -> State:
        return {"left": self._left, "before": self._before, "step": self._step_then}

    def _vectors(self) -> State:
        return {**super()._vectors(), "next_start": self._next_start}
