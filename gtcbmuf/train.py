"""A training run: epochs around the algorithm, evaluation, and what the run directory gets."""

import math
import os
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf import config, corpus, kernels, launcher, modelfile
from gtcbmuf.algorithm import GTCExchange
from gtcbmuf.checkpoint import Checkpoint
from gtcbmuf.config import Config
from gtcbmuf.errors import UserError
from gtcbmuf.meter import PARTS, Meter
from gtcbmuf.minibatches import Minibatches
from gtcbmuf.model import MLP, Shape, initial
from gtcbmuf.overlap import Overlapped
from gtcbmuf.persistence import Checkpoints, Poll, StopSignals
from gtcbmuf.resuming import check_same, is_finished
from gtcbmuf.runlog import RunDirectory
from gtcbmuf.schedule import Schedule
from gtcbmuf.score import BATCH, Scorer
from gtcbmuf.scoring import score_model
from gtcbmuf.staging import staged
from gtcbmuf.tiers import formed, make_worker
from gtcbmuf.topology import CollectiveError, Topology, agree, in_turn, on_root
from gtcbmuf.watchdog import Watchdog

#: How often an epoch's metrics tell of tau.
_TAUS = 20
# Purposes of random streams: SeedSequence([seed, purpose, rank, epoch, ...]).
_INITIAL, _BLOCKS, _WINDOWS = 0, 1, 2


class DivergedError(UserError):
    """The loss or the model is no longer finite."""

    status = 1


class InterruptedRunError(CollectiveError):
    """A signal asked the run to stop, and a checkpoint was written."""

    status = 75  # EX_TEMPFAIL: to be tried again


def train(
    world: MPI.Comm,
    source: str,
    assignments: list[str],
    out: Path | None,
    *,
    resume: bool = False,
    weights: Path | None = None,
    scratch: Path | None = None,
    test: bool = True,
) -> None:
    """Train once, on all ranks of `world`; collective.

    Args:
        world: the workers.
        source, assignments: the configuration, as `gtcbmuf.config.load` takes them; those of
            rank 0 count.
        out: the run directory; by default one under runs/ that names method, workers and seed.
        resume: go on from the last checkpoint in the run directory; a run without one begins.
        weights: a saved model to begin with, instead of random weights.
        scratch: a folder on a disk of each host; the corpus is copied there and read from there.
        test: look at the test set at the end, which is not for choosing between runs.

    Raises:
        CollectiveError: on all ranks alike: before anything was trained or written, the
            configuration, the corpus, the checkpoint or the weights are at fault; later, replicas
            differ, or the results, or the checkpoint that a signal asked for, cannot be written.
        DivergedError: on any rank.
        InterruptedRunError: on all ranks alike.
    """
    world, method, resolved, group_size = formed(world, source, assignments)
    out = out or Path("runs") / config.run_name(resolved, world.size)
    if resume and on_root(world, lambda: is_finished(out, world.size, resolved)):
        if world.rank == 0:
            print(f"{out}: this run is finished already", flush=True)
        return
    # A signal waits for the first step, and one that comes during the last test for nothing.
    with StopSignals() as signals, np.errstate(over="ignore", invalid="ignore"):
        path = Path(resolved.corpus.path)
        if scratch:
            path = on_root(world, lambda: corpus.read(path).path)  # worth copying
            path = staged(world, path, scratch)
        frames = agree(world, lambda: corpus.read(path))
        shape = agree(world, lambda: _shape(resolved, frames))
        initial_model = agree(world, lambda: _initial(resolved, shape, weights))
        checkpoints = Checkpoints(world, out / "checkpoints", resolved.train.checkpoints)
        begun = checkpoints.load() if resume else None
        if begun:
            agree(world, lambda: check_same(begun[0], resolved, frames))
        in_turn(world, kernels.compile_all)

        topology = Topology(world, group_size)
        run = _Run(topology, resolved, method, frames, shape, initial_model, checkpoints, signals)
        run.begin(out, begun)
        run.epochs()
        run.finish(test)
        topology.free()


def _initial(chosen: Config, shape: Shape, weights: Path | None) -> NDArray[np.float32]:
    if weights is None:
        return initial(shape, _stream(chosen, _INITIAL, 0, 0))
    saved = modelfile.load_model(weights)
    if (saved.shape, saved.context) != (shape, chosen.model.context):
        raise UserError(
            f"--resume-weights {weights}: {saved.shape} with context {saved.context}; "
            f"this run trains {shape} with context {chosen.model.context}"
        )
    return saved.vector


def _stream(chosen: Config, *key: int) -> np.random.Generator:
    """Of purpose, rank (0 if it is common to all workers), epoch, and more."""
    sequence = np.random.SeedSequence([chosen.train.seed, *key])
    return np.random.Generator(np.random.PCG64(sequence))


def _shape(chosen: Config, frames: corpus.Corpus) -> Shape:
    inputs = (2 * chosen.model.context + 1) * frames.feature_dim
    shape = Shape((inputs, *chosen.model.hidden, frames.target_count), chosen.model.activation)
    if shape.parameters >= 2**31:
        raise UserError(f"model.hidden makes {shape.parameters} parameters; fewer than 2^31 fit")
    return shape


class _Run:
    """The state of a run on one rank."""

    def __init__(
        self,
        topology: Topology,
        chosen: Config,
        method: str,
        frames: corpus.Corpus,
        shape: Shape,
        model: NDArray[np.float32],
        checkpoints: Checkpoints,
        signals: StopSignals,
    ) -> None:
        world = topology.world
        self.topology, self.config, self.method = topology, chosen, method
        self.corpus, self.checkpoints, self.signals = frames, checkpoints, signals
        every, _, unit = chosen.train.checkpoint_every.partition(" ")
        self.every = int(every) if unit == "steps" else None
        self.poll = Poll(world, float(every) if unit == "minutes" else None)
        self.leads = world.rank == 0
        self.terminal = self.leads and launcher.on_terminal()

        self.model = model
        topology.broadcast(self.model)
        self.meter = Meter()
        self.worker = make_worker(chosen, topology, self.model, shape.starts, self.meter)
        self.mlp = MLP(shape, max(chosen.train.minibatch, BATCH))
        self.minibatches = Minibatches(
            frames.train, chosen.model.context, chosen.train.minibatch, world.size, world.rank
        )
        self.schedule = Schedule(chosen.train)
        self.fer_valid = float("nan")
        self.loss = 0.0  # of this worker, in this epoch
        self.taus: list[float] = []  # of this worker's group, in this epoch
        self.first = (0, 0)  # epoch and step to begin with
        self.epoch_seconds = self.train_seconds = self.wall_seconds = 0.0
        self.bytes_sent = self.updates_sent = 0
        self.started = time.perf_counter()

    def begin(
        self,
        out: Path,
        begun: tuple[Checkpoint, dict[str, NDArray[Any]], dict[str, float]] | None,
    ) -> None:
        """Make the run directory, or go on from a checkpoint; collective."""
        world = self.topology.world
        facts = (MPI.Get_processor_name(), os.cpu_count())
        hosts: list[Any] = world.gather(facts) or []
        where = {
            "mpi": MPI.Get_library_version().strip(),
            "launcher": launcher.name(),
            "hosts": {host: {"cores": cores} for host, cores in hosts},
            "host_of_rank": [host for host, _ in hosts],
            "group_of_rank": [rank // self.topology.group.size for rank in range(len(hosts))],
        }
        self.out = out
        epoch, step = 0, 0
        if begun:
            whole, state, own = begun
            self._restore(whole.shared, state, own)
            epoch, step = self.first

        def opened() -> None:  # on rank 0, which holds the directory's lock
            if begun:
                facts = {"epoch": epoch + 1, "step": step, **where}
                self.directory = RunDirectory.reopened(out, epochs=epoch, facts=facts)
            else:
                self.directory = RunDirectory(out)
                self.directory.write_environment({**where, "corpus": self.corpus.digest})

        on_root(world, opened)
        on_root(world, lambda: self.directory.write_config(config.to_dict(self.config)))
        if self.leads:
            print(
                f"{self.method}: {world.size} worker{'s' if world.size > 1 else ''} "
                f"({self.topology.groups} x {self.topology.group.size}), "
                f"{self.model.size:,} parameters, {len(self.corpus.train):,} frames "
                f"-> {out}",
                flush=True,
            )
            if self.config.block_filter.kind != "none" and self.topology.groups == 1 < world.size:
                print(
                    "one group: the block filter has no other to average with; for two tiers give "
                    f"topology.group_size below {world.size}",
                    flush=True,
                )
            if begun:
                print(f"resumed from {begun[0].path}: epoch {epoch + 1}, step {step}", flush=True)

    def _save(self, epoch: int, step: int) -> str:
        """Write a checkpoint before `step` of `epoch`, and return a line about it; collective.

        Raises:
            CollectiveError: it cannot be written.
        """
        self.poll.saved()
        shared = {
            "config": config.to_dict(self.config),
            "corpus": self.corpus.digest,
            "epoch": epoch,
            "step": step,
            "schedule": self.schedule.state(),
            "fer_valid": self.fer_valid,
            "taus": self.taus,
            "train_seconds": self.train_seconds,
            "wall_seconds": self.wall_seconds + time.perf_counter() - self.started,
            "bytes_sent": self.bytes_sent,
            "updates_sent": self.updates_sent,
        }
        own = {"loss": self.loss, "epoch_seconds": self._seconds(), **self.meter.state()}
        done = epoch * self.minibatches.steps + step
        return self.checkpoints.save(done, self.worker.state(), own, shared)

    def _restore(
        self, shared: dict[str, Any], state: dict[str, NDArray[Any]], own: dict[str, float]
    ) -> None:
        self.worker.restore(state)
        self.schedule.restore(shared["schedule"])
        self.meter.restore(own)
        self.first = shared["epoch"], shared["step"]
        self.fer_valid, self.taus = shared["fer_valid"], shared["taus"]
        self.train_seconds, self.wall_seconds = shared["train_seconds"], shared["wall_seconds"]
        self.bytes_sent, self.updates_sent = shared["bytes_sent"], shared["updates_sent"]
        self.loss, self.epoch_seconds = own["loss"], own["epoch_seconds"]

    def _after(self, epoch: int, step: int) -> None:
        """What is noted, checkpoints and signals, after a step; collective."""
        steps, exchange = self.minibatches.steps, self.worker.exchange
        done = epoch * steps + step + 1
        self.watchdog.step(done)
        if (
            isinstance(exchange, GTCExchange)
            and (step + 1) * _TAUS // steps > step * _TAUS // steps
        ):
            self.taus.append(exchange.tau)
        received, due = self.poll(self.signals.received)
        due |= self.every is not None and done % self.every == 0
        if not received and not due:
            return
        try:
            line = self._save(epoch, step + 1)
        except CollectiveError as error:
            if received:
                raise
            line = f"gtcbmuf: {error}; training goes on without"
        if self.leads:
            print(line, flush=True)
        if received:
            raise InterruptedRunError(
                f"stopped by {signal.Signals(received).name} after step {step + 1} of epoch "
                f"{epoch + 1}; the same command with --resume goes on"
            )

    def _seconds(self) -> float:
        """Of this epoch so far."""
        return self.epoch_seconds + time.perf_counter() - self.epoch_started

    def epochs(self) -> None:
        """Train and evaluate, epoch after epoch; collective."""
        world = self.topology.world
        folder, patience = self.out / "alive", 60 * self.config.train.patience
        watch = Watchdog(folder, world.rank, world.size, patience, lambda: self.meter.part)
        with watch as self.watchdog:
            for epoch in range(self.first[0], self.config.train.epochs):
                self._epoch(epoch)

    def _epoch(self, epoch: int) -> None:
        world, steps = self.topology.world, self.minibatches.steps
        self.minibatches.begin_epoch(
            _stream(self.config, _BLOCKS, 0, epoch),
            lambda window: _stream(self.config, _WINDOWS, world.rank, epoch, window),
        )
        first = self.first[1] if epoch == self.first[0] else 0
        bar = self._bar(epoch)
        exchange = self.worker.exchange

        def ready(first: int) -> None:
            if isinstance(exchange, Overlapped):
                exchange.ready(self.mlp.gradient, first)

        def gradient(step: int) -> NDArray[np.float32]:
            with self.meter.time("read"):
                inputs, targets = self.minibatches[step]
            loss = self.mlp.backward(self.model, inputs, targets, ready)
            if not math.isfinite(loss):  # before a checkpoint or another worker gets it
                raise self._diverged(epoch, f"the loss of step {step + 1} is {loss}")
            self.loss += loss
            if bar is not None:
                bar.update(len(inputs) * world.size)
            return self.mlp.gradient

        learning_rate = self.schedule.rate
        self.epoch_started = time.perf_counter()
        try:
            self.worker.run(
                steps,
                gradient,
                self.schedule.of_epoch(epoch, steps),
                first=first,
                after=lambda step: self._after(epoch, step),
            )
        finally:
            if bar is not None:
                bar.close()
        seconds = self._seconds()

        loss = world.allreduce(self.loss) / len(self.corpus.train)
        anchor = self.worker.block_filter.anchor(self.model)
        if not np.isfinite(anchor).all():
            raise self._diverged(epoch, "not all weights are finite")
        self.fer_valid = self._frame_error_rate(anchor, self.corpus.valid)
        self.schedule.end_epoch(self.fer_valid)
        self.watchdog.step((epoch + 1) * steps)
        seconds = world.allreduce(seconds, MPI.MAX)
        bytes_sent = world.allreduce(self.meter.bytes_sent)
        updates_sent = world.allreduce(self.meter.updates_sent)
        by_part = _over_ranks(world, [self.meter.seconds[part] for part in PARTS])
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        [resident] = _over_ranks(world, [peak_kib / 1024])
        self.meter.reset()
        self.loss = self.epoch_seconds = 0.0
        self.train_seconds += seconds
        self.bytes_sent += bytes_sent
        self.updates_sent += updates_sent
        if self.leads:
            line = {
                "epoch": epoch + 1,
                "loss": loss,
                "fer_valid": self.fer_valid,
                "learning_rate": learning_rate,
                "density": updates_sent / (self.model.size * steps * world.size),
                "tau": self.taus,
                "bytes_sent_per_step": bytes_sent / (steps * world.size),
                "frames_per_second": len(self.corpus.train) / seconds,
                "seconds": seconds,
                "seconds_by_part": dict(zip(PARTS, by_part, strict=True)),
                "peak_resident_mib": resident,
            }
            try:
                self.directory.append_metrics(line)
            except UserError as error:
                print(f"gtcbmuf: {error}; training goes on", flush=True)
            print(
                f"epoch {epoch + 1:>2}/{self.config.train.epochs}  loss {loss:6.4f}  "
                f"valid FER {self.fer_valid:5.2f} %  rate {learning_rate:.2e}  "
                f"density {100 * line['density']:.3g} %  "
                f"{line['frames_per_second']:,.0f} frames/s",
                flush=True,
            )
        self.taus = []

    def _diverged(self, epoch: int, how: str) -> DivergedError:
        chosen = self.config.train
        return DivergedError(
            f"training diverged in epoch {epoch + 1}: {how} on rank {self.topology.world.rank}; "
            f"lower train.learning_rate ({chosen.learning_rate:g} per frame) or give it a longer "
            f"train.warmup ({chosen.warmup:g} epochs)"
        )

    def _bar(self, epoch: int) -> Any:
        if not self.terminal:
            return None
        from tqdm import tqdm

        description = f"epoch {epoch + 1:>2}/{self.config.train.epochs}"
        if epoch:
            description += f"  valid FER {self.fer_valid:5.2f} %"
        return tqdm(
            total=len(self.corpus.train),
            desc=description,
            unit=" frames",
            unit_scale=True,
            leave=False,
            ncols=100,
        )

    def _frame_error_rate(self, parameters: NDArray[np.float32], split: corpus.Split) -> float:
        """In per cent; collective."""
        world = self.topology.world
        scorer = Scorer(split, self.config.model.context, world.size, world.rank)
        errors: int = world.allreduce(scorer.frame_errors(self.mlp, parameters))
        return 100 * errors / len(split)

    def _error_rates(self, parameters: NDArray[np.float32]) -> tuple[float, float | None]:
        """FER and PER on test, in per cent; no PER where the phones are not known; collective."""
        world, context = self.topology.world, self.config.model.context
        result = score_model(world, self.mlp, parameters, context, self.corpus, "test")
        return result.total.fer, result.total.per if result.decoding else None

    def finish(self, test: bool) -> None:
        """Test, if that is wanted, and write model and summary; collective."""
        anchor = self.worker.block_filter.anchor(self.model)
        fer_test, per_test = self._error_rates(anchor) if test else (None, None)
        on_root(self.topology.world, lambda: self._write_results(anchor, fer_test, per_test))
        if self.leads and fer_test is not None:
            phones = "" if per_test is None else f"  PER {per_test:.2f} %"
            print(f"test FER {fer_test:.2f} %{phones}", flush=True)

    def _write_results(
        self, anchor: NDArray[np.float32], fer_test: float | None, per_test: float | None
    ) -> None:
        """Model and summary, in place of the checkpoints; for rank 0."""
        chosen, world = self.config, self.topology.world
        steps = self.minibatches.steps * chosen.train.epochs
        frames = len(self.corpus.train) * chosen.train.epochs
        model = modelfile.SavedModel(
            anchor,
            self.mlp.shape,
            chosen.model.context,
            self.corpus.train.counts(self.corpus.target_count),
            self.corpus.normalisation,
        )
        modelfile.save_model(self.out / "model.h5", model)
        self.directory.write_summary(
            {
                "method": self.method,
                "workers": world.size,
                "group_size": self.topology.group.size,
                "groups": self.topology.groups,
                "seed": chosen.train.seed,
                "epochs": chosen.train.epochs,
                "parameters": self.model.size,
                "frames": frames,
                "steps": steps,
                "fer_valid": self.fer_valid,
                "fer_test": fer_test,
                "per_test": per_test,
                "wall_seconds": self.wall_seconds + time.perf_counter() - self.started,
                "frames_per_second": frames / self.train_seconds,
                "bytes_sent_per_step": self.bytes_sent / (steps * world.size),
                "density": self.updates_sent / (self.model.size * steps * world.size),
                "weights_sha256": modelfile.sha256(anchor),
            }
        )
        shutil.rmtree(self.out / "checkpoints", ignore_errors=True)


def _over_ranks(world: MPI.Comm, values: list[float]) -> list[dict[str, float]]:
    """Min, mean and max over the ranks of each value; collective."""
    everyone = np.array(world.allgather(values))
    return [
        {"min": float(column.min()), "mean": float(column.mean()), "max": float(column.max())}
        for column in everyone.T
    ]
