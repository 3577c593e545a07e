"""A check of replicas around a block filter."""

from gtcbmuf.base.arrays import Vector
from gtcbmuf.core.algorithm import BlockFilter
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.topology import Topology


class Verified:
    """A block filter that compares the replicas of each group, and the anchors of an epoch's end.

    Raises, when called:
        ReplicaError: on all workers, naming the ranks that differ.
    """

    def __init__(self, block_filter: BlockFilter, topology: Topology) -> None:
        self._block_filter = block_filter
        self._topology = topology
        self.anchor = block_filter.anchor
        self.advance = block_filter.advance
        self.state = block_filter.state
        self.restore = block_filter.restore

    def __call__(self, model: Vector, *, wait: bool = True) -> None:
        topology = self._topology
        world, group_size = topology.world, topology.group.size
        check_replicas(world, model, "end of a block", group_size)
        self._block_filter(model, wait=wait)
        check_replicas(world, model, "start of a block", group_size)
        if wait:
            check_replicas(world, self.anchor(model), "anchor")
