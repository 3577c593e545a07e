"""The configuration of a run: typed, from a TOML file or a recipe's name, and `--set key=value`."""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from gtcbmuf.errors import UserError

Count = Annotated[int, Meta(ge=1, lt=2**31)]
#: Float32 must hold it as more than 0.
Positive = Annotated[float, Meta(ge=1e-30, lt=1e9)]
Share = Annotated[float, Meta(ge=0, lt=1)]

_LONGEST = 1 << 14  # characters: the time that tomllib takes can grow with their square


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


class ExchangeConfig(Section, frozen=True):
    """Tier 1: what a group does with its gradients at every step."""

    kind: Literal["none", "dense", "gtc"] = "none"
    #: GTC's threshold, in the unit of a minibatch's summed gradient.
    tau: Positive = 1.0
    #: Share of the parameters that GTC is to send in a step: tau follows it from where it is
    #: given. "any": tau stays.
    density: Annotated[float, Meta(gt=1e-9, lt=1)] | Literal["any"] = "any"
    #: Exchange a layer's gradient while those below it are still being computed.
    overlap: bool = False


class BlockFilterConfig(Section, frozen=True):
    """Tier 2: what the groups do with their models at a block's end."""

    kind: Literal["none", "bmuf"] = "none"
    #: Steps per block (K).
    period: Count = 50
    #: Block momentum eta; "auto" is 1 - 1/G.
    momentum: Share | Literal["auto"] = "auto"
    #: Block learning rate zeta.
    learning_rate: Positive = 1.0
    #: Nesterov block momentum (NBM) instead of the classical one (CBM).
    nesterov: bool = False
    #: Each worker of a group leads for a slice of the model, instead of one for all of it.
    sharded: bool = False
    #: Blocks, from the first, that are plainly averaged.
    averaged_blocks: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    #: What becomes of the workers' residuals at a block's end.
    residual: Literal["keep", "clear", "flush"] = "keep"
    #: What becomes of the workers' local momentum at a block's end.
    local_momentum: Literal["reset", "keep"] = "reset"


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
    exchange: ExchangeConfig = ExchangeConfig()
    block_filter: BlockFilterConfig = BlockFilterConfig()
    model: ModelConfig = ModelConfig()
    corpus: CorpusConfig = CorpusConfig()


def method_name(config: Config) -> str:
    """The method that the two tiers make: sgd, sync-sgd, gtc, averaging, bmuf, gtc-bmuf, ..."""
    tier1 = {"none": "", "dense": "sync-sgd", "gtc": "gtc"}[config.exchange.kind]
    block_filter = config.block_filter
    if block_filter.kind == "none":
        return tier1 or "sgd"
    averaging = block_filter.momentum == 0 and block_filter.learning_rate == 1
    tier2 = "averaging" if averaging else "bmuf"
    return f"{tier1}-{tier2}" if tier1 else tier2


def run_name(config: Config, workers: int) -> str:
    """What a run is called whose directory was given no name."""
    return f"{method_name(config)}-{workers}-seed{config.train.seed}"


def group_size(config: Config, workers: int, of_hosts: Sequence[int] = ()) -> int:
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
    if config.exchange.kind == config.block_filter.kind == "none" and workers > 1:
        raise UserError(
            f"sgd trains 1 worker, and this job has {workers}; start one, or choose what connects "
            'them: exchange.kind = "dense" or "gtc", block_filter.kind = "bmuf"'
        )
    if config.exchange.kind == "none" and size > 1:
        raise UserError(
            f'exchange.kind = "none" needs groups of 1 worker, not of {size}; '
            'choose "dense" or "gtc", or topology.group_size = 1'
        )
    if config.block_filter.kind == "none" and size < workers:
        raise UserError(
            f'block_filter.kind = "none" leaves {workers // size} groups that never meet; '
            'choose "bmuf", or one group: topology.group_size = "all"'
        )
    return size


def recipe_names() -> list[str]:
    """The configurations that ship with the package."""
    files = resources.files("gtcbmuf").joinpath("recipes").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load(source: str, assignments: Iterable[str] = ()) -> Config:
    """Read a configuration.

    Args:
        source: the name of a recipe, or the path of a TOML file.
        assignments: `section.key=value` with a TOML value or a bare word, each of which
            overrides the file.

    Raises:
        UserError: a file that is missing or no TOML, an unknown key, a value out of its bounds.
    """
    text = _read(source)
    try:
        tree = _parse(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not a TOML file: {error}") from None
    _check_keys(tree, source)
    for assignment in assignments:
        _assign(tree, assignment)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        key, fault = explain(error, tree)
        raise UserError(f"{source}: {fault}{_choices(key) if key else ''}") from None
    every = config.train.checkpoint_every
    if not re.fullmatch(r"never|[1-9]\d{0,8} (steps|minutes)", every):
        raise UserError(
            f"{source}: train.checkpoint_every = {every!r}: expected 'never', or a number of steps "
            "or minutes such as '500 steps'"
        )
    if config.exchange.overlap and config.exchange.density != "any":
        raise UserError(
            f"{source}: exchange.density = {config.exchange.density}: expected 'any' with "
            "exchange.overlap, which exchanges each part of the model by itself"
        )
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain tables, every default written out."""
    tree = msgspec.to_builtins(config)
    assert isinstance(tree, dict)
    return tree


def fingerprint(config: Config) -> str:
    """16 hexadecimal digits that tell this configuration from others, wherever its corpus lies.

    Keys that came later do not change it, as long as they have their defaults.
    """
    chosen, defaults = to_dict(config), to_dict(Config())
    different = {
        f"{section}.{key}": value
        for section, keys in chosen.items()
        for key, value in keys.items()
        if value != defaults[section][key] and (section, key) != ("corpus", "path")
    }
    text = json.dumps(different, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(source: str) -> str:
    if source in recipe_names():
        return resources.files("gtcbmuf").joinpath("recipes", f"{source}.toml").read_text()
    try:
        with Path(source).open(encoding="utf-8") as file:
            return file.read(_LONGEST + 1)
    except FileNotFoundError:
        raise UserError(
            f"{source}: neither a file nor a recipe; the recipes are {', '.join(recipe_names())}"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: cannot be read as a configuration: {error}") from None


def _parse(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST:
        raise ValueError(f"more than {_LONGEST} characters")
    return tomllib.loads(text)


def _fields(struct: type[Struct]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(struct)}


def _check_keys(tree: Mapping[str, Any], origin: str) -> None:
    """Refuse the first unknown key with its path and the nearest valid one."""
    sections = _fields(Config)
    valid = [f"{name}.{key}" for name, section in sections.items() for key in _fields(section)]
    for name, section in tree.items():
        keys = section if isinstance(section, dict) else {}
        for path in [f"{name}.{key}" for key in keys] or [name]:
            if path not in valid and path not in sections:
                raise UserError(f"{origin}: unknown key {path}; {_nearest(path, valid)}")


def _nearest(path: str, valid: list[str]) -> str:
    same_name = [key for key in valid if key.partition(".")[2] == path.rpartition(".")[2]]
    cutoff = 0.0 if same_name else 0.7
    close = difflib.get_close_matches(path, same_name or valid, n=1, cutoff=cutoff)
    return f"did you mean {close[0]}?" if close else f"the valid keys are {', '.join(valid)}"


def _assign(tree: dict[str, Any], assignment: str) -> None:
    path, equals, value = assignment.partition("=")
    section, dot, key = path.strip().partition(".")
    if not equals or not dot:
        raise UserError(f"--set {assignment}: expected section.key=value")
    if assignment != assignment.encode(errors="replace").decode():  # bytes of no text
        raise UserError(f"--set {assignment!r}: expected UTF-8")
    _check_keys({section: {key: None}}, "--set")
    try:
        [parsed] = _parse(f"value = {value}").values()
    except (ValueError, RecursionError):
        parsed = value.strip()  # a bare word: --set exchange.kind=gtc
    table = tree.setdefault(section, {})
    if isinstance(table, dict):
        table[key] = parsed


def explain(error: msgspec.ValidationError, tree: Mapping[str, Any]) -> tuple[str, str]:
    """What is wrong in a tree of tables: the key; and a text with the key, its value and why."""
    words = str(error).replace("`object`", "a table").replace("| object`", "| table`")
    what, _, path = words.partition(" - at `$.")
    path = path.rstrip("`")
    if not path:
        return "", what
    value: Any = tree
    for key in path.partition("[")[0].split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return path, f"{path} = {_shown(value)}: {what[0].lower()}{what[1:]}"


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # 5,000 digits, 5,000 tables in one another
        return "..."


def _choices(path: str) -> str:
    section, _, key = path.partition(".")
    kind = _fields(_fields(Config)[section]).get(key)
    literals = [kind, *get_args(kind)]
    words = [word for literal in literals for word in get_args(literal) if isinstance(word, str)]
    return f"; valid words: {', '.join(words)}" if words else ""
