"""`gtcbmuf corpus synth`"""

import dataclasses
from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError
from gtcbmuf.cli.common import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("synth", help="synthesise speech with exact frame labels")
    parser.add_argument(
        "--preset", default="small", help="tiny, small (default), medium, large: 0.2 to 100 hours"
    )
    parser.add_argument("--hours", type=float, help="of speech in all, instead of the preset's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.h5")
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
