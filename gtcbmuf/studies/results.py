"""A finished run as a row of a CSV file."""

import csv
from pathlib import Path

import msgspec
from msgspec import Struct

from gtcbmuf.base.errors import UserError


class Result(Struct, frozen=True):
    """A finished run: a row of a results file.

    Attributes:
        fer_valid, fer_test, per_test: in per cent; not a number if it diverged, or was not tested.
        density: share of the parameters that were sent in a step; 0 without an exchange.
        steps: of each worker.
        seconds: of the run, on a machine that may have fewer cores than it had workers.
        config: its fingerprint (`gtcbmuf.config.fingerprint`).
        commit: of the checkout that ran it.
        command: to repeat it.
    """

    method: str
    workers: int
    groups: int
    seed: int
    fer_valid: float
    fer_test: float
    per_test: float
    density: float
    steps: int
    seconds: float
    config: str
    commit: str
    command: str

    @property
    def run(self) -> tuple[str, int, str, int]:
        """What tells this run from others."""
        return self.method, self.workers, self.config, self.seed


def read_results(path: Path) -> list[Result]:
    """The rows of a results file, without columns of others; none if there is no file.

    Raises:
        UserError: it is none of ours.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = set(Result.__struct_fields__) - set(reader.fieldnames or ())
            if missing:
                raise ValueError(f"no column {sorted(missing)[0]}")
            return msgspec.convert(list(reader), list[Result], strict=False)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: no results of ours: {error}") from None
