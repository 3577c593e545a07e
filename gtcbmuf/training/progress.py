"""The progress of a run, apart from its model and the state of the two tiers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Fields that are the same on all ranks, and fields that each rank has for itself.
_SHARED = (
    *("epoch", "step", "schedule", "fer_valid", "taus"),
    *("train_seconds", "wall_seconds", "bytes_sent", "updates_sent"),
)
_RANK = ("loss", "epoch_seconds")


@dataclass
class Progress:
    """The progress of a run. Every checkpoint stores it.

    Attributes:
        epoch, step: current epoch and its next step, from 0.
        schedule: state of the learning rate schedule.
        fer_valid: frame error rate on the validation set after the last epoch, in per cent.
        taus: some values of tau in this epoch, in this worker's group.
        train_seconds: training time of all finished epochs, on the slowest rank.
        wall_seconds: seconds of the run before this job.
        bytes_sent, updates_sent: bytes and updates that all ranks sent in all finished epochs.
        loss: sum of this worker's losses in this epoch.
        epoch_seconds: seconds of this epoch before this job.
    """

    epoch: int = 0
    step: int = 0
    schedule: dict[str, float] = field(default_factory=dict)
    fer_valid: float = float("nan")
    taus: list[float] = field(default_factory=list)
    train_seconds: float = 0.0
    wall_seconds: float = 0.0
    bytes_sent: int = 0
    updates_sent: int = 0
    loss: float = 0.0
    epoch_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._started = self._epoch_started = time.perf_counter()

    @classmethod
    def restore(cls, shared: Mapping[str, Any], numbers: Mapping[str, float]) -> "Progress":
        """Return the progress stored in a checkpoint.

        Args:
            shared, numbers: results of `shared` and `numbers`. Other entries are ignored.
        """
        fields = {name: shared[name] for name in _SHARED} | {name: numbers[name] for name in _RANK}
        fields["taus"] = list(shared["taus"])  # workers of a process share what they have read
        return cls(**fields)

    def shared(self) -> dict[str, Any]:
        """Return the current values of the fields that are the same on all ranks."""
        return {name: getattr(self, name) for name in _SHARED} | {
            "wall_seconds": self.seconds_of_run()
        }

    def numbers(self) -> dict[str, float]:
        """Return the current values of the fields that this rank has for itself."""
        return {"loss": self.loss, "epoch_seconds": self.seconds_of_epoch()}

    def start_epoch(self) -> None:
        """Start the clock of an epoch, or of the rest of an epoch."""
        self._epoch_started = time.perf_counter()

    def end_epoch(self) -> None:
        """Move to the first step of the next epoch and reset the counts of the epoch."""
        self.epoch, self.step = self.epoch + 1, 0
        self.loss = self.epoch_seconds = 0.0
        self.taus = []

    def seconds_of_epoch(self) -> float:
        """Return the seconds of this epoch so far."""
        return self.epoch_seconds + time.perf_counter() - self._epoch_started

    def seconds_of_run(self) -> float:
        """Return the seconds of this run so far."""
        return self.wall_seconds + time.perf_counter() - self._started
