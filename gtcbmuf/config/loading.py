"""Reads a configuration: a TOML file or a recipe, overridden by `--set section.key=value`."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.text import open_text
from gtcbmuf.base.toml import explain, read_shipped, shipped_names
from gtcbmuf.config.schema import KINDS, Config, CorpusConfig, TrainConfig

#: Maximum number of characters in a configuration: tomllib's time can grow with its square.
_LONGEST = 1 << 14
#: Keys of earlier versions that changed no bit of a result. They are read, and have no effect.
_RETIRED = {"block_filter": ("sharded",)}


def recipe_names() -> list[str]:
    """Return the names of the recipes: configurations in the package, one for each method."""
    return shipped_names("gtcbmuf.config", "recipes")


def load_config(source: str, assignments: Iterable[str] = ()) -> Config:
    """Read a configuration.

    Keys of another `kind` of exchange or block filter are checked but have no effect. So all
    methods accept the same settings.

    Args:
        source: name of a recipe, or path of a TOML file.
        assignments: settings that override the file. Each is `section.key=value` with a TOML value
            or a bare word.

    Raises:
        UserError: the file is missing or is not TOML, a key is unknown, or a value is out of its
            bounds.

    Examples:
        >>> load_config("gtc-bmuf", ["exchange.tau=8"]).exchange.tau
        8.0
    """
    try:
        tree = _parse(_read(source))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not a TOML file: {error}") from None
    for section, keys in _RETIRED.items():
        if isinstance(table := tree.get(section), dict):
            tree[section] = {key: value for key, value in table.items() if key not in keys}
    _check_keys(tree, source)
    for assignment in assignments:
        _assign(tree, assignment)
    config: Config = _convert(_drop_keys_of_other_kinds(source, tree), Config, source)
    every = config.train.checkpoint_every
    if not re.fullmatch(r"never|[1-9]\d{0,8} (steps|minutes)", every):
        raise UserError(
            f"{source}: train.checkpoint_every = {every!r}: expected 'never', or a number of steps "
            "or minutes such as '500 steps'"
        )
    _check_optimizer(config.train, source)
    bits = getattr(config.exchange, "bits", 32)
    if config.exchange.overlaps and bits != 32:
        raise UserError(f"{source}: exchange.bits = {bits}: expected 32 with exchange.overlap")
    delay = config.block_filter.late_steps
    if delay and not getattr(config.block_filter, "nesterov", True):
        raise UserError(
            f"{source}: block_filter.nesterov = false: expected true with block_filter.delay; "
            "classical block momentum would diverge"
        )
    if delay and delay >= config.block_filter.period:
        raise UserError(
            f"{source}: block_filter.delay = {delay}: expected less than block_filter.period = "
            f"{config.block_filter.period}"
        )
    corpus = CorpusConfig(os.path.expanduser(config.corpus.path))
    return replace(config, corpus=corpus)


def _check_optimizer(train: TrainConfig, source: str) -> None:
    """Refuse settings that have no effect with the optimiser, or that it cannot use."""
    if train.optimizer == "nesterov" and not train.momentum:
        raise UserError(
            f'{source}: train.momentum = 0: expected above 0 with train.optimizer = "nesterov"'
        )
    if train.optimizer == "adamw" and train.momentum:
        raise UserError(
            f"{source}: train.momentum = {train.momentum}: expected 0 with train.optimizer = "
            '"adamw", whose momentum is train.beta1'
        )
    if train.optimizer != "adamw" and train.weight_decay:
        raise UserError(
            f"{source}: train.weight_decay = {train.weight_decay}: expected 0 with "
            f'train.optimizer = "{train.optimizer}"; only "adamw" decays weights'
        )


def _read(source: str) -> str:
    if source in recipe_names():
        return read_shipped("gtcbmuf.config", "recipes", source)
    try:
        with open_text(Path(source)) as file:
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


def _convert(tree: Mapping[str, Any], kind: type[Any], source: str) -> Any:
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        key, fault = explain(error, tree)
        raise UserError(f"{source}: {fault}{_choices(key, tree) if key else ''}") from None


def _drop_keys_of_other_kinds(source: str, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keys of other kinds, and return the tables without these keys."""
    tables = dict(tree)
    for section, specs in KINDS.items():
        if not isinstance(table := tree.get(section, {}), dict):
            continue
        table = {"kind": "none", **table}
        if not isinstance(table["kind"], str) or table["kind"] not in specs:
            tables[section] = table  # `Config` refuses it
            continue
        keys = _keys(specs[table["kind"]])
        for key, value in table.items():
            if key not in keys:
                kind, owner = next((k, spec) for k, spec in specs.items() if key in _keys(spec))
                struct = msgspec.defstruct(
                    "Section", [(section, owner)], forbid_unknown_fields=True
                )
                _convert({section: {"kind": kind, key: value}}, struct, source)
        tables[section] = {key: value for key, value in table.items() if key in keys}
    return tables


def _keys(struct: type[Struct]) -> dict[str, Any]:
    """Return the keys of a table and their types."""
    kind = {"kind": str} if struct.__struct_config__.tag_field else {}
    return kind | {field.name: field.type for field in msgspec.structs.fields(struct)}


def valid_keys() -> dict[str, Any]:
    """Return every `section.key` of a configuration, with its type."""
    keys: dict[str, Any] = {}
    for field in msgspec.structs.fields(Config):
        for struct in KINDS.get(field.name, {"": field.type}).values():
            for key, kind in _keys(struct).items():
                keys.setdefault(f"{field.name}.{key}", kind)
    return keys


def _check_keys(tree: Mapping[str, Any], origin: str) -> None:
    """Refuse the first unknown key. The message names its path and the nearest valid key."""
    sections, valid = Config.__struct_fields__, list(valid_keys())
    for name, section in tree.items():
        keys = section if isinstance(section, dict) else {}
        for path in [f"{name}.{key}" for key in keys] or [name]:
            if path not in valid and path not in sections:
                raise UserError(f"{origin}: unknown key {path}; {_nearest(path, valid)}")


def _nearest(path: str, valid: list[str]) -> str:
    name = path.rpartition(".")[2]
    same_name = [key for key in valid if key.partition(".")[2] == name]
    if same_name:
        close = difflib.get_close_matches(path, same_name, n=1, cutoff=0.0)
    else:
        # A common section alone makes two keys alike: their names must be, too.
        close = [
            key
            for key in difflib.get_close_matches(path, valid, n=3, cutoff=0.7)
            if difflib.SequenceMatcher(None, name, key.rpartition(".")[2]).ratio() > 0.5
        ]
    return f"did you mean {close[0]}?" if close else f"the valid keys are {', '.join(valid)}"


def _assign(tree: dict[str, Any], assignment: str) -> None:
    path, equals, value = assignment.partition("=")
    section, dot, key = path.strip().partition(".")
    if not equals or not dot:
        raise UserError(f"--set {assignment}: expected section.key=value")
    if assignment != assignment.encode(errors="replace").decode():  # not text
        raise UserError(f"--set {assignment!r}: expected UTF-8")
    _check_keys({section: {key: None}}, "--set")
    try:
        [parsed] = _parse(f"value = {value}").values()
    except (ValueError, RecursionError):
        parsed = value.strip()  # a bare word: --set exchange.kind=gtc
    table = tree.setdefault(section, {})
    if isinstance(table, dict):
        table[key] = parsed


def _choices(path: str, tree: Mapping[str, Any]) -> str:
    section, _, key = path.partition(".")
    if key == "kind":
        return f"; valid words: {', '.join(KINDS[section])}"
    # Kinds may have a key of the same name and of another type.
    spec = KINDS[section][tree[section]["kind"]] if key and section in KINDS else None
    kind = _keys(spec).get(key) if spec else valid_keys().get(path)
    literals = [kind, *get_args(kind)]
    choices = [choice for literal in literals for choice in get_args(literal)]
    for kind, name in ((str, "words"), (int, "numbers")):
        if valid := [str(choice) for choice in choices if isinstance(choice, kind)]:
            return f"; valid {name}: {', '.join(valid)}"
    return ""
