"""How far a run has come, besides its model and the state of the two tiers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Fields that all ranks have alike, and those of each rank.
_SHARED = (
    *("epoch", "step", "schedule", "fer_valid", "taus"),
    *("train_seconds", "wall_seconds", "bytes_sent", "updates_sent"),
)
_OWN = ("loss", "epoch_seconds")


@dataclass
class Progress:
    """Saved in every checkpoint, and restored from it.

    Attributes:
        epoch, step: to go on with, from 0.
        schedule: state of the learning rate's schedule.
        fer_valid: of the last epoch, in per cent.
        taus: of this worker's group, some of this epoch.
        train_seconds: of all epochs that are done, on the slowest rank.
        wall_seconds: of the run, until `start` was called last.
        bytes_sent, updates_sent: of all epochs that are done and all ranks.
        loss: sum of this worker's losses in this epoch.
        epoch_seconds: of this epoch, until `start` or `start_epoch` was called last.
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
    def restored(cls, shared: Mapping[str, Any], own: Mapping[str, float]) -> "Progress":
        """That of a checkpoint.

        Args:
            shared, own: what `shared` and `own` returned, perhaps among other entries.
        """
        fields = {name: shared[name] for name in _SHARED} | {name: own[name] for name in _OWN}
        return cls(**fields)

    def shared(self) -> dict[str, Any]:
        """What all ranks have alike, now."""
        return {name: getattr(self, name) for name in _SHARED} | {
            "wall_seconds": self.seconds_of_run()
        }

    def own(self) -> dict[str, float]:
        """What is this rank's alone, now."""
        return {"loss": self.loss, "epoch_seconds": self.seconds_of_epoch()}

    def start_epoch(self) -> None:
        """The clock of an epoch, or of the rest of one, starts."""
        self._epoch_started = time.perf_counter()

    def end_epoch(self) -> None:
        """The next epoch begins with its first step, and with nothing counted."""
        self.epoch, self.step = self.epoch + 1, 0
        self.loss = self.epoch_seconds = 0.0
        self.taus = []

    def seconds_of_epoch(self) -> float:
        """Of this epoch so far."""
        return self.epoch_seconds + time.perf_counter() - self._epoch_started

    def seconds_of_run(self) -> float:
        """Of this run so far."""
        return self.wall_seconds + time.perf_counter() - self._started
