"""How a run ended: a file in its directory, for the study or the script that started it."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from gtcbmuf.base.files import WRITE_ERRORS, write_json

_NAME = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: "finished"; "diverged": the loss, a gradient or the model was no longer finite;
            "interrupted": by a signal, with a checkpoint.
        seconds: of the run, over all jobs that it took.
        reason: in one line; empty if it finished.
    """

    state: Literal["finished", "diverged", "interrupted"]
    seconds: float
    reason: str = ""


def write_outcome(run: Path, outcome: Outcome) -> None:
    """Write outcome.json; a run directory that cannot be written to gets none."""
    with suppress(*WRITE_ERRORS):
        write_json(run / _NAME, asdict(outcome))


def read_outcome(run: Path) -> Outcome | None:
    """How the run in a directory ended; None while it goes on, or if its job was killed."""
    try:
        return Outcome(**json.loads((run / _NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def remove_outcome(run: Path) -> None:
    """Forget how an earlier job ended, as another one goes on."""
    with suppress(OSError):
        (run / _NAME).unlink()
