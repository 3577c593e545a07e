"""Top-k: the largest values are sent, and the residual keeps the rest."""

import numpy as np

from gtcbmuf.methods.top_k import TopKExchange
from gtcbmuf.mpi.topology import Topology


def test_the_k_largest_values_are_sent_and_none_is_lost(topology: Topology) -> None:
    exchange, before = TopKExchange(topology.group, 100, 0.1), np.zeros(100, np.float32)
    for step in range(5):
        eighths = np.random.default_rng([step, topology.group.rank]).integers(-99, 99, 100) / 8
        gradient, update = eighths.astype(np.float32), np.zeros(100, np.float32)
        exchange(gradient).add_to(update, 1.0)
        residual = exchange.state()["residual"].copy()
        sent = before + gradient - residual
        assert np.count_nonzero(sent) == 10
        assert np.abs(sent[sent != 0]).min() >= np.abs(residual).max()
        np.testing.assert_array_equal(update, topology.group.allreduce(sent))
        before = residual
