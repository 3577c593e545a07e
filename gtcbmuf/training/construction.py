"""Builds workers and their two tiers from a configuration."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mpi4py import MPI
from msgspec.structs import replace

from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.shapes import Shapes
from gtcbmuf.config.loading import load_config
from gtcbmuf.config.schema import (
    Config,
    TopologyConfig,
    TrainConfig,
    method_name,
    resolve_group_size,
)
from gtcbmuf.core.algorithm import BlockFilter, Descent, Exchange, Worker
from gtcbmuf.core.followers import FollowingDescent, FollowingFilter
from gtcbmuf.core.meter import Meter
from gtcbmuf.core.optimisers import AdamW, Nesterov
from gtcbmuf.core.overlap import Overlapped, cut
from gtcbmuf.core.verified import Verified
from gtcbmuf.mpi.carried import host_of_worker, is_carried, is_first_in_process, per_process
from gtcbmuf.mpi.collectives import PatientComm
from gtcbmuf.mpi.hosts import by_host, host_of_rank
from gtcbmuf.mpi.job import CollectiveError, on_root
from gtcbmuf.mpi.topology import Topology, compile_in_turn
from gtcbmuf.training.streams import ROUNDING, stream

#: What builds an optimiser for n parameters, by `train.optimizer`.
_OPTIMISERS: Mapping[str, Callable[[int, TrainConfig], Descent]] = {
    "sgd": lambda n, train: Descent(n, train.momentum),
    "nesterov": lambda n, train: Nesterov(n, train.momentum),
    "adamw": lambda n, train: AdamW(
        n,
        beta1=train.beta1,
        beta2=train.beta2,
        epsilon=train.epsilon,
        weight_decay=train.weight_decay,
    ),
}


@dataclass(frozen=True)
class RunPlan:
    """The plan of a run.

    Attributes:
        ranks: communicator of the ranks, in the order in which their workers form groups.
        workers: number of workers, N: a multiple of the number of ranks.
        method: name of the method.
        config: configuration in which numbers replace all words that stand for numbers.
        group_size: M, the number of workers in a group.
    """

    ranks: MPI.Comm
    workers: int
    method: str
    config: Config
    group_size: int


def plan_run(
    ranks: MPI.Comm, source: str, assignments: list[str], workers: int | None = None
) -> RunPlan:
    """Read the configuration on rank 0 and fit it to the job's workers. Collective.

    Args:
        ranks: communicator of all ranks.
        source, assignments: configuration, and settings that override it.
        workers: number of workers; by default, every rank is one.

    Raises:
        CollectiveError: the configuration or the number of workers is invalid. Raised on all ranks
            alike.
    """
    hosts = host_of_rank(ranks) if workers is None else host_of_worker(ranks, workers)

    def resolve() -> tuple[bool, str, Config, int]:
        config = load_config(source, assignments)
        size = resolve_group_size(config, len(hosts), list(Counter(hosts).values()))
        resolved = replace(
            config,
            topology=TopologyConfig(group_size=size),
            block_filter=config.block_filter.resolve(len(hosts) // size),
        )
        return config.topology.group_size == "node", method_name(config), resolved, size

    node_is_group, method, config, group_size = on_root(ranks, resolve)
    if node_is_group and len(hosts) == ranks.size:
        ranks = by_host(ranks, hosts)
    return RunPlan(ranks, len(hosts), method, config, group_size)


def build_exchange(
    config: Config, topology: Topology, shapes: Shapes, meter: Meter | None = None
) -> Exchange:
    """Build the exchange of a configuration. Collective in the group.

    Args:
        config: configuration of the run.
        topology: groups of the workers.
        shapes: shapes of the model's arrays, in the order of the flat vector.
        meter: meter that counts the exchange's work.

    Raises:
        CollectiveError: overlap needs another MPI library.
    """
    spec = config.exchange
    if is_carried(topology.group):  # whose sums are in rank order, and not in threads
        spec = spec.with_keys(overlap=False)
    if not spec.overlaps:
        rounding = stream(config.train.seed, ROUNDING, topology.world.rank)
        return spec.build(topology.group, shapes, meter, int(rounding.integers(2**63)))
    _require_threads("exchange.overlap = true", "false", MPI.THREAD_SERIALIZED)
    group = PatientComm(topology.group)
    return Overlapped(
        cut(shapes), lambda part, part_meter: spec.build(group, part.shapes, part_meter), meter
    )


def _require_threads(setting: str, other: str, level: int) -> None:
    if MPI.Query_thread() < level:
        names = {MPI.THREAD_SERIALIZED: "SERIALIZED", MPI.THREAD_MULTIPLE: "MULTIPLE"}
        raise CollectiveError(
            f"{setting}: the MPI library does not allow calls from a second thread; expected "
            f"{other}, or a library with MPI_THREAD_{names[level]}"
        )


def build_block_filter(
    config: Config, topology: Topology, model: Vector, meter: Meter | None = None
) -> BlockFilter:
    """Build the block filter of a configuration. Collective in the world.

    Raises:
        CollectiveError: a delay needs another MPI library.
    """
    delay = config.block_filter.late_steps
    if delay and not is_carried(topology.world):
        _require_threads(f"block_filter.delay = {delay}", "0", MPI.THREAD_MULTIPLE)
    block_filter: BlockFilter = config.block_filter.build(topology, model, meter)
    if not is_first_in_process(topology.group):
        block_filter = FollowingFilter(block_filter, model.size)
    return Verified(block_filter, topology) if config.train.verify else block_filter


def build_worker(
    config: Config,
    topology: Topology,
    model: Vector,
    shapes: Shapes,
    meter: Meter | None = None,
) -> Worker:
    """Build a worker with both tiers around a model. Collective in the world.

    It also compiles their kernels. Workers of a group that share a process share the model. The
    other arguments are those of `build_exchange`.
    """
    meter = meter or Meter()
    exchange = build_exchange(config, topology, shapes, meter)
    build = _OPTIMISERS[config.train.optimizer]
    descent = per_process(topology.group, lambda _: build(model.size, config.train))
    if not is_first_in_process(topology.group):
        descent = FollowingDescent(descent)
    forgetting: list[Exchange | Descent] = []
    if config.block_filter.resets_momentum:
        forgetting.append(descent)
    if config.block_filter.clears_residuals:
        forgetting.append(exchange)
    block_filter = build_block_filter(config, topology, model, meter)
    compile_in_turn(topology.world)
    return Worker(
        model,
        exchange,
        block_filter,
        config.block_filter.period,
        descent,
        forgetting=forgetting,
        meter=meter,
    )
