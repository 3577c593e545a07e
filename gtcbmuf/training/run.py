"""A training run: its start on every rank, and its workers."""

import signal
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from gtcbmuf.acoustic.model import BuildModel
from gtcbmuf.acoustic.model_file import network_name
from gtcbmuf.base.output import say
from gtcbmuf.base.signals import StopSignals
from gtcbmuf.config.schema import run_name
from gtcbmuf.mpi import launcher
from gtcbmuf.mpi.carried import carry
from gtcbmuf.mpi.job import CollectiveError, agree, on_root
from gtcbmuf.mpi.topology import Topology
from gtcbmuf.training.checkpoints import Checkpoints
from gtcbmuf.training.construction import plan_run
from gtcbmuf.training.event_files import require_tensorboard
from gtcbmuf.training.preparation import prepare
from gtcbmuf.training.resume import check_same, is_finished
from gtcbmuf.training.run_files import read_summary
from gtcbmuf.training.worker_run import InterruptedRunError, WorkerRun


def train(
    config: str | Path,
    settings: Sequence[str] = (),
    out: Path | str | None = None,
    *,
    world: MPI.Comm | None = None,
    workers: int | None = None,
    build: BuildModel | None = None,
    resume: bool = False,
    weights: Path | None = None,
    scratch: Path | None = None,
    test: bool = True,
    tensorboard: bool = False,
) -> dict[str, Any]:
    """Train a model once, on all ranks of `world`. Collective.

    Args:
        config: name of a recipe or path of a TOML file. The value on rank 0 is used.
        settings: assignments `section.key=value` that override the configuration.
        out: path of the run directory. The default is a directory under runs/, named after the
            method, the workers and the seed.
        world: communicator of the ranks; by default all ranks of the job.
        workers: number of workers, where the ranks of a machine carry several each. The results
            have the bits of as many ranks, unless 32-bit floats are exchanged. By default, a rank
            is a worker.
        build: function that builds another network than the MLP that `model.*` configures. The
            workers of a rank share the network.
        resume: continue from the last usable checkpoint in the run directory. A run without a
            checkpoint starts from the beginning.
        weights: path of a saved model to start from, instead of random weights.
        scratch: folder on a disk of each host. The corpus is copied there and read from there.
        test: evaluate the test set at the end. Tuning runs skip it.
        tensorboard: also write the curves of metrics.jsonl to tensorboard/ in the run directory.

    Returns:
        The content of the run's summary.json, on all ranks.

    Raises:
        CollectiveError: raised on all ranks alike. Before any training or output, the
            configuration, the corpus, the checkpoint or the weights are invalid. Later, replicas
            differ, or the results cannot be written, or a signal's checkpoint cannot be written.
        DivergedError: the loss, a gradient or the model is not finite. Any rank can raise it.
        InterruptedRunError: a signal stopped the run. Raised on all ranks alike.

    Examples:
        >>> import tempfile
        >>> from gtcbmuf.data.corpus_writer import CorpusWriter, Utterance
        >>> folder = Path(tempfile.mkdtemp())
        >>> noise, targets = np.random.default_rng(0), np.arange(50, dtype=np.uint16) % 2
        >>> with CorpusWriter(
        ...     folder / "corpus.h5", phones=["a", "b"], target_phone=[0, 1], attributes={}
        ... ) as corpus:
        ...     for name in ("train", "valid", "test"):
        ...         features = noise.normal(targets[:, None], size=(50, 4)).astype(np.float32)
        ...         corpus.add(name, Utterance(name, name, features, targets))
        >>> summary = train(
        ...     "sgd", [f"corpus.path={folder}/corpus.h5", "train.epochs=1"], folder / "run"
        ... )  # doctest: +ELLIPSIS
        sgd: 1 worker (1 x 1), 77,826 parameters, 50 frames -> ...
        >>> summary["method"], summary["steps"]
        ('sgd', 1)
    """
    plan = plan_run(world or launcher.start(), str(config), list(settings), workers)
    ranks = plan.ranks
    if tensorboard:
        on_root(ranks, require_tensorboard)
    path = Path(out) if out else Path("runs") / run_name(plan.config, plan.workers)
    if resume and on_root(ranks, lambda: is_finished(path, plan.workers, plan.config)):
        if ranks.rank == 0:
            say(f"{path}: this run is already finished")
        return on_root(ranks, lambda: read_summary(path))
    # From here on, a signal takes effect after the first step. The final test ignores it.
    with StopSignals() as signals:
        _stop_if_signalled(ranks, signals.number)
        prepared = prepare(plan, build, weights, scratch)

        def train_worker(world: MPI.Comm) -> dict[str, Any]:
            checkpoints = Checkpoints(world, path / "checkpoints", plan.config.train.checkpoints)
            loaded = checkpoints.load() if resume else None
            if loaded:
                corpus, network = prepared.corpus, network_name(prepared.model)
                agree(world, lambda: check_same(loaded.checkpoint, plan.config, corpus, network))
            topology = Topology(world, plan.group_size)
            try:
                run = WorkerRun(plan, topology, prepared, checkpoints, signals, path)
                with closing(run), np.errstate(over="ignore", invalid="ignore"):
                    run.open_directory(loaded, tensorboard)
                    summary = run.run_to_the_end(test)
            except BaseException as error:
                # After any other error, not all ranks come here.
                if isinstance(error, CollectiveError) or world.size == 1:
                    topology.free()
                raise
            topology.free()
            return summary

        return carry(ranks, plan.workers, train_worker)


def _stop_if_signalled(ranks: MPI.Comm, number: int) -> None:
    """Stop before the first step if any rank has received a signal. Collective."""
    if number := ranks.allreduce(number, MPI.MAX):
        raise InterruptedRunError(
            f"stopped by {signal.Signals(number).name} before the first step; the same command "
            "with --resume continues the run"
        )
