"""Every method on a job's ranks, one after another: python every_method.py CORPUS OUT [OPTIONS]

--workers N   so many workers, with several on a rank
--stop        stop in the middle of a block
--resume      continue
"""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

from gtcbmuf.mpi import launcher

COMMON = (
    *("train.minibatch=16", "model.hidden=[24, 24]", "model.context=2", "train.epochs=2"),
    *("train.learning_rate=4e-3", "train.checkpoint_every=60 steps"),
)
HYBRID = ("gtc-bmuf", "topology.group_size=2", "exchange.tau=1", "block_filter.period=10")
#: By name: a recipe and its settings.
METHODS = {
    "sync-sgd": ("sync-sgd",),
    "sync-sgd-overlap": (
        *("sync-sgd", "exchange.overlap=true", "model.hidden=[300, 256]"),
        *("train.minibatch=250", "train.epochs=1"),  # many ranks wait long for each other
    ),
    "sync-sgd-16": ("sync-sgd", "exchange.bits=16"),
    "sync-sgd-8": ("sync-sgd", "exchange.bits=8", "train.momentum=0.5"),
    "gtc": ("gtc", "exchange.tau=1"),
    "gtc-density": ("gtc", "exchange.density=0.02", "train.momentum=0.5"),
    "top-k": ("top-k",),
    "dgc": ("dgc", "exchange.warmup_steps=50", "train.learning_rate=4e-4"),
    "one-bit": ("one-bit",),
    "signsgd": ("signsgd", "train.learning_rate=3e-4"),
    "ef-signsgd": ("signsgd", "exchange.error_feedback=true"),
    "qsgd": ("qsgd", "exchange.bucket=64"),
    "powersgd": ("powersgd",),
    "averaging": ("averaging",),
    "bmuf": ("bmuf", "block_filter.period=10"),
    "slowmo": ("slowmo",),
    "diloco": ("diloco", "block_filter.period=15", "train.learning_rate=2e-3"),
    "post-local": ("post-local",),
    "sparse-loco": ("sparse-loco", "block_filter.density=0.1", "train.learning_rate=2e-3"),
    "gtc-sparse-loco": (*HYBRID, "block_filter.kind=sparse-loco"),
    "powersgd-diloco": (*HYBRID, "exchange.kind=powersgd", "block_filter.kind=diloco"),
    "hybrid": HYBRID,
    "hybrid-momentum": (*HYBRID, "train.momentum=0.5", "block_filter.residual=clear"),
    "hybrid-adamw": (
        *(*HYBRID, "train.optimizer=adamw", "train.weight_decay=0.1"),
        "block_filter.local_momentum=keep",
    ),
    "hybrid-adamw-reset": (*HYBRID, "train.optimizer=adamw", "train.verify=true"),
    "bmuf-nesterov": (
        *("bmuf", "block_filter.period=10", "block_filter.local_momentum=keep"),
        *("train.optimizer=nesterov", "train.momentum=0.5"),
    ),
    "hybrid-verified": (*HYBRID, "train.verify=true"),
    # The result of step 45 is late at the checkpoints and at the end of an epoch of 47 steps.
    "hybrid-delay": (
        *(*HYBRID, "block_filter.period=15", "block_filter.delay=5"),
        *("block_filter.nesterov=true", "train.checkpoint_every=46 steps"),
    ),
    "dense-in-groups": (*HYBRID, "exchange.kind=dense", "exchange.bits=16"),
}


class StoppedError(Exception):
    """The run was stopped."""


def stop_after(steps: int) -> None:
    """Let every worker raise an error in the second epoch, after a number of steps."""
    from gtcbmuf.training import worker_run

    class Minibatches(worker_run.Minibatches):  # type: ignore[name-defined, misc]
        epochs = 0

        def begin_epoch(self, *arguments: Any) -> None:
            self.epochs += 1
            super().begin_epoch(*arguments)

        def __getitem__(self, step: int) -> Any:
            if (self.epochs, step) == (2, steps):
                raise StoppedError
            return super().__getitem__(step)

    worker_run.Minibatches = Minibatches  # type: ignore[attr-defined]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    world = launcher.start(alone=options.workers is not None)

    from gtcbmuf.training.run import train

    if options.stop:
        stop_after(20)
    for name, (recipe, *settings) in METHODS.items():
        with suppress(StoppedError):
            train(
                recipe,
                [*COMMON, *settings, f"corpus.path={options.corpus}"],
                options.out / name,
                world=world,
                workers=options.workers,
                resume=options.resume,
                test=name == "hybrid",
            )
