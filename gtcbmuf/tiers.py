"""Workers and their two tiers, as a configuration asks for them."""

from collections import Counter
from collections.abc import Callable

import msgspec
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf import config
from gtcbmuf.algorithm import (
    BMUF,
    BlockFilter,
    DenseExchange,
    Descent,
    Exchange,
    GTCExchange,
    NoExchange,
    NoFilter,
    Update,
    Verified,
    Worker,
)
from gtcbmuf.collectives import PatientComm
from gtcbmuf.config import Config
from gtcbmuf.meter import Meter
from gtcbmuf.overlap import Overlapped, cut
from gtcbmuf.topology import CollectiveError, Topology, by_host, host_of_rank, on_root


def formed(
    world: MPI.Comm, source: str, assignments: list[str]
) -> tuple[MPI.Comm, str, Config, int]:
    """The workers in the order in which they form groups, method, configuration, M; collective.

    In the configuration all words that stand for numbers are numbers.

    Raises:
        CollectiveError: on all ranks alike: the configuration is at fault.
    """
    hosts = host_of_rank(world)

    def resolved() -> tuple[bool, str, Config, int]:
        chosen = config.load(source, assignments)
        return (chosen.topology.group_size == "node", *_resolved(chosen, hosts))

    node_is_group, method, chosen, group_size = on_root(world, resolved)
    return by_host(world, hosts) if node_is_group else world, method, chosen, group_size


def _resolved(chosen: Config, hosts: list[str]) -> tuple[str, Config, int]:
    workers = len(hosts)
    group_size = config.group_size(chosen, workers, list(Counter(hosts).values()))
    groups = workers // group_size
    momentum = chosen.block_filter.momentum
    resolved = msgspec.structs.replace(
        chosen,
        topology=config.TopologyConfig(group_size=group_size),
        block_filter=msgspec.structs.replace(
            chosen.block_filter,
            momentum=1 - 1 / groups if momentum == "auto" and groups > 1 else momentum,
        ),
    )
    return config.method_name(chosen), resolved, group_size


def make_exchange(
    chosen: Config, topology: Topology, starts: list[int], meter: Meter | None = None
) -> Exchange:
    """The exchange that a configuration asks for; collective in the group.

    `starts` are the model's layers, as `Shape.starts`.
    """
    asked = chosen.exchange

    def make(group: MPI.Comm, parameters: int, meter: Meter | None) -> Exchange:
        match asked.kind:
            case "none":
                return NoExchange()
            case "dense":
                return DenseExchange(group, parameters, meter, ordered=asked.overlap)
            case "gtc":
                density = None if asked.density == "any" else asked.density
                return GTCExchange(group, parameters, asked.tau, meter, density=density)

    if not asked.overlap:
        return make(topology.group, starts[-1], meter)
    if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
        raise CollectiveError(
            "exchange.overlap needs an MPI library that lets another thread call it; this one "
            "was built without"
        )
    patient = PatientComm(topology.group)
    return Overlapped(cut(starts), lambda size, beside: make(patient, size, beside), meter)


def make_block_filter(
    chosen: Config, topology: Topology, model: NDArray[np.float32], meter: Meter | None = None
) -> BlockFilter:
    """The block filter that a configuration asks for; collective in the world."""
    asked = chosen.block_filter
    block_filter: BlockFilter = NoFilter()
    if asked.kind == "bmuf":
        block_filter = BMUF(
            topology,
            model,
            momentum=None if asked.momentum == "auto" else asked.momentum,
            learning_rate=asked.learning_rate,
            nesterov=asked.nesterov,
            sharded=asked.sharded,
            averaged=asked.averaged_blocks,
            meter=meter,
        )
    return Verified(block_filter, topology) if chosen.train.verify else block_filter


def make_worker(
    chosen: Config,
    topology: Topology,
    model: NDArray[np.float32],
    starts: list[int],
    meter: Meter | None = None,
) -> Worker:
    """Both tiers around a model, as a configuration asks for; collective in the world.

    `starts` are the model's layers, as `Shape.starts`.
    """
    meter = meter or Meter()
    exchange = make_exchange(chosen, topology, starts, meter)
    descent = Descent(model, chosen.train.momentum)
    flush: Callable[[], Update] | None = None
    forgetting: list[Exchange | Descent] = []
    if chosen.block_filter.kind != "none":
        if chosen.block_filter.local_momentum == "reset":
            forgetting.append(descent)
        if chosen.block_filter.residual == "clear":
            forgetting.append(exchange)
        if chosen.block_filter.residual == "flush" and chosen.exchange.kind == "gtc":
            assert isinstance(exchange, GTCExchange | Overlapped)
            flush = exchange.flush
    return Worker(
        model,
        exchange,
        make_block_filter(chosen, topology, model, meter),
        chosen.block_filter.period,
        descent,
        flush,
        forgetting,
        meter,
    )
