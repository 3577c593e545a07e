"""`gtcbmuf bench`"""

import importlib
from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import (
    Commands,
    add_command,
    check_one_process,
    check_rounds,
    compile_kernels,
    job,
)

#: Parts that run in one process, and parts that run on all ranks.
_SINGLE, _PARALLEL = ("kernels", "wire", "step"), ("collectives", "methods")


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "bench",
        "measure how near each part of a step is to its limit",
        "gtcbmuf bench kernels",
        "mpirun -n 4 gtcbmuf bench collectives --json collectives.json",
    )
    parser.add_argument(
        "part",
        metavar="PART",
        choices=(*_SINGLE, *_PARALLEL),
        help=f"{', '.join(_SINGLE)} (one process); {', '.join(_PARALLEL)} (under mpirun or srun)",
    )
    parser.add_argument(
        "--rounds", type=int, default=15, metavar="N", help="rounds of measurements (default: 15)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE.json", help="write the figures and the environment"
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Measure a part, and print its figures."""
    check_rounds(arguments.rounds)
    module = f"gtcbmuf.bench.{arguments.part}"
    if arguments.part in _SINGLE:
        check_one_process(f"bench {arguments.part}")
        part = importlib.import_module(module)
        compile_kernels()
        _output(part.measure(arguments.rounds), arguments.json)
        return
    with job() as world:
        figures = importlib.import_module(module).measure(world, arguments.rounds)
        if world.rank == 0:
            _output(figures, arguments.json)


def _output(figures: Any, file: Path | None) -> None:
    from gtcbmuf.bench.figures import format_figures, write_figures

    print(format_figures(figures))
    if file:
        write_figures(file, figures)
