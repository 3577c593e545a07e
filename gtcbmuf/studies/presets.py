"""What a study consists of: a corpus, cells, and the settings that are tried for each.

A preset is a TOML file, one that ships with the package (gtcbmuf/presets/NAME.toml) or one's own
(docs/studies.md). From it come the runs that a study wants:

    tuning        every cell with each of its settings, with seed 0; the valid set decides
    choices       what the paper leaves open: one cell with one thing or another
    error-table   every cell with those that were chosen, once for each seed
"""

import hashlib
import re
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import tomli_w
from msgspec import Meta, Struct

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.toml import explain
from gtcbmuf.config.loading import load_config, recipe_names
from gtcbmuf.config.schema import Config, fingerprint, resolve_group_size
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.studies.results import Result

S = TypeVar("S", bound=Struct)
#: Characters of the longest preset that is read.
_LONGEST = 1_000_000


class Synthesis(Struct, frozen=True, forbid_unknown_fields=True):
    """A corpus that is synthesised, as `gtcbmuf corpus synth` does it."""

    preset: Literal["tiny", "small", "medium", "large"]
    hours: Annotated[float, Meta(gt=0, le=1e5)]
    seed: Annotated[int, Meta(ge=0, lt=2**62)] = 0

    def words(self, out: Path) -> list[str]:
        """What `gtcbmuf corpus` is to be given."""
        hours = repr(self.hours).removesuffix(".0")
        chosen = ("--preset", self.preset, "--hours", hours, "--seed", str(self.seed))
        return ["synth", *chosen, "--out", str(out)]


class Cell(Struct, frozen=True, forbid_unknown_fields=True):
    """A method at a number of workers.

    Attributes:
        method: a recipe.
        workers: N.
        tried: lists of `section.key=value`, over what all cells have in common.
        chosen: the number of the one that was best on the valid set; none before they were tried.
        seeds: how many the study takes.
    """

    method: str
    workers: Annotated[int, Meta(ge=1, le=100_000)]
    tried: Annotated[list[list[str]], Meta(min_length=1)]
    chosen: Annotated[int, Meta(ge=0)] | None = None
    seeds: Annotated[int, Meta(ge=1, le=1000)] = 1

    @property
    def name(self) -> str:
        """For people: method and workers."""
        return f"{self.method} {self.workers}"


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    """A preset as it is written, but for its cells."""

    corpus: str | dict[str, Any]
    common: list[str] = []
    tuning: list[str] = []


@dataclass(frozen=True)
class RunSpec:
    """One run that a study wants; one that is to be published also looks at the test set.

    Attributes:
        corpus: which one; nothing if all runs of that name are on the same.
    """

    method: str
    workers: int
    seed: int
    assignments: tuple[str, ...]
    tests: bool = False
    corpus: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """Of its configuration, and of its corpus."""
        configured = fingerprint(self.config)
        if not self.corpus:
            return configured
        return hashlib.sha256(f"{configured} {self.corpus}".encode()).hexdigest()[:16]

    @cached_property
    def config(self) -> Config:
        """The recipe with the assignments."""
        return load_config(self.method, self.assignments)

    @property
    def name(self) -> str:
        """Of its run directory."""
        return f"{self.method}-{self.workers}-{self.fingerprint[:6]}-seed{self.seed}"

    def made(self, result: Result) -> bool:
        """Whether a result is of this cell, whatever its seed."""
        return (result.method, result.workers, result.config) == (
            self.method,
            self.workers,
            self.fingerprint,
        )

    def words(self, corpus: Path, out: Path) -> list[str]:
        """What `gtcbmuf` is to be given."""
        settings = [
            f"corpus.path={_as_value(corpus)}",
            f"train.seed={self.seed}",
            *self.assignments,
        ]
        pairs = [word for setting in settings for word in ("--set", setting)]
        return [
            "train",
            self.method,
            *pairs,
            "--out",
            str(out),
            *([] if self.tests else ["--no-test"]),
        ]


@dataclass(frozen=True)
class Preset:
    """All studies of one size.

    Attributes:
        name: of its folders.
        corpus: of all runs.
        source: what the corpus is made from, if it is not there.
        digest: of a corpus that was given, and not made from a source.
        common: assignments of all runs.
        tuning: those of the tuning beyond that, such as fewer epochs.
        cells: of the error table.
        choices: cells whose settings are compared with the first of them.
    """

    name: str
    corpus: Path
    source: Synthesis | None
    digest: str
    common: list[str]
    tuning: list[str]
    cells: list[Cell]
    choices: list[Cell]

    def job(
        self, cell: Cell, settings: Sequence[str], seed: int = 0, *, tests: bool = False
    ) -> RunSpec:
        """A run of a cell, with settings over what all have in common."""
        assignments = (*self.common, *settings)
        return RunSpec(cell.method, cell.workers, seed, assignments, tests, self._which_corpus)

    @cached_property
    def _which_corpus(self) -> str:
        """On another corpus, runs are others. What ships with the package has only one."""
        if self.source is None or self.name in preset_names():
            return self.digest
        return shlex.join(self.source.words(Path()))


def _as_value(path: Path) -> str:
    """A path as `--set` takes it: as it is, or in quotes where it would be read as other TOML."""
    bare, quoted = f"value = {path}", tomli_w.dumps({"value": str(path)})
    try:
        tomllib.loads(bare)
    except ValueError:
        if str(path) == str(path).strip():
            return str(path)
    return quoted.partition("= ")[2].rstrip("\n")


def preset_names() -> list[str]:
    """The presets that ship with the package."""
    files = resources.files("gtcbmuf.studies").joinpath("presets").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def read_preset(which: str) -> Preset:
    """Read a preset, and make sure that what it asks for can be run.

    Args:
        which: the name of one that ships with the package, or the path of a TOML file.

    Raises:
        UserError: there is none, or something in it is at fault; the corpus, if the file names
            one, cannot be read.
    """
    name = Path(which).stem
    tree = _tree(which)
    cells, choices = (_cells(which, key, tree.pop(key, [])) for key in ("cells", "choices"))
    text = _converted(tree, _File, which)
    if isinstance(text.corpus, str):
        path, source = Path(text.corpus), None
        digest = open_corpus(path).digest
    else:
        path = Path("corpus") / f"{name}.h5"
        source, digest = _converted(text.corpus, Synthesis, f"{which}: corpus"), ""
    made = Preset(name, path, source, digest, text.common, text.tuning, cells, choices)
    if "sgd 1" not in (cell.name for cell in cells):
        raise UserError(f'{which}: has no cell of method = "sgd", workers = 1: errors are over its')
    for cell in (*cells, *choices):
        tried = [made.job(cell, settings) for settings in cell.tried]
        for job in (*tried, *tuning_runs_of(made, cell)):
            _check(f"{which}: {cell.name}", job)
        if len({job.fingerprint for job in tried}) < len(tried):
            raise UserError(f"{which}: {cell.name}: two of its settings are the same")
    return made


def _check(where: str, job: RunSpec) -> None:
    """Make sure that a run can be started, and is of the method that it is shown as.

    Raises:
        UserError: its settings are at fault.
    """
    for setting in job.assignments:
        key = setting.partition("=")[0].strip()
        if key in ("corpus.path", "train.seed"):
            raise UserError(f"{where}: {setting}: it is the study that gives {key}")
    try:
        chosen, recipe = job.config, load_config(job.method)
        resolve_group_size(chosen, job.workers)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    for key in ("exchange", "block_filter"):
        is_, was = (getattr(one, key).kind for one in (chosen, recipe))
        if is_ != was:
            raise UserError(f"{where}: {key}.kind = {is_}: {job.method} has {was}")


def _tree(which: str) -> dict[str, Any]:
    if which in preset_names():
        text = resources.files("gtcbmuf.studies").joinpath("presets", f"{which}.toml").read_text()
        return tomllib.loads(text)
    if not which.endswith(".toml"):
        expected = f"{', '.join(preset_names())}, or a TOML file"
        raise UserError(f"--preset {which}: expected {expected}")
    name = Path(which).stem
    if name in preset_names() or not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise UserError(
            f"--preset {which}: results have the name of the file: expected letters, digits, '.', "
            f"'-' and '_', and not {' or '.join(preset_names())}, which are ours"
        )
    try:
        with open(which, encoding="utf-8") as file:
            text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise ValueError(f"more than {_LONGEST} characters")
        return tomllib.loads(text)
    except OSError as error:
        raise UserError(f"--preset {which}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"--preset {which}: not a TOML file: {error}") from None


def _cells(which: str, key: str, tables: Any) -> list[Cell]:
    if not isinstance(tables, list):
        raise UserError(f"{which}: {key} = {tables!r}: expected tables, each under [[{key}]]")
    cells: list[Cell] = []
    for number, table in enumerate(tables, 1):
        where = f"{which}: {key}, number {number}"
        cell = _converted(table, Cell, where)
        if cell.method not in recipe_names():
            expected = ", ".join(recipe_names())
            raise UserError(f"{where}: method = {cell.method!r}: expected {expected}")
        if key == "cells" and cell.name in (other.name for other in cells):
            raise UserError(f"{where}: there is a cell of {cell.name} already")
        if cell.chosen is not None and cell.chosen >= len(cell.tried):
            raise UserError(
                f"{where}: chosen = {cell.chosen}: expected 0 to {len(cell.tried) - 1}, the number "
                "of one that was tried"
            )
        cells.append(cell)
    return cells


def _converted(tree: Any, kind: type[S], where: str) -> S:
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        fault = explain(error, tree if isinstance(tree, dict) else {})[1]
        known = f"the keys are {', '.join(kind.__struct_fields__)}"
        fault = re.sub("Object contains unknown field (`.*`)", rf"unknown key \1; {known}", fault)
        fault = re.sub("Object missing required field", "there is no", fault)
        raise UserError(f"{where}: {fault}") from None


def tuning_runs(chosen: Preset) -> list[RunSpec]:
    """Each cell with each of its settings."""
    return [job for cell in chosen.cells for job in tuning_runs_of(chosen, cell)]


def tuning_runs_of(chosen: Preset, cell: Cell) -> list[RunSpec]:
    """A cell with each of its settings."""
    return [chosen.job(cell, [*chosen.tuning, *settings]) for settings in cell.tried]


def choices_runs(chosen: Preset) -> list[RunSpec]:
    """Each choice with each of its settings, once for each seed."""
    return [
        chosen.job(cell, settings, seed)
        for cell in chosen.choices
        for seed in range(cell.seeds)
        for settings in cell.tried
    ]


def error_table_runs(chosen: Preset, seeds: Sequence[int] | None = None) -> list[RunSpec]:
    """Each tuned cell with its best settings: all cells with seed 1, then the other seeds.

    Not with seed 0, which they were chosen with: a lucky run would be chosen, and published too.

    Args:
        chosen: the preset.
        seeds: instead of those that the preset asks for.
    """
    jobs = [
        chosen.job(cell, cell.tried[cell.chosen], seed, tests=True)
        for cell in chosen.cells
        if cell.chosen is not None
        for seed in (range(1, cell.seeds + 1) if seeds is None else seeds)
    ]
    return sorted(jobs, key=lambda job: job.seed > 1)
