"""SparseLoCo (Sarfi et al. 2025): a block's largest changes in 2 bits, with error feedback."""

import numpy as np
from mpi4py import MPI

from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.partition import share
from gtcbmuf.core import kernels
from gtcbmuf.core.algorithm import State
from gtcbmuf.core.checks import (
    VectorCheck,
    check_above_zero,
    check_share,
    check_target,
)
from gtcbmuf.core.meter import Meter
from gtcbmuf.core.sums import IntegerSum
from gtcbmuf.mpi.collectives import gather_shares
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.topology import Topology

#: Parameters of a chunk.
CHUNK = 4096
#: Largest size of an integer that a group sends.
_BOUND = 3


class SparseLoCo:
    """A sparse outer step with error feedback (Sarfi et al. 2025, algorithm 1).

    With the start S of the block, and the model V and the residual e of each of G groups,

        e    = decay * e + (V - S(t-1))
        q    = -3, -1, 1 or 3 for the k entries of e of largest size in a chunk, 0 for all others
        e    = e - unit * q
        S(t) = S(t-1) + alpha * unit * (sum of q) / G
        V    = S(t)

    The residual takes the place of an outer momentum. All groups go on from S(t), which is
    evaluated and saved.

    In the source, a group has values of its own for the four levels. Here the unit is common to
    all groups, so that the sum is one of integers. It is a power of two, the nearest to the mean
    size of the k entries, so that the subtraction from e is exact. Of the groups, that with the
    largest unit decides: they take the maximum of one byte for each chunk. A group sends nothing
    for an entry below half a unit. A chunk has 4,096 consecutive parameters; in the source, it is a
    part of one matrix.

    Args:
        topology: groups and hosts.
        model: (n,) float32, the start of the first block, the same bits on all workers.
        density: share of the parameters sent, k / 4096.
        decay: factor of the residual after a block, from 0 to 1.
        learning_rate: alpha, the outer learning rate.
        meter: counts.

    Raises:
        ValueError: the model or a number is out of its range.
        ReplicaError: the workers' models differ.

    Raises, when called:
        MessageError: a message from another host cannot be read; names its sender.

    Examples:
        >>> from mpi4py import MPI
        >>> model = np.zeros(4, np.float32)
        >>> sparse = SparseLoCo(Topology(MPI.COMM_SELF, 1), model, density=0.25, decay=0.5)
        >>> model += np.array([1, -4, 2, 0], np.float32)  # a block of steps
        >>> sparse(model)
        >>> model.tolist(), sparse.state()["residual"].tolist()
        ([0.0, -4.0, 0.0, 0.0], [1.0, 0.0, 2.0, 0.0])
        >>> sparse(model)  # a block that changed nothing: half of the residual is left
        >>> model.tolist(), sparse.state()["residual"].tolist()
        ([0.0, -4.0, 1.0, 0.0], [0.5, 0.0, 0.0, 0.0])
    """

    def __init__(
        self,
        topology: Topology,
        model: Vector,
        *,
        density: float,
        decay: float = 0.95,
        learning_rate: float = 1.0,
        meter: Meter | None = None,
    ) -> None:
        check_target("model", model)
        n, workers = model.size, topology.group.size
        self._check, self._size = VectorCheck("model", "block", n), n
        self._density = check_share("density", density, above_zero=True)
        if not 0 <= decay <= 1:
            raise ValueError(f"decay = {decay!r}: expected a number from 0 to 1")
        self._decay = np.float32(decay)
        self._scale = np.float32(check_above_zero("learning_rate", learning_rate) / topology.groups)
        check_replicas(topology.world, model, "start of the first block")
        self._world, self._meter = topology.world, meter or Meter()
        self._sum = IntegerSum(topology.world, n, _BOUND, sharers=workers, meter=self._meter)
        # This worker's chunks of its group's change, which no other worker of the group has.
        self._exponents = np.zeros(-(-n // CHUNK), np.uint8)
        self._chunks = slice(*share(self._exponents.size, workers, topology.group.rank))
        first, end = (min(edge * CHUNK, n) for edge in (self._chunks.start, self._chunks.stop))
        self._sent = slice(first, end)
        self._blocks = np.zeros(1, np.int64)  # done so far
        self._residual = np.zeros(end - first, np.float32)
        # The workers of a host share it. They write to it within a sum, and read it otherwise.
        self._start = self._sum.hosts.array((n,), np.float32)
        self._start[self._sum.mine] = model[self._sum.mine]
        self._sum.hosts.barrier()

    def __call__(self, model: Vector, *, wait: bool = True) -> None:
        check_target("model", model, self._size)
        self._check.number = int(self._blocks[0]) + 1
        self._check.require_finite(model)
        with self._meter.time("filter"):
            units = self._quantise(model)
            sums, mine = self._sum.reduce(1.0, (0, 0)), self._sum.mine
            kernels.add_levels(sums, mine.start, CHUNK, units, self._scale, self._start[mine])
            self._sum.finish()
            model[:] = self._start
            self._blocks += 1

    def _quantise(self, model: Vector) -> Vector:
        """Move this worker's part of what its group sends to its row. Return all units."""
        residual, row = self._residual, self._sum.row[self._sent]
        kernels.decay(residual, self._decay)
        residual += model[self._sent] - self._start[self._sent]
        self._exponents[:] = 0
        kernels.choose_largest(residual, CHUNK, self._density, row, self._exponents[self._chunks])
        self._agree()
        units: Vector = (self._exponents.astype(np.uint32) << 23).view(np.float32)
        kernels.take_levels(residual, CHUNK, units[self._chunks], row)
        return units

    def _agree(self) -> None:
        """Take the largest exponent of all groups for each chunk. Collective in the world."""
        largest = np.empty_like(self._exponents)
        self._world.Allreduce(self._exponents, largest, MPI.MAX)
        self._exponents = largest
        self._meter.bytes_sent += largest.nbytes if self._sum.hosts.count > 1 else 0

    def advance(self, model: Vector, learning_rate: float) -> None:
        """Nothing is late."""

    def anchor(self, model: Vector) -> Vector:
        """Return S(t) of the last block, as in the source: without the groups' residuals."""
        return self._start.copy()

    def state(self) -> State:
        """Number of blocks (1,), and this worker's parts of the residual and of the start.

        They do not depend on the hosts.
        """
        part = slice(*share(self._size, self._world.size, self._world.rank))
        return {"blocks": self._blocks, "residual": self._residual, "start": self._start[part]}

    def restore(self, state: State) -> None:
        """Continue from a `state`. Collective in the world."""
        self._blocks[:], self._residual[:] = state["blocks"], state["residual"]
        whole, mine = gather_shares(self._world, state["start"], self._size), self._sum.mine
        self._start[mine] = whole[mine]
        self._sum.hosts.barrier()
