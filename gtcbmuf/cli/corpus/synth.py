"""`gtcbmuf corpus synth`"""

import dataclasses
from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError
from gtcbmuf.cli.common import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "synth",
        "synthesise speech with exact frame labels",
        "gtcbmuf corpus synth --preset tiny --out corpus/tiny.h5",
        "gtcbmuf corpus synth --preset medium --hours 10 --seed 1 --out corpus/ten-hours.h5",
    )
    parser.add_argument(
        "--preset",
        default="small",
        help="tiny (0.2 hours), small (2), medium (20) or large (100) (default: small)",
    )
    parser.add_argument(
        "--hours", type=float, help="hours of speech in all splits (default: those of the preset)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the random streams (default: 0)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.h5", help="corpus file to write"
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Synthesise the corpus."""
    from gtcbmuf.data.synth.presets import PRESETS
    from gtcbmuf.data.synth.synthesis import synthesise

    if arguments.preset not in PRESETS:
        raise UserError(f"--preset {arguments.preset}: expected {', '.join(PRESETS)}")
    preset = PRESETS[arguments.preset]
    if arguments.hours is not None:
        preset = dataclasses.replace(preset, hours=arguments.hours)
    synthesise(preset, arguments.out, seed=arguments.seed)
