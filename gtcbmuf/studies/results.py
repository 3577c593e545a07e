"""Results of runs: the rows of a CSV file."""

import csv
from pathlib import Path

import msgspec
from msgspec import Struct

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.text import open_text


class Result(Struct, frozen=True):
    """The result of a finished or diverged run: a row of a results file.

    Attributes:
        method: name of the recipe.
        workers: number of workers, N.
        groups: number of groups, G.
        seed: seed of the run.
        fer_valid: FER on the valid set, in per cent; NaN if the run diverged.
        fer_test, per_test: error rates on the test set, in per cent; NaN if the run diverged or had
            no test.
        density: share of the parameters whose update is sent in a step; 0 without an exchange.
        steps: steps of each worker.
        seconds: duration of the run. Its workers may have shared cores.
        config: fingerprint of configuration and corpus (`RunSpec.fingerprint`).
        commit: commit of the checkout.
        command: command that repeats the run.
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
    def identity(self) -> tuple[str, int, str, int]:
        """Identity of the run: method, workers, fingerprint and seed."""
        return self.method, self.workers, self.config, self.seed


def read_results(path: Path) -> list[Result]:
    """Read a results file. Additional columns are ignored; a missing file has no rows.

    Raises:
        UserError: the file is not a results file.
    """
    try:
        with open_text(path, newline="") as file:
            reader = csv.DictReader(file)
            missing = set(Result.__struct_fields__) - set(reader.fieldnames or ())
            if missing:
                raise ValueError(f"missing column {sorted(missing)[0]}")
            return msgspec.convert(list(reader), list[Result], strict=False)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a results file: {error}") from None
