"""The outcome of a run: a file in its directory, for the study or script that started the run."""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import msgspec

from gtcbmuf.base.files import write_json

_NAME = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        state: "finished", "diverged" or "interrupted". In a diverged run the loss, a gradient or
            the model was no longer finite. A signal interrupted the run after a checkpoint.
        seconds: seconds of the run, summed over all its jobs.
        reason: reason for the outcome in one line; empty if the run finished.
    """

    state: Literal["finished", "diverged", "interrupted"]
    seconds: float
    reason: str = ""


def write_outcome(run: Path, outcome: Outcome) -> None:
    """Write outcome.json. Do nothing if the run directory cannot be written to."""
    with suppress(OSError):
        write_json(run / _NAME, asdict(outcome))


def read_outcome(run: Path) -> Outcome | None:
    """Return the outcome of the run in a directory.

    Return None while the run continues, or if its job was killed.
    """
    try:
        return msgspec.json.decode((run / _NAME).read_bytes(), type=Outcome)
    except (OSError, ValueError, RecursionError):
        return None


def remove_outcome(run: Path) -> None:
    """Remove the outcome of an earlier job, because another job continues the run."""
    with suppress(OSError):
        (run / _NAME).unlink()
