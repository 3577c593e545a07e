"""The curves of a run as an event file for TensorBoard, in RUN/tensorboard/."""

import io
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gtcbmuf.base.extras import require_extra
from gtcbmuf.base.files import writing


def require_tensorboard() -> None:
    """Check that TensorBoard is installed.

    Raises:
        UserError: TensorBoard is not installed.
    """
    require_extra("tensorboard", ["tensorboard"], "--tensorboard needs")


class EventFile:
    """The event file of a job, for one rank.

    It holds the curves of metrics.jsonl, with one step per epoch. The curve of tau has one step per
    value, and an epoch has up to 20 values. A job that resumes a run writes the earlier epochs
    again, so the folder holds every epoch once.

    Args:
        run: path of the run directory.
        metrics: metrics of the epochs before this job, as in metrics.jsonl.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, run: Path, metrics: Iterable[Mapping[str, Any]] = ()) -> None:
        folder = run / "tensorboard"
        # A new name, because TensorBoard resumes a known file at its last position.
        self.path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        with writing(folder):
            folder.mkdir(exist_ok=True)
            for earlier in folder.glob("events.out.tfevents.*"):
                earlier.unlink()
        self._size, self._unwritten = 0, _record(file_version="brain.Event:2")
        for line in metrics:
            self._unwritten += _epoch_records(line)
        self._write()

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line of metrics.jsonl. If the write fails, the next call includes the line.

        Raises:
            UserError: the file cannot be written.
        """
        self._unwritten += _epoch_records(line)
        self._write()

    def _write(self) -> None:
        with writing(self.path), self.path.open("r+b" if self._size else "wb") as file:
            file.seek(self._size)
            file.write(self._unwritten)
        self._size += len(self._unwritten)
        self._unwritten = b""


def _epoch_records(line: Mapping[str, Any]) -> bytes:
    """Encode the values of an epoch."""
    epoch, taus = line["epoch"], line["tau"]
    curves = {name: value for name, value in line.items() if name not in ("epoch", "tau")}
    records = _scalar_record(epoch, _flatten(curves))
    for step, tau in enumerate(taus, (epoch - 1) * len(taus) + 1):
        records += _scalar_record(step, [("tau", tau)])
    return records


def _flatten(curves: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested tables, each with the path of its names."""
    for name, value in curves.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def _scalar_record(step: int, scalars: Iterable[tuple[str, float]]) -> bytes:
    return _record(
        step=step,
        summary={"value": [{"tag": tag, "simple_value": value} for tag, value in scalars]},
    )


def _record(**event: Any) -> bytes:
    """Encode an event as a record of an event file.

    TensorBoard's own file writer is not used: it writes in a thread and reports no write error.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    RecordWriter(buffer).write(Event(wall_time=time.time(), **event).SerializeToString())
    return buffer.getvalue()
