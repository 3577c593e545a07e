"""The run of a worker: epochs of the two tiers, evaluation and the run directory."""

import math
import resource
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.acoustic.evaluation import evaluate
from gtcbmuf.acoustic.model_file import SavedModel, network_name, save_model, sha256
from gtcbmuf.acoustic.posteriors import FrameErrors
from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.output import say
from gtcbmuf.base.signals import StopSignals
from gtcbmuf.config.schema import to_tables
from gtcbmuf.core.checks import NotFiniteError
from gtcbmuf.core.kernels import all_finite
from gtcbmuf.core.meter import PARTS, Meter
from gtcbmuf.core.overlap import Overlapped
from gtcbmuf.data.corpus import Split
from gtcbmuf.data.minibatches import Minibatches
from gtcbmuf.mpi import launcher
from gtcbmuf.mpi.carried import per_process
from gtcbmuf.mpi.hosts import cores_of_hosts, host_of_rank
from gtcbmuf.mpi.job import CollectiveError, on_root
from gtcbmuf.mpi.topology import Topology
from gtcbmuf.training.advice import advise
from gtcbmuf.training.checkpoints import Checkpoints, LoadedCheckpoint
from gtcbmuf.training.construction import RunPlan, build_worker
from gtcbmuf.training.event_files import EventFile
from gtcbmuf.training.outcome import Outcome, remove_outcome, write_outcome
from gtcbmuf.training.poll import Poll
from gtcbmuf.training.preparation import Preparation
from gtcbmuf.training.progress import Progress
from gtcbmuf.training.run_directory import RunDirectory
from gtcbmuf.training.schedule import Schedule
from gtcbmuf.training.streams import ORDER, WINDOWS, stream
from gtcbmuf.training.watchdog import WAITING, Watchdog

#: Largest number of tau values in an epoch's metrics.
_TAUS = 20


class DivergedError(UserError):
    """The loss, a gradient or the model is no longer finite."""

    status = 1


class InterruptedRunError(CollectiveError):
    """A signal stopped the run after a checkpoint was written."""

    status = 75  # EX_TEMPFAIL: try again later


class WorkerRun:
    """The state of a run in one worker.

    Args:
        plan: the plan of the run.
        topology: hosts and groups of the workers.
        prepared: what the workers of a rank share.
        checkpoints: the run's checkpoints.
        signals: the signals that have arrived.
        out: path of the run directory.
    """

    def __init__(
        self,
        plan: RunPlan,
        topology: Topology,
        prepared: Preparation,
        checkpoints: Checkpoints,
        signals: StopSignals,
        out: Path,
    ) -> None:
        world, config = topology.world, plan.config
        self.method, self.config, self.topology, self.out = plan.method, config, topology, out
        self.ranks = plan.ranks.size
        self.shares_rank = world.size > self.ranks
        self.name = f"{'worker' if self.shares_rank else 'rank'} {world.rank}"
        self.corpus, self.checkpoints, self.signals = prepared.corpus, checkpoints, signals
        every, _, unit = config.train.checkpoint_every.partition(" ")
        self.every = int(every) if unit == "steps" else None
        self.poll = Poll(world, float(every) if unit == "minutes" else None)
        self.leads = world.rank == 0
        self.terminal = self.leads and launcher.on_terminal()

        self.model = prepared.model
        initial = prepared.initial
        self.vector = per_process(
            topology.group, lambda _: initial.copy() if self.shares_rank else initial
        )
        topology.broadcast(self.vector)
        self.meter = Meter()
        self.worker = build_worker(config, topology, self.vector, self.model.shapes, self.meter)
        self.minibatches = Minibatches(
            self.corpus.train, self.model.context, config.train.minibatch, world.size, world.rank
        )
        self.schedule = Schedule(config.train)
        self.backlogs, self.advised = 0, set[str]()
        self._opened = ExitStack()
        self.progress = Progress()

    def close(self) -> None:
        """Unlock the run directory, for another run in this process."""
        self._opened.close()

    def open_directory(self, loaded: LoadedCheckpoint | None, tensorboard: bool) -> None:
        """Create the run directory, or reopen it and restore a checkpoint. Collective."""
        world = self.topology.world
        hosts = host_of_rank(world)
        cores = cores_of_hosts(world, hosts)
        environment = {
            "mpi": MPI.Get_library_version().strip(),
            "launcher": launcher.name(),
            "ranks": self.ranks,
            "hosts": {host: {"cores": count} for host, count in cores.items()},
            "host_of_rank": hosts,
            "group_of_rank": [rank // self.topology.group.size for rank in range(len(hosts))],
        }
        if loaded:
            self.worker.restore(loaded.state)
            self.meter.restore(loaded.numbers)
            self.progress = Progress.restore(loaded.checkpoint.shared, loaded.numbers)
            self.schedule.restore(self.progress.schedule)
        epoch, step = self.progress.epoch, self.progress.step

        def open_files() -> None:  # runs on rank 0, which holds the directory's lock
            if loaded:
                facts = {"epoch": epoch + 1, "step": step, **environment}
                saved = loaded.checkpoint.shared
                self.directory = RunDirectory.reopen(
                    self.out, epochs=epoch, facts=facts, saved=saved
                )
                remove_outcome(self.out)
            else:
                self.directory = RunDirectory(self.out)
                self.directory.write_environment({**environment, "corpus": self.corpus.digest})
            self._opened.callback(self.directory.close)
            self.metrics_files: list[RunDirectory | EventFile] = [self.directory]
            if tensorboard:
                self.metrics_files.append(EventFile(self.out, self.directory.metrics))

        on_root(world, open_files)
        on_root(world, lambda: self.directory.write_config(to_tables(self.config)))
        if self.leads:
            say(
                f"{self.method}: {world.size} worker{'s' if world.size > 1 else ''} "
                f"({self.topology.groups} x {self.topology.group.size}), "
                f"{self.vector.size:,} parameters, {len(self.corpus.train):,} frames "
                f"-> {self.out}"
            )
            if self.config.block_filter.connects and self.topology.groups == 1 < world.size:
                say(
                    "one group: the block filter has no other group to average with; for two tiers "
                    f"set topology.group_size below {world.size}"
                )
            steps = self.config.train.epochs * self.minibatches.steps
            sufficient = self.config.block_filter.sufficient_steps
            if steps < sufficient:
                say(
                    f"{steps:,} steps are few for block momentum with {self.topology.groups} "
                    f"groups and blocks of {self.config.block_filter.period} steps; expected "
                    f"{sufficient:,} (docs/measurements/error.md), a lower block_filter.momentum "
                    "with a higher rate, a shorter block_filter.period or larger groups"
                )
            if loaded:
                path = loaded.checkpoint.path
                say(f"resumed from {path}: epoch {epoch + 1}, step {step}")

    def run_to_the_end(self, test: bool) -> dict[str, Any]:
        """Train, test and write the outcome of the run. Collective.

        The outcome is also written when the run diverges or a signal interrupts it.

        Returns:
            The content of summary.json.
        """
        try:
            self._epochs()
            return self._finish(test)
        except DivergedError as error:
            write_outcome(self.out, self._outcome("diverged", error))
            raise
        except InterruptedRunError as error:
            if self.leads:
                write_outcome(self.out, self._outcome("interrupted", error))
            raise

    def _outcome(self, state: Literal["diverged", "interrupted"], error: Exception) -> Outcome:
        return Outcome(state, self.progress.seconds_of_run(), str(error))

    def _save(self) -> str:
        """Write a checkpoint of the current state and return a line about it. Collective.

        Raises:
            CollectiveError: the checkpoint cannot be written.
            DivergedError: the checkpoint would hold NaN or infinity.
        """
        state, progress = self.worker.state(), self.progress
        for name, array in state.items():
            if array.dtype == np.float32 and not all_finite(array):
                raise self._diverged(f"{name} is not finite on {self.name}")
        self.poll.record_checkpoint()
        progress.schedule = self.schedule.state()
        shared: dict[str, Any] = {"config": to_tables(self.config), "corpus": self.corpus.digest}
        if network := network_name(self.model):
            shared["network"] = network
        if self.leads:
            shared |= self.directory.records()
        done = progress.epoch * self.minibatches.steps + progress.step
        return self.checkpoints.save(
            done,
            state,
            {**progress.numbers(), **self.meter.state()},
            {**shared, **progress.shared()},
        )

    def _after(self, step: int) -> None:
        """Record a step, write a checkpoint if one is due, and handle signals. Collective."""
        steps, progress = self.minibatches.steps, self.progress
        progress.step = step + 1
        done = progress.epoch * steps + step + 1
        self.watchdog.step(done)
        tau = getattr(self.worker.exchange, "tau", None)
        if tau is not None and (step + 1) * _TAUS // steps > step * _TAUS // steps:
            progress.taus.append(tau)
        number, due = self.poll(self.signals.number)
        due |= self.every is not None and done % self.every == 0
        if not number and not due:
            return
        try:
            line = self._save()
        except CollectiveError as error:
            if number:
                raise
            line = f"gtcbmuf: {error}; training continues without a checkpoint"
        if self.leads:
            say(line)
        if number:
            raise InterruptedRunError(
                f"stopped by {signal.Signals(number).name} after step {step + 1} of epoch "
                f"{progress.epoch + 1}; the same command with --resume continues the run"
            )

    def _epochs(self) -> None:
        """Train and evaluate epoch by epoch. Collective."""
        world = self.topology.world
        folder, patience = self.out / "alive", 60 * self.config.train.patience
        meters = per_process(world, lambda _: list[Meter]())
        meters.append(self.meter)

        def part() -> str:  # of the worker that the others of this rank wait for
            parts = [meter.part for meter in meters]
            return next((part for part in parts if part not in WAITING), parts[0])

        def watch(ranks: MPI.Comm) -> Watchdog:
            return opened.enter_context(Watchdog(folder, ranks.rank, ranks.size, patience, part))

        with ExitStack() as opened:
            self.watchdog = per_process(world, watch)
            while self.progress.epoch < self.config.train.epochs:
                self._epoch()
                self.progress.end_epoch()

    def _epoch(self) -> None:
        world, steps, progress = self.topology.world, self.minibatches.steps, self.progress
        epoch, seed = progress.epoch, self.config.train.seed
        self.minibatches.begin_epoch(
            stream(seed, ORDER, 0, epoch),
            lambda window: stream(seed, WINDOWS, world.rank, epoch, window),
        )
        rate = self.schedule.rate
        self.worker.period = self.config.block_filter.period_of(epoch)
        progress.start_epoch()
        self._steps(epoch)
        seconds = progress.seconds_of_epoch()

        loss = math.fsum(world.allgather(progress.loss)) / len(self.corpus.train)
        anchor = self.worker.block_filter.anchor(self.vector)
        if not all_finite(anchor):
            raise self._diverged(f"a weight is not finite on {self.name}")
        progress.fer_valid = self._frame_error_rate(anchor, self.corpus.valid)
        self.schedule.end_epoch(progress.fer_valid)
        self.watchdog.step((epoch + 1) * steps)
        seconds = world.allreduce(seconds, MPI.MAX)
        bytes_sent = world.allreduce(self.meter.bytes_sent)
        updates_sent = world.allreduce(self.meter.updates_sent)
        seconds_of_parts = _over_ranks(world, [self.meter.seconds[part] for part in PARTS])
        by_part = dict(zip(PARTS, seconds_of_parts, strict=True))
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        [resident] = _over_ranks(world, [peak_kib / 1024])
        self.meter.reset()
        progress.train_seconds += seconds
        progress.bytes_sent += bytes_sent
        progress.updates_sent += updates_sent
        if self.leads:
            self._report(
                {
                    "epoch": epoch + 1,
                    "loss": loss,
                    "fer_valid": progress.fer_valid,
                    "learning_rate": rate,
                    "density": updates_sent / (self.vector.size * steps * world.size),
                    "tau": progress.taus,
                    "bytes_sent_per_step": bytes_sent / (steps * world.size),
                    "frames_per_second": len(self.corpus.train) / seconds,
                    "seconds": seconds,
                    # A worker that waits for a worker of its process waits for its computation.
                    **({} if self.shares_rank else {"seconds_by_part": by_part}),
                    "peak_resident_mib": resident,
                }
            )

    def _steps(self, epoch: int) -> None:
        """Run the steps of an epoch, or its remaining steps after a resume. Collective."""
        bar, exchange = self._bar(epoch), self.worker.exchange
        workers = self.topology.world.size

        overlapped = exchange if isinstance(exchange, Overlapped) else None

        def ready(first: int) -> None:
            if overlapped is not None:
                overlapped.ready(self.model.gradient, first)

        def gradient(step: int) -> Vector:
            with self.meter.time("read"):
                inputs, targets = self.minibatches[step]
            loss = self.model.backward(self.vector, inputs, targets, ready)
            if not math.isfinite(loss):  # before it reaches a checkpoint or another worker
                raise self._diverged(f"the loss of step {step + 1} is {loss} on {self.name}")
            self.progress.loss += loss
            if bar is not None:
                bar.update(len(inputs) * workers)
            return self.model.gradient

        try:
            self.worker.run(
                self.minibatches.steps,
                gradient,
                self.schedule.of_epoch(epoch, self.minibatches.steps),
                first=self.progress.step,
                after=self._after,
            )
        except NotFiniteError as error:
            error.where = self.name
            raise self._diverged(str(error)) from None
        finally:
            if bar is not None:
                bar.close()

    def _report(self, line: dict[str, Any]) -> None:
        """Write an epoch's metrics and print the most important ones."""
        for file in self.metrics_files:
            try:
                file.append_metrics(line)
            except UserError as error:
                say(f"gtcbmuf: {error}; training continues")
        say(
            f"epoch {line['epoch']:>2}/{self.config.train.epochs}  loss {line['loss']:6.4f}  "
            f"valid FER {line['fer_valid']:5.2f} %  rate {line['learning_rate']:.2e}  "
            f"density {100 * line['density']:.3g} %  "
            f"{line['frames_per_second']:,.0f} frames/s"
        )
        backlogs = getattr(self.worker.exchange, "backlogs", 0)
        share = (backlogs - self.backlogs) / self.minibatches.steps
        self.backlogs = backlogs
        targets = self.corpus.target_count
        for key, advice in advise(self.config, line, backlog_share=share, targets=targets).items():
            if key not in self.advised:
                say(f"gtcbmuf: {advice}")
                self.advised.add(key)

    def _diverged(self, how: str) -> DivergedError:
        config = self.config.train
        return DivergedError(
            f"training diverged in epoch {self.progress.epoch + 1}: {how}; lower "
            f"train.learning_rate ({config.learning_rate:g} per frame) or lengthen "
            f"train.warmup ({config.warmup:g} epochs)"
        )

    def _bar(self, epoch: int) -> Any:
        if not self.terminal:
            return None
        from tqdm import tqdm

        description = f"epoch {epoch + 1:>2}/{self.config.train.epochs}"
        if epoch:
            description += f"  valid FER {self.progress.fer_valid:5.2f} %"
        return tqdm(
            total=len(self.corpus.train),
            desc=description,
            unit=" frames",
            unit_scale=True,
            leave=False,
            ncols=100,
        )

    def _frame_error_rate(self, vector: Vector, split: Split) -> float:
        """Return the frame error rate on a split, in per cent. Collective."""
        world = self.topology.world
        share = FrameErrors(split, self.model.context, world.size, world.rank)
        errors = share.count(self.model, vector)
        del share  # its buffers: a process may carry a thousand workers
        total: int = world.allreduce(errors)
        return 100 * total / len(split)

    def _error_rates(self, vector: Vector) -> tuple[float, float | None]:
        """Return FER and PER on the test set, in per cent. Collective.

        PER is None if the phones are unknown.
        """
        result = per_process(
            self.topology.world,
            lambda comm: evaluate(comm, self.model, vector, self.corpus, "test"),
        )
        return result.total.fer, result.total.per if result.decoding else None

    def _finish(self, test: bool) -> dict[str, Any]:
        """Evaluate the test set if `test` is set, and write the results. Collective."""
        anchor = self.worker.block_filter.anchor(self.vector)
        fer_test, per_test = self._error_rates(anchor) if test else (None, None)
        summary = on_root(
            self.topology.world, lambda: self._write_results(anchor, fer_test, per_test)
        )
        if self.leads and fer_test is not None:
            phones = "" if per_test is None else f"  PER {per_test:.2f} %"
            say(f"test FER {fer_test:.2f} %{phones}")
        return summary

    def _write_results(
        self, anchor: NDArray[np.float32], fer_test: float | None, per_test: float | None
    ) -> dict[str, Any]:
        """Write the model, the summary and the outcome, and delete the checkpoints.

        Only rank 0 calls it.
        """
        config, world, progress = self.config.train, self.topology.world, self.progress
        steps = self.minibatches.steps * config.epochs
        frames = len(self.corpus.train) * config.epochs
        save_model(self.out / "model.h5", SavedModel.of(self.model, anchor, self.corpus))
        summary: dict[str, Any] = {
            "method": self.method,
            "workers": world.size,
            "group_size": self.topology.group.size,
            "groups": self.topology.groups,
            "seed": config.seed,
            "epochs": config.epochs,
            "parameters": self.vector.size,
            "frames": frames,
            "steps": steps,
            "fer_valid": progress.fer_valid,
            "fer_test": fer_test,
            "per_test": per_test,
            "wall_seconds": progress.seconds_of_run(),
            "frames_per_second": frames / progress.train_seconds,
            "bytes_sent_per_step": progress.bytes_sent / (steps * world.size),
            "density": progress.updates_sent / (self.vector.size * steps * world.size),
            "weights_sha256": sha256(anchor),
        }
        self.directory.write_summary(summary)
        write_outcome(self.out, Outcome("finished", summary["wall_seconds"]))
        shutil.rmtree(self.out / "checkpoints", ignore_errors=True)
        return summary


def _over_ranks(world: MPI.Comm, values: list[float]) -> list[dict[str, float]]:
    """Return the minimum, mean and maximum of each value over the ranks. Collective."""
    table = np.array(world.allgather(values))
    return [
        {"min": float(column.min()), "mean": float(column.mean()), "max": float(column.max())}
        for column in table.T
    ]
