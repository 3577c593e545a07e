"""What each method would cost and buy on a cluster: modelled by `gtcbmuf.costs`, never measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gtcbmuf import cluster
from gtcbmuf.cluster import Compute, Network
from gtcbmuf.costs import Method, StepTime, link_bytes, step_time
from gtcbmuf.drawing import drawn
from gtcbmuf.errors import UserError
from gtcbmuf.runlog import processor
from gtcbmuf.tables import markdown

#: Of the fastest that a longer period or a lower density could make a method, what is enough.
ENOUGH = 0.95
#: More workers pay if they are faster by this factor at least.
PAYS = 1.2
#: How far predictions were off, as a share of what was measured: median and 90th percentile over
#: the steps of results/plan/steps.csv (scripts/hold-costs).
OFF = (0.1, 0.19)
_HELD = "2 to 8 workers on 2 to 4 emulated hosts"
_FRAMES_PER_HOUR = 360_000


def read(path: Path | None, network: Path | None, *, elsewhere: bool) -> tuple[Compute, Network]:
    """A cluster's compute and network, of one file or of two.

    Args:
        path: of a cluster.
        network: of a file whose network counts instead.
        elsewhere: compute may have been measured on another processor than this host's.

    Raises:
        UserError: a part is missing, a file is at fault, or was measured on another machine.
    """
    if path is None:
        raise UserError("--cluster: expected a file that `gtcbmuf calibrate --out FILE` made")
    found = cluster.read(path)
    if found.compute is None:
        raise UserError(f"{path}: has no [compute]; calibrate on one of the cluster's hosts")
    if found.processor != (here := processor()) and not elsewhere:
        raise UserError(
            f"{path}: measured on {found.processor!r}, but this host has {here!r}; calibrate here, "
            "or say --elsewhere if the plan is for that one"
        )
    its = cluster.read(network) if network else found
    if its.network is None:
        raise UserError(
            f"{network or path}: has no [network]; calibrate with two hosts of two workers each, "
            "or write one and name it with --network"
        )
    return found.compute, its.network


@dataclass(frozen=True)
class Plan:
    """What is to be trained, and on what.

    Attributes:
        compute, network: the cluster.
        parameters: n of the model.
        minibatch: frames of a worker in a step.
        density: of messages.
        period: K of block filters.
        group_size: M of the hybrid; None for the fastest.
        sharded, overlap: of `gtcbmuf.costs.Method`.
    """

    compute: Compute
    network: Network
    parameters: int
    minibatch: int
    density: float
    period: int
    group_size: int | None = None
    sharded: bool = False
    overlap: bool = False

    def plain(self, workers: int) -> dict[str, Method]:
        """The methods of one tier at a number of workers."""
        return {
            "sync-sgd": Method(workers, workers, overlap=self.overlap),
            "gtc": Method(workers, workers, self.density, overlap=self.overlap),
            "bmuf": Method(workers, 1, None, self.period),
        }

    def methods(self, workers: int) -> dict[str, Method]:
        """Every method at a number of workers, the hybrid with the fastest group size."""
        found = self.plain(workers)
        if hybrids := self.hybrids(workers):
            found["gtc-bmuf"] = min(hybrids, key=lambda method: self.step(method).sum)
        return found

    def hybrids(self, workers: int) -> list[Method]:
        """The hybrid with each group size that can be: powers of two, or the plan's."""
        sizes = [2**power for power in range(1, workers.bit_length())]
        shared = {"sharded": self.sharded, "overlap": self.overlap}
        return [
            Method(workers, size, self.density, self.period, **shared)
            for size in ([self.group_size] if self.group_size else sizes)
            if workers % size == 0 and size < workers
        ]

    def step(self, method: Method) -> StepTime:
        """The time of a step, by parts."""
        sizes = {"parameters": self.parameters, "minibatch": self.minibatch}
        return step_time(self.compute, self.network, method, **sizes)

    def speed_up(self, method: Method) -> float:
        """Frames a second, against one worker."""
        return method.workers * self.step(Method(1, 1)).sum / self.step(method).sum

    def hosts(self, workers: int) -> int:
        """That so many workers need."""
        return -(-workers // self.network.workers_per_host)

    def enough(self, method: Method) -> tuple[int | None, float | None]:
        """The shortest period and the highest density that leave it nearly its best speed.

        Each is looked for with the other as the plan has it: shorter blocks and more updates are
        better for the error, so no more speed is bought than there is.
        """
        periods = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500) if method.period]
        densities = [0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 5e-4, 2e-4, 1e-4]
        by_period = [replace(method, period=k) for k in periods]
        by_density = [replace(method, density=d) for d in densities if method.density is not None]
        period, density = (
            next((one for one in many if self._near_best(one, many)), None)
            for many in (by_period, by_density)
        )
        return period.period if period else None, density.density if density else None

    def _near_best(self, method: Method, others: Sequence[Method]) -> bool:
        return self.speed_up(method) >= ENOUGH * max(map(self.speed_up, others))


def check(plan: Plan, workers: int, *, most: int, hours: float, epochs: int) -> None:
    """Raise for what cannot be planned.

    Raises:
        UserError: a group size that does not divide the workers, or a value out of its range.
    """
    if not hours > 0:
        raise UserError(f"--hours {hours:g}: expected more than 0")
    if epochs < 1:
        raise UserError(f"--epochs {epochs}: expected 1 or more")
    for name, number in (("workers", workers), ("most", most)):
        if number < 2:
            raise UserError(f"--{name} {number}: expected 2 or more")
    size = plan.group_size
    if size is not None and not (1 <= size < workers and workers % size == 0):
        raise UserError(f"--group-size {size}: expected a number that divides {workers} workers")
    if not 0 < plan.density <= 1:
        raise UserError(f"--density {plan.density:g}: expected a share above 0, up to 1")
    for name in ("minibatch", "period"):
        if getattr(plan, name) < 1:
            raise UserError(f"--{name} {getattr(plan, name)}: expected 1 or more")


def at(plan: Plan, workers: int, speech: float) -> str:
    """A table of every method at a number of workers.

    Args:
        plan: of what, and on what.
        workers: N.
        speech: hours to be trained on in all: those of the corpus times the epochs.
    """
    frames = speech * _FRAMES_PER_HOUR
    rows = []
    hybrids = [("gtc-bmuf", method) for method in plan.hybrids(workers)]
    for name, method in [("sgd", Method(1, 1)), *plan.plain(workers).items(), *hybrids]:
        time, hosts = plan.step(method).sum, plan.hosts(method.workers)
        hours = frames / (method.workers * plan.minibatch) * time / 3600
        period, density = plan.enough(method)
        rows.append(
            (
                name,
                str(method.workers),
                str(method.group_size),
                f"{time * 1e3:.3g}",
                f"{plan.speed_up(method):.1f}",
                f"{link_bytes(method, plan.parameters, hosts) / 1e6:.3g}",
                f"{hours:.3g}",
                f"{hours * hosts:.3g}",
                "" if period is None else str(period),
                "" if density is None else f"{density:g}",
            )
        )
    headers = ("method", "workers", "group", "step ms", "speed-up", "MB a link and step")
    return markdown((*headers, "hours", "node-hours", "period", "density"), rows)


def over(plan: Plan, most: int) -> str:
    """A table of speed-ups from 2 workers on, doubling, and where each method stops to pay."""
    numbers = [2**power for power in range(1, most.bit_length())]
    rows = []
    for name, by in curves(plan, numbers).items():
        speed_ups = (f"{by[number]:.3g}" if number in by else "" for number in numbers)
        rows.append((name, *speed_ups, str(pays_until(by))))
    return markdown(("speed-up at", *map(str, numbers), "pays until"), rows)


def pays_until(speed_ups: Mapping[int, float]) -> int:
    """The last number of workers that is faster than one and all fewer, by `PAYS`.

    Args:
        speed_ups: by workers, ascending.
    """
    last, best = 1, 1.0
    for workers, speed_up in speed_ups.items():
        if speed_up >= PAYS * best:
            last, best = workers, speed_up
    return last


def curves(plan: Plan, numbers: Sequence[int]) -> dict[str, dict[int, float]]:
    """Speed-ups of every method over numbers of workers."""
    found: dict[str, dict[int, float]] = {}
    for number in numbers:
        for name, method in plan.methods(number).items():
            found.setdefault(name, {})[number] = plan.speed_up(method)
    return found


def sure(workers: int) -> str:
    """How sure it is, in a line."""
    beyond = "" if workers <= 8 else f"; {workers} workers are far beyond that"
    return (
        f"modelled: predictions for {_HELD} were off by {OFF[0]:.0%} (median) and {OFF[1]:.0%} "
        f"(90th percentile){beyond}"
    )


def plot(plan: Plan, most: int, path: Path) -> None:
    """Speed-ups over workers.

    Raises:
        UserError: it cannot be drawn to that place.
    """
    numbers = [2**power for power in range(1, most.bit_length())]
    with drawn(path, 7, 4.5) as axes:
        for name, by in curves(plan, numbers).items():
            axes.plot(list(by), list(by.values()), marker=".", label=name)
        axes.plot(numbers, numbers, color="gray", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="speed-up, modelled")
        axes.grid(alpha=0.3)
        axes.legend()
