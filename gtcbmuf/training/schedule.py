"""The learning rate over a run."""

from collections.abc import Callable

from gtcbmuf.config.schema import TrainConfig

#: Relative fall of the valid FER below which newbob starts to decay, as in Kaldi's nnet1 scheduler.
NEWBOB_FALL = 0.01


class Schedule:
    """The learning rate of every step. It depends only on the configuration and the valid FERs.

    The constant schedule keeps the configured rate. The exponential schedule multiplies the rate by
    `decay` after every epoch. The newbob schedule waits for an epoch whose valid FER is not at
    least 1 % (relative) below the previous epoch's. It multiplies the rate by `decay` after that
    epoch and after every later epoch. In all schedules the rate rises linearly over the first
    `warmup` epochs.

    Args:
        config: configuration with the keys learning_rate, schedule, decay and warmup.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._last = float("inf")
        self._decaying = config.schedule == "exponential"
        #: Learning rate of this epoch, after warm-up.
        self.rate = config.learning_rate

    def of_epoch(self, epoch: int, steps: int) -> Callable[[int], float]:
        """Return a function that maps a step of an epoch to its learning rate.

        Args:
            epoch: number of the epoch, from 0.
            steps: number of steps in an epoch. The function takes a step from 0 to steps - 1.
        """
        rate, ramp = self.rate, self._config.warmup * steps
        earlier_steps = epoch * steps

        def of_step(step: int) -> float:
            return rate * min(1.0, (earlier_steps + step + 1) / ramp) if ramp else rate

        return of_step

    def end_epoch(self, fer_valid: float) -> None:
        """Set the rate of the next epoch from the epoch's final valid FER, in per cent."""
        if self._config.schedule == "newbob":
            self._decaying |= fer_valid > self._last * (1 - NEWBOB_FALL)
            self._last = fer_valid
        if self._decaying:
            self.rate *= self._config.decay

    def state(self) -> dict[str, float]:
        """Return the state that the next epochs depend on."""
        return {"rate": self.rate, "last": self._last, "decaying": self._decaying}

    def restore(self, state: dict[str, float]) -> None:
        """Continue from a state that `state` returned."""
        self.rate, self._last = state["rate"], state["last"]
        self._decaying = bool(state["decaying"])
