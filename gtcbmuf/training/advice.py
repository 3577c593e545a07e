"""Lines about an epoch that did not go as configured, or went wrong."""

import math
from collections.abc import Mapping
from typing import Any

from gtcbmuf.config.schema import Config


def advise(
    config: Config, metrics: Mapping[str, Any], *, backlog_share: float, targets: int
) -> dict[str, str]:
    """Return what a user should know of an epoch, by the key of the configuration to change.

    Args:
        config: configuration of the run.
        metrics: the epoch's line of metrics.jsonl.
        backlog_share: share of the steps in which a group had a backlog, as `GTCExchange` counts.
        targets: number of targets.

    Examples:
        >>> epoch = {"loss": 20.0, "density": 0}
        >>> advise(Config(), epoch, backlog_share=0, targets=100)["train.learning_rate"]
        'the loss is far above that of guessing, 4.61; lower train.learning_rate = 0.0016'
    """
    lines = {}
    density: float | str = getattr(config.exchange, "density", "any")
    sent: float = metrics["density"]
    if not isinstance(density, str) and backlog_share > 0.1 and sent < 0.9 * density:
        lines["exchange.density"] = (
            f"exchange.density = {density:g} is out of reach: a smaller tau would send less, so "
            f"tau falls no further; expected about {sent:.2g}"
        )
    guessing = math.log(targets)
    if metrics["loss"] > 2 * guessing:
        lines["train.learning_rate"] = (
            f"the loss is far above that of guessing, {guessing:.2f}; lower "
            f"train.learning_rate = {config.train.learning_rate:g}"
        )
    return lines
