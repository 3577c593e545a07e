"""Reader of presets: those that ship with the package (studies/presets), and TOML files."""

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.text import open_text
from gtcbmuf.base.toml import explain, read_shipped
from gtcbmuf.config.loading import load_config, recipe_names
from gtcbmuf.config.schema import resolve_group_size
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.studies.presets import Cell, Preset, RunSpec, preset_names, tuning_runs_of
from gtcbmuf.studies.synthesis import Synthesis

S = TypeVar("S", bound=Struct)
#: Largest valid number of characters in a preset.
_LONGEST = 1_000_000


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of a preset's file, without its cells."""

    corpus: str | dict[str, Any]
    common: list[str] = []
    tuning: list[str] = []


def read_preset(source: str) -> Preset:
    """Read a preset, and check that its runs can start.

    Args:
        source: name of a preset that ships with the package, or path of a TOML file.

    Returns:
        The preset.

    Raises:
        UserError: there is no such preset, a key or a setting is invalid, or the corpus file
            cannot be read.

    Examples:
        >>> read_preset("quick").cells[0].name
        'sgd 1'
    """
    name = Path(source).stem
    tree = _read_tree(source)
    cells, choices = (_cells(source, key, tree.pop(key, [])) for key in ("cells", "choices"))
    file = _convert(tree, _File, source)
    if isinstance(file.corpus, str):
        path, synthesis = Path(file.corpus), None
        digest = "" if source in preset_names() else open_corpus(path).digest
    else:
        path = Path("corpus") / f"{name}.h5"
        synthesis, digest = _convert(file.corpus, Synthesis, f"{source}: corpus"), ""
    preset = Preset(name, path, synthesis, digest, file.common, file.tuning, cells, choices)
    if "sgd 1" not in (cell.name for cell in cells):
        raise UserError(
            f'{source}: no cell with method = "sgd", workers = 1; other errors are relative to it'
        )
    for cell in (*cells, *choices):
        runs = [preset.run_spec(cell, settings) for settings in cell.tried]
        for run in (*runs, *tuning_runs_of(preset, cell)):
            _check(f"{source}: {cell.name}", run)
        if len({run.fingerprint for run in runs}) < len(runs):
            raise UserError(f"{source}: {cell.name}: tried: two entries have the same settings")
    return preset


def _check(where: str, run: RunSpec) -> None:
    """Check that a run can start, and that its settings keep the kinds of its method.

    Raises:
        UserError: a setting is invalid.
    """
    for setting in run.assignments:
        key = setting.partition("=")[0].strip()
        if key in ("corpus.path", "train.seed"):
            raise UserError(f"{where}: {setting}: the study sets {key}; remove the setting")
    try:
        config, recipe = run.config, load_config(run.method)
        if config.topology.group_size == "node":
            raise UserError(
                'topology.group_size = "node": the groups of a study do not depend on its hosts; '
                "expected a number"
            )
        resolve_group_size(config, run.workers)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    for key in ("exchange", "block_filter"):
        kind, recipe_kind = (getattr(tables, key).kind for tables in (config, recipe))
        if kind != recipe_kind:
            raise UserError(
                f"{where}: {key}.kind = {kind}: expected {recipe_kind}, as in {run.method}"
            )


def _read_tree(source: str) -> dict[str, Any]:
    """Read the tables of a preset's file."""
    if source in preset_names():
        return tomllib.loads(read_shipped("gtcbmuf.studies", "presets", source))
    if not source.endswith(".toml"):
        expected = f"{', '.join(preset_names())}, or a TOML file"
        raise UserError(f"--preset {source}: expected {expected}")
    name = Path(source).stem
    if name in preset_names() or not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise UserError(
            f"--preset {source}: the file name names the results: expected letters, digits, '.', "
            f"'-' and '_', and not {' or '.join(preset_names())}, which ship with the package"
        )
    try:
        with open_text(Path(source)) as file:
            text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise ValueError(f"more than {_LONGEST} characters")
        return tomllib.loads(text)
    except OSError as error:
        raise UserError(f"--preset {source}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"--preset {source}: not a TOML file: {error}") from None


def _cells(source: str, key: str, tables: Any) -> list[Cell]:
    """Convert the tables [[cells]] or [[choices]].

    Raises:
        UserError: a cell is invalid, or occurs twice in [[cells]].
    """
    if not isinstance(tables, list):
        raise UserError(f"{source}: {key} = {tables!r}: expected tables, each under [[{key}]]")
    cells: list[Cell] = []
    for number, table in enumerate(tables, 1):
        where = f"{source}: [[{key}]] number {number}"
        cell = _convert(table, Cell, where)
        if cell.method not in recipe_names():
            expected = ", ".join(recipe_names())
            raise UserError(f"{where}: method = {cell.method!r}: expected {expected}")
        if key == "cells" and cell.name in (other.name for other in cells):
            raise UserError(
                f"{where}: duplicate cell {cell.name}; put all its settings into one `tried`"
            )
        if cell.chosen is not None and cell.chosen >= len(cell.tried):
            raise UserError(
                f"{where}: chosen = {cell.chosen}: expected 0 to {len(cell.tried) - 1}, the index "
                "of an entry of `tried`"
            )
        cells.append(cell)
    return cells


def _convert(tree: Any, kind: type[S], where: str) -> S:
    """Convert a table to a struct. The error names the place and the valid keys."""
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        fault = explain(error, tree if isinstance(tree, dict) else {})[1]
        known = f"the valid keys are {', '.join(kind.__struct_fields__)}"
        fault = re.sub("Object contains unknown field (`.*`)", rf"unknown key \1; {known}", fault)
        fault = re.sub("Object missing required field", "missing key", fault)
        raise UserError(f"{where}: {fault}") from None
