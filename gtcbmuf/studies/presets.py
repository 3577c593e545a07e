"""A preset: the corpus, the cells and the settings of a study, and the runs of each study.

`gtcbmuf.studies.preset_files` reads a preset from a TOML file. A preset defines the runs of three
studies:

    tuning        every cell with each of its settings; seed 0
    choices       every choice with each of its settings; seeds from 0 on
    error-table   every tuned cell with its best setting; seeds from 1 on
"""

import hashlib
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import tomli_w
from msgspec import Meta, Struct

from gtcbmuf.base.toml import shipped_names
from gtcbmuf.config.loading import load_config
from gtcbmuf.config.schema import Config, fingerprint
from gtcbmuf.studies.results import Result
from gtcbmuf.studies.synthesis import Synthesis


def preset_names() -> list[str]:
    """Return the names of the presets that ship with the package.

    >>> preset_names()
    ['full', 'large', 'quick', 'real', 'rivals-128', 'rivals-32']
    """
    return shipped_names("gtcbmuf.studies", "presets")


class Cell(Struct, frozen=True, forbid_unknown_fields=True):
    """A method at a number of workers: a table [[cells]] or [[choices]] of a preset's file.

    Attributes:
        method: name of a recipe.
        workers: number of workers, N.
        tried: settings to try. Each is a list of `section.key=value`.
        chosen: index in `tried` of the setting with the lowest valid FER; None before the tuning.
        seeds: number of seeds.
    """

    method: str
    workers: Annotated[int, Meta(ge=1, le=100_000)]
    tried: Annotated[list[list[str]], Meta(min_length=1)]
    chosen: Annotated[int, Meta(ge=0)] | None = None
    seeds: Annotated[int, Meta(ge=1, le=1000)] = 1

    @property
    def name(self) -> str:
        """Method and workers, for tables and messages."""
        return f"{self.method} {self.workers}"


@dataclass(frozen=True)
class RunSpec:
    """The specification of one run.

    Attributes:
        method: name of a recipe.
        workers: number of workers, N.
        seed: seed of the run.
        assignments: `section.key=value` settings that override the recipe.
        test: whether to evaluate the test set.
        corpus: identity of the corpus; empty if the preset always has the same corpus.
    """

    method: str
    workers: int
    seed: int
    assignments: tuple[str, ...]
    test: bool = False
    corpus: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the configuration and the corpus."""
        configured = fingerprint(self.config)
        if not self.corpus:
            return configured
        return hashlib.sha256(f"{configured} {self.corpus}".encode()).hexdigest()[:16]

    @cached_property
    def config(self) -> Config:
        """Configuration of the run: the recipe with the assignments."""
        return load_config(self.method, self.assignments)

    @property
    def name(self) -> str:
        """Name of the run directory."""
        return f"{self.method}-{self.workers}-{self.fingerprint[:6]}-seed{self.seed}"

    @property
    def identity(self) -> tuple[str, int, str, int]:
        """Identity of the run, as of its result: method, workers, fingerprint and seed."""
        return self.method, self.workers, self.fingerprint, self.seed

    def matches(self, result: Result) -> bool:
        """Return whether a result has this method, workers and fingerprint. Any seed matches."""
        return result.identity[:-1] == self.identity[:-1]

    def arguments(self, corpus: Path, out: Path) -> list[str]:
        """Return the arguments of `gtcbmuf` that start this run.

        Args:
            corpus: path of the corpus.
            out: the run directory.

        Examples:
            >>> run = RunSpec("sgd", 1, 3, ("train.epochs=2",))
            >>> print(*run.arguments(Path("a.h5"), Path("out"))[:6])
            train sgd --set corpus.path=a.h5 --set train.seed=3
        """
        settings = [
            f"corpus.path={_toml_value(corpus)}",
            f"train.seed={self.seed}",
            *self.assignments,
        ]
        options = [word for setting in settings for word in ("--set", setting)]
        no_test = [] if self.test else ["--no-test"]
        return ["train", self.method, *options, "--out", str(out), *no_test]


@dataclass(frozen=True)
class Preset:
    """The corpus, the cells and the settings of a study.

    Attributes:
        name: name of the preset and of its folders.
        corpus: path of the corpus.
        synthesis: parameters of a synthetic corpus; None if the preset names a corpus file.
        digest: hash of the corpus file that a user's preset names; empty for a synthetic corpus,
            and for presets of the package.
        common: settings of all runs.
        tuning: additional settings of the tuning runs, such as fewer epochs.
        cells: cells of the tuning and of the error table.
        choices: cells for comparisons of each setting with the first one.
    """

    name: str
    corpus: Path
    synthesis: Synthesis | None
    digest: str
    common: list[str]
    tuning: list[str]
    cells: list[Cell]
    choices: list[Cell]

    @property
    def is_shipped(self) -> bool:
        """Whether the package ships it: a study after the paper."""
        return self.name in preset_names()

    def run_spec(
        self, cell: Cell, settings: Sequence[str], seed: int = 0, *, test: bool = False
    ) -> RunSpec:
        """Return the run of a cell with these settings over the common ones."""
        assignments = (*self.common, *settings)
        return RunSpec(cell.method, cell.workers, seed, assignments, test, self._corpus_identity)

    @cached_property
    def _corpus_identity(self) -> str:
        """Identity of the corpus in fingerprints; empty for presets of the package."""
        if self.synthesis is None or self.is_shipped:
            return self.digest
        return shlex.join(self.synthesis.arguments(Path()))


def _toml_value(path: Path) -> str:
    """Format a path for `--set`, in quotes if TOML would read it as another value."""
    bare, quoted = f"value = {path}", tomli_w.dumps({"value": str(path)})
    try:
        tomllib.loads(bare)
    except ValueError:
        if str(path) == str(path).strip():
            return str(path)
    return quoted.partition("= ")[2].rstrip("\n")


def tuning_runs(preset: Preset) -> list[RunSpec]:
    """Return the runs of the study "tuning": each cell with each of its settings."""
    return [run for cell in preset.cells for run in tuning_runs_of(preset, cell)]


def tuning_runs_of(preset: Preset, cell: Cell) -> list[RunSpec]:
    """Return the tuning runs of a cell, one for each of its settings."""
    return [preset.run_spec(cell, [*preset.tuning, *settings]) for settings in cell.tried]


def choices_runs(preset: Preset) -> list[RunSpec]:
    """Return the runs of the study "choices": each choice with each setting and seed."""
    return [
        preset.run_spec(cell, settings, seed)
        for cell in preset.choices
        for seed in range(cell.seeds)
        for settings in cell.tried
    ]


def error_table_runs(preset: Preset, seeds: Sequence[int] | None = None) -> list[RunSpec]:
    """Return the runs of the study "error-table": each tuned cell with its best setting.

    Seed 1 of all cells comes before the other seeds. Seed 0 selected the settings, so a table with
    seed 0 would be biased towards lucky runs.

    Args:
        preset: the preset.
        seeds: seeds that replace the preset's.
    """
    runs = [
        preset.run_spec(cell, cell.tried[cell.chosen], seed, test=True)
        for cell in preset.cells
        if cell.chosen is not None
        for seed in (range(1, cell.seeds + 1) if seeds is None else seeds)
    ]
    return sorted(runs, key=lambda run: run.seed > 1)
