"""A check of replicas around a block filter."""

from gtcbmuf.base.arrays import Vector
from gtcbmuf.core.algorithm import BlockFilter
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.topology import Topology


class Verified:
    """A block filter that compares the replicas of the group before, and of all workers after.

    Raises, when called:
        ReplicaError: on all workers, naming the ranks that differ.
    """

    def __init__(self, block_filter: BlockFilter, topology: Topology) -> None:
        self._block_filter = block_filter
        self._topology = topology
        self.anchor = block_filter.anchor
        self.state = block_filter.state
        self.restore = block_filter.restore

    def __call__(self, model: Vector) -> None:
        topology = self._topology
        check_replicas(topology.world, model, "end of a block", topology.group.size)
        self._block_filter(model)
        check_replicas(topology.world, model, "start of a block")
