"""The configuration of a run, typed. Its tiers are the declarations of `gtcbmuf.methods`.

The comment above a key says what it does and, after an empty line, when to change it.
`scripts/write-reference` writes docs/reference/configuration.md from these comments.
"""

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

#: Declarations of the tables whose keys depend on their `kind`, by that word.
KINDS: Mapping[str, Mapping[str, type[Spec]]] = {"exchange": EXCHANGES, "block_filter": FILTERS}


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


class TrainConfig(Section, frozen=True):
    """Steps, learning rate and safety of a run."""

    #: Passes over the train split.
    #:
    #: Raise it until the valid FER stops falling. Choose `train.decay` again with it.
    epochs: Count = 5

    #: Frames per worker and step.
    #:
    #: Lower it when many workers leave few steps in an epoch. Raise it when communication takes
    #: most of a step, and raise `exchange.tau` with it. The recipes use 64 frames (256 for one
    #: worker), the presets 32.
    minibatch: Annotated[int, Meta(ge=1, le=2**20)] = 64

    #: Learning rate per frame. A gradient is the sum over a minibatch. So the rate need not change
    #: with the minibatch or the group size, until it is too large.
    #:
    #: Lower it when training diverges. Start between 1e-3 and 4e-3 with up to 32 workers. Sync SGD
    #: with more workers needs less: 0.3e-3 was best with 128. With `adamw` the rate is per step and
    #: does not follow the number of frames: tune it by itself.
    learning_rate: Positive = 1.6e-3

    #: Change of the learning rate after an epoch. `constant` keeps it. `exponential` multiplies it
    #: by `train.decay`. `newbob` does so after the first epoch that improves the valid FER by less
    #: than 1 % (relative), and after every later epoch.
    #:
    #: Use `exponential` to compare methods, because all runs then have the same rates. Use
    #: `newbob` when you do not know how many epochs your corpus needs.
    schedule: Literal["constant", "exponential", "newbob"] = "newbob"

    #: Factor that the schedule applies to the learning rate.
    #:
    #: With `exponential`, choose it so that the last epoch has about an eighth of the first rate:
    #: 0.6 for 5 epochs, 0.5 for 4, 0.1 to 0.25 for 2.
    decay: Annotated[float, Meta(gt=0, le=1)] = 0.5

    #: Epochs, or a part of one, over which the learning rate rises linearly from 0.
    #:
    #: Raise it when the loss grows or training diverges in the first epoch. The presets use 0.25
    #: to 1.
    warmup: Annotated[float, Meta(ge=0, lt=1e9)] = 0.0

    #: Local optimiser: how a worker applies its group's update. `sgd` is gradient descent, with
    #: heavy-ball momentum if `train.momentum` is above 0. `nesterov` has Nesterov momentum, as
    #: PyTorch's SGD. `adamw` is Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    #:
    #: Leave it at `sgd` for the methods of the paper. Try `adamw` for a network that is usually
    #: trained with Adam. Choose `train.learning_rate` and `block_filter.local_momentum` with it.
    optimizer: Literal["sgd", "nesterov", "adamw"] = "sgd"

    #: Momentum of the optimisers `sgd` (heavy ball) and `nesterov`. It must be above 0 for
    #: `nesterov`, and 0 for `adamw`.
    #:
    #: Leave it at 0 unless you compare optimisers: 0.5 gained nothing in our runs of the hybrid.
    #: With momentum m, multiply the learning rate by 1 - m.
    momentum: Share = 0.0

    #: Decay of the first moment of `adamw`, the mean of the updates. It has no effect with another
    #: optimiser.
    #:
    #: Leave it at 0.9 unless you repeat a run of another toolkit.
    beta1: Share = 0.9

    #: Decay of the second moment of `adamw`, the mean of the squared updates. It has no effect with
    #: another optimiser.
    #:
    #: Lower it when the loss jumps late in training: a smaller value follows a change of the
    #: gradients' size sooner.
    beta2: Share = 0.999

    #: Number that `adamw` adds to the root of the second moment, in the unit of a group's update.
    #: An update is a sum over frames. So the default is PyTorch's 1e-8 for 100 frames in a step. It
    #: has no effect with another optimiser.
    #:
    #: Multiply PyTorch's value by the frames of a group's step to repeat its run. Raise it when
    #: parameters with tiny gradients move too far.
    epsilon: Positive = 1e-6

    #: Decoupled weight decay of `adamw`: a step multiplies the model by 1 - learning rate * decay.
    #: It must be 0 for the other optimisers.
    #:
    #: Raise it when the valid FER rises while the training loss still falls. Biases decay, too.
    weight_decay: Annotated[float, Meta(ge=0, lt=1e9)] = 0.0

    #: Seed of the initial weights and of the order of the frames.
    #:
    #: Repeat a run with several seeds to learn how much results vary by chance. The same seed gives
    #: the same bits with the same number of workers and the same libraries.
    seed: Annotated[int, Meta(ge=0, lt=2**62)] = 0

    #: Compare a hash of the replicas at every block's end, and end the run if they differ.
    #:
    #: Set it on a new cluster or MPI library, and while you write an exchange or a block filter.
    verify: bool = False

    #: Interval of checkpoints: a number of steps or minutes such as `"500 steps"` or
    #: `"30 minutes"`, or `"never"`. A signal to stop writes one, too.
    #:
    #: Shorten it when hosts fail often: a killed rank loses the work since the last checkpoint.
    #: Lengthen it when a checkpoint takes long, such as with a large model on a slow file system.
    checkpoint_every: str = "30 minutes"

    #: Minutes without a step after which the job ends and names the rank that it waited for.
    #:
    #: Raise it when a step with its checkpoint, or an epoch's evaluation, takes longer. Lower it to
    #: free a stuck allocation sooner.
    patience: Positive = 30.0

    #: Number of checkpoints to keep, the newest ones.
    #:
    #: Lower it to 1 to save disk space. With 2 or more, a run resumes even if the newest checkpoint
    #: is damaged.
    checkpoints: Count = 2

    @property
    def optimizer_passes(self) -> int:
        """Passes over the model that the optimiser takes besides those of plain SGD.

        `gtcbmuf bench kernels` measures them. These lie between those of a model in a cache and
        those of a model that is in none.
        """
        if self.optimizer == "sgd":
            return 1 if self.momentum else 0
        return {"nesterov": 2, "adamw": 3}[self.optimizer]


class TopologyConfig(Section, frozen=True):
    """Groups of workers."""

    #: Workers per group, M: a divisor of the number of workers N, `"all"` for one group, or
    #: `"node"` for a group on each host. There are G = N / M groups.
    #:
    #: Use `"node"` on a cluster, so that only a block's end crosses the network. The presets use
    #: groups of 4 for 8 and 16 workers, of 8 for 32 and 64, and of 16 for 128. The methods without
    #: an exchange need 1, the methods without a block filter `"all"`.
    group_size: Count | Literal["all", "node"] = "all"


class ModelConfig(Section, frozen=True):
    """The multi-layer perceptron."""

    #: Width of each hidden layer, from the input to the output. An empty list is softmax
    #: regression.
    #:
    #: Widen or add layers for a larger corpus. All published error tables use the default. The time
    #: of a step and the bytes of dense messages grow with the number of parameters.
    hidden: tuple[Count, ...] = (256, 256)

    #: Activation function of the hidden layers.
    #:
    #: Use `sigmoid` to compare with older acoustic models, and tune the learning rate again.
    activation: Literal["relu", "sigmoid"] = "relu"

    #: Frames of context on each side of the classified frame.
    #:
    #: Raise it if your features have no deltas, lower it if they already contain context. The input
    #: layer has 2 * context + 1 frames.
    context: Annotated[int, Meta(ge=0, le=100)] = 5


class CorpusConfig(Section, frozen=True):
    """The data."""

    #: Corpus file. A relative path starts at the working directory of the job, `~` is your home.
    #:
    #: Name the file that `gtcbmuf corpus` wrote. Every host must be able to read it; `gtcbmuf train
    #: --scratch` copies it to a local disk of each host.
    path: str = "corpus/quickstart.h5"


class Config(Section, frozen=True):
    """The configuration of one run."""

    train: TrainConfig = TrainConfig()
    topology: TopologyConfig = TopologyConfig()
    #: Tier 1: what a group does with its gradients at every step.
    #:
    #: Choose `gtc` when communication inside the group is the bottleneck. `dense` is the exact
    #: baseline, and `top-k` another compression to compare with. `none` suits groups of 1 worker.
    exchange: AnyExchange = NoExchangeSpec()
    #: Tier 2: what the groups do with their models at a block's end.
    #:
    #: Choose `bmuf` to train several groups. `none` suits one group.
    block_filter: AnyFilter = NoFilterSpec()
    model: ModelConfig = ModelConfig()
    corpus: CorpusConfig = CorpusConfig()


def method_name(config: Config) -> str:
    """Name the method of a configuration: sgd, sync-sgd, gtc, averaging, bmuf, gtc-bmuf, ..."""
    return join_labels(config.exchange, config.block_filter)


def join_labels(exchange: ExchangeSpec, block_filter: FilterSpec) -> str:
    """Name the method that an exchange and a block filter form.

    Examples:
        >>> join_labels(EXCHANGES["gtc"](), FILTERS["bmuf"]())
        'gtc-bmuf'
    """
    labels = [tier.label for tier in (exchange, block_filter) if tier.label]
    return "-".join(labels) or "sgd"


def run_name(config: Config, workers: int) -> str:
    """Name the directory of a run that was given no `--out`."""
    return f"{method_name(config)}-{workers}-seed{config.train.seed}"


def resolve_group_size(config: Config, workers: int, of_hosts: Sequence[int] = ()) -> int:
    """Find the number of workers per group, M.

    Args:
        config: configuration of the run.
        workers: number of workers, N.
        of_hosts: number of workers on each host; all on one host by default.

    Raises:
        UserError: the group size does not divide the workers, hosts that should form groups have
            different numbers of workers, or the two tiers leave some workers unconnected.
    """
    size = config.topology.group_size
    if size == "all":
        size = workers
    if size == "node":
        numbers = sorted(set(of_hosts)) or [workers]
        if len(numbers) > 1:
            raise UserError(
                f'topology.group_size = "node" needs equal numbers of workers per node; there are '
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
    """List the kinds that connect workers, for a message."""
    *others, last = [f'"{kind}"' for kind, spec in specs.items() if spec.connects]
    return f"{', '.join(others)} or {last}" if others else last


def to_tables(config: Config) -> dict[str, Any]:
    """Convert a configuration to plain tables, with all defaults."""
    tree = msgspec.to_builtins(config)
    assert isinstance(tree, dict)
    return tree


#: Keys of [train] that do not change the result of a run.
WITHOUT_EFFECT = ("verify", "patience", "checkpoint_every", "checkpoints")


def fingerprint(config: Config) -> str:
    """Compute 16 hexadecimal digits that identify the result of a configuration, on any corpus.

    A key that is added to the package later does not change them while it has its default.
    """
    no_effect = {("corpus", "path"), *(("train", key) for key in WITHOUT_EFFECT)}
    different: dict[str, Any] = {}
    for section, keys in to_tables(config).items():
        defaults = msgspec.to_builtins(type(getattr(config, section))())
        if "kind" in keys:
            defaults["kind"] = "none"
        different |= {
            f"{section}.{key}": value
            for key, value in keys.items()
            if value != defaults[key] and (section, key) not in no_effect
        }
    text = json.dumps(different, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
