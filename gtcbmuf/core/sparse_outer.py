"""A sparse outer step with error feedback, as a block filter."""

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.jit import kernel
from gtcbmuf.base.partition import share
from gtcbmuf.core.algorithm import State
from gtcbmuf.core.checks import (
    VectorCheck,
    check_above_zero,
    check_share,
    check_target,
)
from gtcbmuf.core.deviation import Deviation
from gtcbmuf.core.meter import Meter
from gtcbmuf.core.sums import IntegerSum
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.topology import Topology

#: Numbers of which some share is sent: chunks of a part of the model; the last one is shorter.
CHUNK = 4096


#: The unit of what is sent, in root mean squares of the chosen numbers. Most of these are a little
#: above the smallest of them.
UNIT = np.float32(0.85)


def chosen_in(chunk: int, density: float) -> int:
    """Return the number of parameters of a chunk that are sent: at least 1."""
    return max(1, round(density * chunk))


@kernel("(f4[::1], f8, i8[::1])")
def find_largest(vector: Vector, density: float, places: NDArray[np.int64]) -> int:
    """Find the numbers of largest size in each chunk of a vector; of equal ones, the first.

    Args:
        vector: (n,) float32.
        density: share of a chunk, as in `chosen_in`.
        places: (k,) int64, output: ascending places; k is large enough.

    Returns:
        The number of places.
    """
    count = 0
    for begin in range(0, vector.size, CHUNK):
        sizes = np.abs(vector[begin : begin + CHUNK])
        most = max(1, int(np.rint(density * sizes.size)))
        least = np.partition(sizes, sizes.size - most)[sizes.size - most]
        equal = most - int((sizes > least).sum())
        for i in range(sizes.size):
            is_least = sizes[i] == least
            if sizes[i] > least or (is_least and equal > 0):
                places[count] = begin + i
                count += 1
                equal -= is_least
    return count


class SparseOuterStep:
    """SparseLoCo's outer step (Sarfi et al. 2025, algorithm 1): few numbers of two bits each.

    With the start S, the model M of each of G groups, and a group's residual e,

        e    = decay * e + M - S(t-1)
        q    = the numbers of e of largest size in each chunk of 4096, rounded to -2, -1, 1 or 2
        e    = e - unit * q
        S(t) = S(t-1) + learning_rate * unit * (sum of q) / G

    All groups go on from S(t). The unit is 0.85 times the root mean square of the numbers that were
    chosen in the last block. It is the same for all groups, so that integers are summed. The source
    has a unit for each chunk.

    Args:
        topology: groups and hosts.
        model: (n,) float32, the start of the first block, the same bits on all workers.
        density: share of a chunk that is sent, above 0 and below 1.
        decay: factor of the residual, above 0 and below 1.
        learning_rate: outer learning rate.
        meter: counts.

    Examples:
        >>> from mpi4py import MPI
        >>> model = np.zeros(4, np.float32)
        >>> topology = Topology(MPI.COMM_SELF, 1)
        >>> sparse = SparseOuterStep(topology, model, density=0.25, decay=0.5)
        >>> model += np.array([1, 0, -4, 2], np.float32)  # a block of steps
        >>> sparse(model)
        >>> print(np.round(model, 1), np.round(sparse.state()["residual"], 1))
        [ 0.   0.  -3.4  0. ] [ 1.   0.  -0.6  2. ]
    """

    def __init__(
        self,
        topology: Topology,
        model: Vector,
        *,
        density: float,
        decay: float,
        learning_rate: float = 1.0,
        meter: Meter | None = None,
    ) -> None:
        check_target("model", model)
        n, workers = model.size, topology.group.size
        self._check, self._size = VectorCheck("model", "block", n), n
        self._density = check_share("density", density, above_zero=True)
        self._decay = np.float32(check_share("decay", decay, above_zero=True))
        self._rate = check_above_zero("learning_rate", learning_rate)
        check_replicas(topology.world, model, "start of the first block")
        self._world, self._groups = topology.world, topology.groups
        self._meter = meter or Meter()
        self._sum = IntegerSum(topology.world, n, 2, sharers=workers, meter=self._meter)
        # This worker's part of its group's change.
        self._sent = slice(*share(n, workers, topology.group.rank))
        length = self._sent.stop - self._sent.start
        chunks = [min(CHUNK, length - begin) for begin in range(0, length, CHUNK)]
        self._places = np.zeros(sum(chosen_in(chunk, density) for chunk in chunks), np.int64)
        self._deviation = Deviation(topology.world.allreduce(self._places.size))
        self._blocks = np.zeros(1, np.int64)  # done so far
        self._residual = np.zeros(length, np.float32)
        self._start = self._sum.hosts.array((n,), np.float32)
        self._start[self._sum.mine] = model[self._sum.mine]
        self._sum.hosts.barrier()

    def __call__(self, model: Vector, *, wait: bool = True) -> None:
        """Filter this worker's model (n,) in place. Collective in the world."""
        check_target("model", model, self._size)
        self._check.number = int(self._blocks[0]) + 1
        self._check.require_finite(model)
        with self._meter.time("filter"):
            unit, energy = self._quantise(model)
            mine = self._sum.mine
            change = self._sum.reduce(float(unit), (energy, 0)).astype(np.float32)
            change *= np.float32(self._rate * float(unit) / self._groups)
            self._start[mine] += change
            self._deviation.follow(int(self._sum.finish()[0]))
            model[:] = self._start
        self._blocks += 1

    def _quantise(self, model: Vector) -> tuple[np.float32, int]:
        """Move what is sent from the residual to this worker's part of a row.

        Returns:
            The unit, and the energy of the chosen numbers.
        """
        residual, row = self._residual, self._sum.row[self._sent]
        residual *= self._decay
        residual += model[self._sent]
        residual -= self._start[self._sent]
        places = self._places[: find_largest(residual, self._density, self._places)]
        chosen = residual[places]
        zeros = np.zeros_like(chosen)
        if not self._deviation.value[0]:
            self._deviation.measure(self._world, chosen, zeros)
        energy, unit = self._deviation.energy(chosen, zeros), UNIT * self._deviation.value[0]
        levels = np.where(np.abs(chosen) < np.float32(1.5) * unit, 1, 2) * np.sign(chosen)
        row[:] = 0
        row[places] = levels.astype(np.int16)
        residual[places] = chosen - unit * levels.astype(np.float32)
        return unit, energy

    def advance(self, model: Vector, learning_rate: float) -> None:
        """Nothing is late."""

    def anchor(self, model: Vector) -> Vector:
        """Return S(t), which is the model of every group after a block."""
        return self._start.copy()

    def state(self) -> State:
        """Number of blocks (1,), root mean square (1,); start and residual, a part of each."""
        part = slice(*share(self._size, self._world.size, self._world.rank))
        return {
            "blocks": self._blocks,
            "deviation": self._deviation.value,
            "start": self._start[part],
            "residual": self._residual,
        }

    def restore(self, state: State) -> None:
        """Continue from a `state`. Collective in the world."""
        self._blocks[:], self._deviation.value[:] = state["blocks"], state["deviation"]
        self._residual[:] = state["residual"]
        workers, whole = self._world.size, np.empty(self._size, np.float32)
        ends = [share(self._size, workers, worker) for worker in range(workers)]
        part = np.ascontiguousarray(state["start"])
        self._world.Allgatherv(part, [whole, [end - first for first, end in ends]])
        self._start[self._sum.mine] = whole[self._sum.mine]
        self._sum.hosts.barrier()
