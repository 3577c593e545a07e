"""Learning rates over a run."""

from collections.abc import Callable

from gtcbmuf.config.schema import TrainConfig

#: Relative fall of the valid FER under which newbob starts to decay, as in Kaldi's nnet1 scheduler.
NEWBOB_FALL = 0.01


class Schedule:
    """The learning rate of every step; it depends on nothing but the config and the valid FERs.

    constant: the configured rate. exponential: times `decay` after every epoch. newbob: times
    `decay` after the first epoch whose valid FER is not at least 1 % (relative) below that of the
    epoch before it, and after every later one. In all of them the rate rises linearly over the
    first `warmup` epochs.

    Args:
        config: the keys learning_rate, schedule, decay and warmup.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._last = float("inf")
        self._decaying = config.schedule == "exponential"
        #: The rate of this epoch, after warm-up.
        self.rate = config.learning_rate

    def of_epoch(self, epoch: int, steps: int) -> Callable[[int], float]:
        """step (0 to steps - 1) -> learning rate, in epoch 0, 1, ..."""
        rate, ramp = self.rate, self._config.warmup * steps
        done = epoch * steps

        def of_step(step: int) -> float:
            return rate * min(1.0, (done + step + 1) / ramp) if ramp else rate

        return of_step

    def end_epoch(self, fer_valid: float) -> None:
        """Take note of the valid FER (in per cent) that the epoch ended with."""
        if self._config.schedule == "newbob":
            self._decaying |= fer_valid > self._last * (1 - NEWBOB_FALL)
            self._last = fer_valid
        if self._decaying:
            self.rate *= self._config.decay

    def state(self) -> dict[str, float]:
        """What the next epochs depend on."""
        return {"rate": self.rate, "last": self._last, "decaying": self._decaying}

    def restore(self, state: dict[str, float]) -> None:
        """Go on from a `state`."""
        self.rate, self._last = state["rate"], state["last"]
        self._decaying = bool(state["decaying"])
