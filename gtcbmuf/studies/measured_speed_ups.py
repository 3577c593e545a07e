"""Speed-ups measured on this machine, or read from an earlier speed-up table."""

import csv
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.provenance import environment, short_commit
from gtcbmuf.base.text import open_text
from gtcbmuf.bench.figures import Figure, read_figures
from gtcbmuf.cluster.plan import Plan
from gtcbmuf.mpi import launcher
from gtcbmuf.studies.paper import CellKey


@dataclass(frozen=True)
class MeasuredSpeedUp:
    """A speed-up over one worker, on a machine with a core for each worker.

    Attributes:
        speed_up: ratio of the median step times, times the number of workers.
        where: processor and commit of the measurement.
    """

    speed_up: float
    where: str


def measure_or_read(file: Path, plan: Plan) -> dict[CellKey, MeasuredSpeedUp]:
    """Measure speed-ups with 1, 2, 4, ... workers, up to the number of cores of this machine.

    If an earlier table has the same model, settings and number of workers, its speed-ups are
    returned instead.

    Args:
        file: path of speedup_table.csv.
        plan: the model and the settings.

    Returns:
        Speed-ups by method and number of workers.

    Raises:
        UserError: a measurement failed, or the file is not a speed-up table.
    """
    cores, earlier = len(os.sched_getaffinity(0)), read_measured_speed_ups(file, plan)
    if 2 * max((workers for _, workers in earlier), default=1) > cores:
        return earlier
    here = environment()
    where = f"{here['processor']}, {short_commit(here)}"
    return speed_ups_of(measure_steps(cores), plan.parameters, where)


def read_measured_speed_ups(file: Path, plan: Plan) -> dict[CellKey, MeasuredSpeedUp]:
    """Read the measured speed-ups of an earlier table. A missing file has none.

    Args:
        file: path of speedup_table.csv.
        plan: the model and the settings. Rows with another model, minibatch, density or period are
            skipped.

    Returns:
        Speed-ups by method and number of workers.

    Raises:
        UserError: the file is not a speed-up table.
    """
    settings = {key: f"{getattr(plan, key):g}" for key in ("minibatch", "density", "period")}
    settings["parameters"] = str(plan.parameters)
    try:
        with open_text(file, newline="") as lines:
            return {
                (line["method"], int(line["workers"])): MeasuredSpeedUp(
                    float(line["measured"]), line["measured_on"]
                )
                for line in csv.DictReader(lines)
                if line["measured"] and all(line[key] == settings[key] for key in settings)
            }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(
            f"{file}: not a speed-up table: {error}; remove it to measure again"
        ) from None


def measure_steps(max_workers: int) -> list[Figure]:
    """Measure the steps of every method on this machine with 1, 2, 4, ... workers.

    Args:
        max_workers: largest number of workers.

    Returns:
        Figures of `gtcbmuf bench methods`.

    Raises:
        UserError: a measurement failed.
    """
    figures, workers = [], 1
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "steps.json"
        while workers <= max_workers:
            command = [*launcher.mpirun(workers), launcher.program(), "bench", "methods"]
            end = subprocess.run(
                [*command, "--json", str(out)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**launcher.settings(), **os.environ},
            )
            if end.returncode:
                raise UserError(f"{' '.join(command)}: ended with status {end.returncode}")
            figures += read_figures(out)
            workers *= 2
    return figures


def speed_ups_of(
    figures: Sequence[Figure], parameters: int, where: str
) -> dict[CellKey, MeasuredSpeedUp]:
    """Compute speed-ups over one worker from measured steps.

    Args:
        figures: figures of `gtcbmuf bench methods` with one worker and with more. Those of sums of
            16-bit integers are skipped.
        parameters: parameters of the model. Figures of other models are skipped.
        where: processor and commit of the measurement.

    Returns:
        Speed-ups by method and number of workers.
    """
    facts = [(figure.facts or {}, figure.value) for figure in figures]
    steps = {
        (fact["method"], fact["workers"]): seconds
        for fact, seconds in facts
        if fact.get("parameters") == parameters and fact.get("bits") in (None, 32)
    }
    return {
        cell: MeasuredSpeedUp(cell[1] * steps["sgd", 1] / seconds, where)
        for cell, seconds in steps.items()
        if cell[1] > 1
    }
