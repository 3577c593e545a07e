"""The configuration of a run, typed. Its tiers are the declarations of `gtcbmuf.methods`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union

import msgspec
from msgspec import Meta, Struct

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.toml import Count, Positive, Share
from gtcbmuf.methods import EXCHANGES, FILTERS
from gtcbmuf.methods.declaration import ExchangeSpec, FilterSpec, Spec
from gtcbmuf.methods.none import NoExchangeSpec, NoFilterSpec

if TYPE_CHECKING:
    AnyExchange: TypeAlias = ExchangeSpec
    AnyFilter: TypeAlias = FilterSpec
else:  # tagged by `kind`
    AnyExchange = Union[tuple(EXCHANGES.values())]  # noqa: UP007
    AnyFilter = Union[tuple(FILTERS.values())]  # noqa: UP007


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class TrainConfig(Section, frozen=True):
    """How one worker descends, and for how long."""

    epochs: Count = 5
    #: Frames per worker and step.
    minibatch: Annotated[int, Meta(ge=1, le=2**20)] = 64
    #: Per frame: a worker's gradient is the sum over its minibatch.
    learning_rate: Positive = 1.6e-3
    schedule: Literal["constant", "exponential", "newbob"] = "newbob"
    #: What the schedule multiplies the learning rate by, once an epoch.
    decay: Annotated[float, Meta(gt=0, le=1)] = 0.5
    #: Epochs, or a part of one, over which the learning rate rises from 0.
    warmup: Annotated[float, Meta(ge=0, lt=1e9)] = 0.0
    #: Of the local (heavy-ball) momentum.
    momentum: Share = 0.0
    seed: Annotated[int, Meta(ge=0, lt=2**62)] = 0
    #: Compare a hash of the replicas at every block's end.
    verify: bool = False
    #: "500 steps", "30 minutes" or "never"; a signal asks for a checkpoint at any time.
    checkpoint_every: str = "30 minutes"
    #: Minutes without a step until the job ends, and tells which rank it waited for.
    patience: Positive = 30.0
    #: Checkpoints that are kept, the newest.
    checkpoints: Count = 2


class TopologyConfig(Section, frozen=True):
    """How the workers form groups."""

    #: Workers per group (M), "all" for one group, or "node": those of a host are a group.
    group_size: Count | Literal["all", "node"] = "all"


class ModelConfig(Section, frozen=True):
    """The multi-layer perceptron."""

    #: Width of each hidden layer.
    hidden: tuple[Count, ...] = (256, 256)
    activation: Literal["relu", "sigmoid"] = "relu"
    #: Frames of context on each side of the classified one.
    context: Annotated[int, Meta(ge=0, le=100)] = 5


class CorpusConfig(Section, frozen=True):
    """What to train on."""

    path: str = "corpus/quickstart.h5"


class Config(Section, frozen=True):
    """One run, whole."""

    train: TrainConfig = TrainConfig()
    topology: TopologyConfig = TopologyConfig()
    #: Tier 1: what a group does with its gradients at every step.
    exchange: AnyExchange = NoExchangeSpec()
    #: Tier 2: what the groups do with their models at a block's end.
    block_filter: AnyFilter = NoFilterSpec()
    model: ModelConfig = ModelConfig()
    corpus: CorpusConfig = CorpusConfig()


def method_name(config: Config) -> str:
    """The method that the two tiers make: sgd, sync-sgd, gtc, averaging, bmuf, gtc-bmuf, ..."""
    return join_labels(config.exchange, config.block_filter)


def join_labels(exchange: ExchangeSpec, block_filter: FilterSpec) -> str:
    """The name of the method that an exchange and a block filter make.

    Example:
        >>> join_labels(EXCHANGES["gtc"](), FILTERS["bmuf"]())
        'gtc-bmuf'
    """
    labels = [tier.label for tier in (exchange, block_filter) if tier.label]
    return "-".join(labels) or "sgd"


def run_name(config: Config, workers: int) -> str:
    """What a run is called whose directory was given no name."""
    return f"{method_name(config)}-{workers}-seed{config.train.seed}"


def resolve_group_size(config: Config, workers: int, of_hosts: Sequence[int] = ()) -> int:
    """M for a world of `workers` ranks.

    Args:
        config: of the run.
        workers: of the run, N.
        of_hosts: how many of them each host has; by default one has all.

    Raises:
        UserError: the group size does not divide the workers, hosts that are to be groups have
            different numbers of them, or the two tiers leave some workers unconnected.
    """
    size = config.topology.group_size
    if size == "all":
        size = workers
    if size == "node":
        numbers = sorted(set(of_hosts)) or [workers]
        if len(numbers) > 1:
            raise UserError(
                f'topology.group_size = "node" wants as many workers on each node; there are '
                f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}; start them evenly (Slurm: "
                "--ntasks-per-node), or give a number"
            )
        [size] = numbers
    if workers % size:
        divisors = [str(m) for m in range(1, workers + 1) if workers % m == 0]
        raise UserError(
            f"topology.group_size = {size} does not divide the {workers} workers; "
            f"possible here: {', '.join(divisors)}"
        )
    exchange, block_filter = config.exchange, config.block_filter
    if not (exchange.connects or block_filter.connects) and workers > 1:
        raise UserError(
            f"sgd trains 1 worker, and this job has {workers}; start one, or choose what connects "
            f"them: exchange.kind = {_connecting(EXCHANGES)}, "
            f"block_filter.kind = {_connecting(FILTERS)}"
        )
    if not exchange.connects and size > 1:
        raise UserError(
            f'exchange.kind = "{exchange.kind}" needs groups of 1 worker, not of {size}; '
            f"choose {_connecting(EXCHANGES)}, or topology.group_size = 1"
        )
    if not block_filter.connects and size < workers:
        raise UserError(
            f'block_filter.kind = "{block_filter.kind}" leaves {workers // size} groups that never '
            f'meet; choose {_connecting(FILTERS)}, or one group: topology.group_size = "all"'
        )
    return size


def _connecting(specs: Mapping[str, type[Spec]]) -> str:
    """The kinds that connect workers, for a message."""
    *others, last = [f'"{kind}"' for kind, spec in specs.items() if spec.connects]
    return f"{', '.join(others)} or {last}" if others else last


def to_tables(config: Config) -> dict[str, Any]:
    """The configuration as plain tables, every default written out."""
    tree = msgspec.to_builtins(config)
    assert isinstance(tree, dict)
    return tree


def fingerprint(config: Config) -> str:
    """16 hexadecimal digits that tell this configuration from others, wherever its corpus lies.

    Keys that are added later do not change it, as long as they have their defaults.
    """
    different: dict[str, Any] = {}
    for section, keys in to_tables(config).items():
        defaults = msgspec.to_builtins(type(getattr(config, section))())
        if "kind" in keys:
            defaults["kind"] = "none"
        different |= {
            f"{section}.{key}": value
            for key, value in keys.items()
            if value != defaults[key] and (section, key) != ("corpus", "path")
        }
    text = json.dumps(different, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
