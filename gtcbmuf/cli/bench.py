"""`gtcbmuf bench`"""

import importlib
from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, check_rounds, job

#: Parts that run in one process, and parts that run on all ranks.
_SINGLE, _PARALLEL = ("kernels", "wire", "step"), ("collectives", "methods", "scale")


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("bench", help="how near each part of a step is to its limit")
    parser.add_argument("part", choices=(*_SINGLE, *_PARALLEL))
    parser.add_argument("--rounds", type=int, default=15, help="of measuring, in turns (15)")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="the figures, and where")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="to put the table into")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Measure a part, and print its figures."""
    check_rounds(arguments.rounds)
    module = f"gtcbmuf.bench.{arguments.part}"
    if arguments.part in _SINGLE:
        _output(importlib.import_module(module).measure(arguments.rounds), arguments)
        return
    with job() as world:
        figures = importlib.import_module(module).measure(world, arguments.rounds)
        if world.rank == 0:
            _output(figures, arguments)


def _output(figures: Any, arguments: Any) -> None:
    from gtcbmuf.bench.figures import format_figures, insert_table, write_figures

    print(format_figures(figures))
    if arguments.json:
        write_figures(arguments.json, figures)
    if arguments.page:
        insert_table(arguments.page, arguments.part, figures)
