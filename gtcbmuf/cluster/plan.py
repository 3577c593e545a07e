"""What each method would cost and buy on a cluster: modelled by `costs`, never measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.plotting import picture
from gtcbmuf.base.provenance import processor
from gtcbmuf.base.tables import markdown
from gtcbmuf.cluster.costs import Method, StepTime, group_sizes, hosts_of, link_bytes, step_time
from gtcbmuf.cluster.profile import MOST_PER_HOST, Compute, Network, read_profile
from gtcbmuf.config.loading import load_config, recipe_names
from gtcbmuf.methods import EXCHANGES, FILTERS

T = TypeVar("T")

#: What `Plan.enough` tries.
PERIODS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
DENSITIES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 5e-4, 2e-4, 1e-4)
#: Of the fastest that a longer period or a lower density could make a method, what is enough.
ENOUGH = 0.95
#: Twice as many workers pay if they are faster than any fewer by this factor at least.
PAYS = 1.2
#: How far predicted steps were off, as shares of the measured ones: the median, and the 90th
#: percentile of the size, of the steps in results/plan/held-out/steps.csv (scripts/hold-costs),
#: which were measured when the model was as it is.
OFF = {
    "sync-sgd": (-0.09, 0.18),
    "gtc": (-0.22, 0.42),
    "bmuf": (-0.1, 0.18),
    "gtc-bmuf": (-0.15, 0.23),
}
_HELD = "2 to 8 workers on 2 to 4 emulated hosts"
#: What a plan can be of: the wire takes n < 2^31, a configuration a minibatch up to 2^20; the
#: rest is far beyond what there is.
LIMITS = {
    "workers": (2, 10_000_000),
    "most": (2, 10_000_000),
    "workers-per-host": (1, MOST_PER_HOST),
    "parameters": (1, 2**31 - 1),
    "minibatch": (1, 2**20),
    "period": (1, 2**31 - 1),
    "density": (1e-9, 1.0),
    "hours": (1e-9, 1e9),
    "epochs": (1, 1_000_000),
}
_FRAMES_PER_HOUR = 360_000


def read_cluster(
    path: Path | None,
    network: Path | None,
    *,
    elsewhere: bool,
    workers_per_host: int | None = None,
) -> tuple[Compute, Network]:
    """A cluster's compute and network, of one file or of two.

    Args:
        path: of a cluster.
        network: of a file whose network counts instead.
        elsewhere: compute may have been measured on another processor than this host's.
        workers_per_host: instead of the network's.

    Raises:
        UserError: a part is missing, a file is at fault, or was measured on another machine.
    """
    if path is None:
        raise UserError("--cluster: expected a file that `gtcbmuf calibrate --out FILE` made")
    found = read_profile(path)
    if found.compute is None:
        raise UserError(f"{path}: has no [compute]; calibrate on one of the cluster's hosts")
    if not elsewhere and not found.processor:
        raise UserError(
            f"{path}: does not say which processor its [compute] is of; write processor = "
            f"{processor()!r} if it is this host's, or say --elsewhere"
        )
    if found.processor != (here := processor()) and not elsewhere:
        raise UserError(
            f"{path}: measured on {found.processor!r}, but this host has {here!r}; calibrate here, "
            "or say --elsewhere if the plan is for that one"
        )
    its = read_profile(network).network if network else found.network
    if its is None:
        raise UserError(
            f"{network or path}: has no [network]; calibrate with two hosts of two workers each, "
            "or write one and name it with --network"
        )
    if workers_per_host is not None:
        check_within({"workers-per-host": workers_per_host})
        its = msgspec.structs.replace(its, workers_per_host=workers_per_host)
    return found.compute, its


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
        sharded: with `block_filter.sharded`.
        overlap: with `exchange.overlap`.
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
        """The methods of one tier at a number of workers: one group, or groups of one."""
        return {
            tiers.name: replace(tiers, workers=workers, group_size=size)
            for tiers in self._tiers()
            if tiers.exchange.connects is not tiers.block_filter.connects
            for size in [workers if tiers.exchange.connects else 1]
        }

    def methods(self, workers: int) -> dict[str, Method]:
        """Every method at a number of workers, hybrids with the fastest group size."""
        fastest = self.plain(workers)
        for hybrid in self.hybrids(workers):
            best = fastest.setdefault(hybrid.name, hybrid)
            fastest[hybrid.name] = min(best, hybrid, key=lambda method: self.step(method).sum)
        return fastest

    def hybrids(self, workers: int) -> list[Method]:
        """Methods of two tiers, each with every possible group size, or with the plan's."""
        return [
            replace(tiers, workers=workers, group_size=size)
            for tiers in self._tiers()
            if tiers.exchange.connects and tiers.block_filter.connects
            for size in group_sizes(workers)
            if self.group_size in (None, size)
        ]

    def _tiers(self) -> list[Method]:
        """The methods that have recipes, for one worker, with the keys of this plan."""
        keys = {"density": self.density, "overlap": self.overlap}
        return [
            Method(
                1,
                1,
                exchange().with_keys(**keys),
                block_filter().with_keys(period=self.period, sharded=self.sharded),
            )
            for kind, block_filter in FILTERS.items()
            for exchange_kind, exchange in EXCHANGES.items()
            if (exchange_kind, kind) in _recipe_kinds()
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
        return hosts_of(workers, self.network.workers_per_host)

    def enough(self, method: Method) -> tuple[int | None, float | None]:
        """The shortest period and the highest density that leave it nearly its best speed.

        Each is looked for with the other as the plan has it: shorter blocks and more updates are
        better for the error, so no more speed is bought than there is.
        """
        exchange, block_filter = method.exchange, method.block_filter
        period = density = None
        if block_filter.connects:
            filters = {k: block_filter.with_keys(period=k) for k in PERIODS}
            period = self._first_near_best(
                {k: replace(method, block_filter=spec) for k, spec in filters.items()}
            )
        if exchange.compresses:
            exchanges = {share: exchange.with_keys(density=share) for share in DENSITIES}
            density = self._first_near_best(
                {share: replace(method, exchange=spec) for share, spec in exchanges.items()}
            )
        return period, density

    def _first_near_best(self, methods: Mapping[T, Method]) -> T:
        speeds = {value: self.speed_up(method) for value, method in methods.items()}
        most = max(speeds.values())
        return next(value for value, speed in speeds.items() if speed >= ENOUGH * most)

    def counts(self, workers: int, most: int) -> list[int]:
        """Numbers of workers to look at: doubling up to `most`, with that one, and `workers`.

        From twice the plan's group size on they are multiples of it.
        """
        base = self.group_size or 1
        small = [2**power for power in range(1, base.bit_length() + 1) if 2**power < 2 * base]
        doubled = [base * 2**power for power in range(1, (most // base).bit_length())]
        last = most - most % base
        return sorted({*small, *doubled, workers, *([last] if last > base else [])})


@cache
def _recipe_kinds() -> frozenset[tuple[str, str]]:
    """Kinds of exchange and block filter that a recipe combines."""
    recipes = map(load_config, recipe_names())
    return frozenset((recipe.exchange.kind, recipe.block_filter.kind) for recipe in recipes)


def check_within(values: Mapping[str, float]) -> None:
    """Raise for the first option whose value is out of its `LIMITS`.

    Raises:
        UserError: names it.
    """
    for name, value in values.items():
        least, most = LIMITS[name]
        if not least <= value <= most:
            shown = f"{value:g}" if isinstance(value, float) else value
            raise UserError(f"--{name} {shown}: expected {least:,} to {most:,}")


def parse_parameters(parameters: float) -> int:
    """A number of parameters, as a whole number.

    Raises:
        UserError: it is none, or out of its bounds.
    """
    check_within({"parameters": parameters})
    if parameters != round(parameters):
        raise UserError(f"--parameters {parameters:g}: expected a whole number")
    return round(parameters)


def check_plan(plan: Plan, workers: int, *, most: int, hours: float, epochs: int) -> None:
    """Raise for what cannot be planned.

    Raises:
        UserError: a group size that cannot be, or a value out of its bounds.
    """
    check_within({"workers": workers, "most": most, "hours": hours, "epochs": epochs})
    check_within({name: getattr(plan, name) for name in ("minibatch", "density", "period")})
    size, possible = plan.group_size, group_sizes(workers)
    if size is None or size in possible:
        return
    why = f"does not divide the {workers} workers"
    if size == workers:
        why = f"is all {workers} workers, which is gtc, without another group to filter with"
    elif size == 1:
        why = "is a worker without another to exchange with, which is bmuf"
    expected = ", ".join(map(str, possible)) or "another number of workers: it has no divisors"
    raise UserError(f"--group-size {size}: {why}; expected {expected}")


def format_methods(plan: Plan, workers: int, speech: float) -> str:
    """A table of every method at a number of workers.

    Args:
        plan: of what, and on what.
        workers: N.
        speech: hours to be trained on in all: those of the corpus times the epochs.
    """
    frames = speech * _FRAMES_PER_HOUR
    rows = []
    for method in [Method(1, 1), *plan.plain(workers).values(), *plan.hybrids(workers)]:
        time, hosts = plan.step(method).sum, plan.hosts(method.workers)
        hours = frames / (method.workers * plan.minibatch) * time / 3600
        sent = link_bytes(method, plan.parameters, plan.network.workers_per_host)
        period, density = plan.enough(method)
        rows.append(
            (
                method.name,
                str(method.workers),
                str(method.group_size),
                f"{time * 1e3:.3g}",
                _speed_up(plan, method),
                f"{sent / 1e6:.3g}",
                f"{hours:.3g}",
                f"{hours * hosts:.3g}",
                "" if period is None else str(period),
                "" if density is None else f"{density:g}",
            )
        )
    headers = ("method", "workers", "group", "step ms", "speed-up", "MB a link and step")
    return markdown((*headers, "hours", "node-hours", "period", "density"), rows)


def format_speed_ups(plan: Plan, numbers: Sequence[int]) -> str:
    """A table of speed-ups over numbers of workers, and where each method stops to pay."""
    by_workers = {number: plan.methods(number) for number in numbers}
    names = list(dict.fromkeys(name for methods in by_workers.values() for name in methods))
    hybrids = [name for name in names if name not in plan.plain(2)]
    rows = []
    for number, methods in by_workers.items():
        cells = (_speed_up(plan, methods[name]) if name in methods else "" for name in names)
        sizes = (str(methods[name].group_size) if name in methods else "" for name in hybrids)
        rows.append((str(number), *cells, *sizes))
    paying = [str(pays_until(speed_ups)) for speed_ups in curves(plan, numbers).values()]
    rows.append(("pays until", *paying, *("" for _ in hybrids)))
    return markdown(("workers", *names, *("groups of" for _ in hybrids)), rows)


def _speed_up(plan: Plan, method: Method) -> str:
    """A cell of a table; with overlap, what it is without beside it."""
    shown = f"{plan.speed_up(method):.3g}"
    if not method.exchange.overlaps:
        return shown
    blocking = replace(method, exchange=method.exchange.with_keys(overlap=False))
    return f"{shown} ({plan.speed_up(blocking):.3g})"


def pays_until(speed_ups: Mapping[int, float]) -> int:
    """The last number of workers that still pays.

    That is one that is `PAYS` times as fast as any number of half as many or fewer, down to one
    worker; and as any in between by what of that factor lies between (of two on a scale of
    logarithms).

    Args:
        speed_ups: by workers, 2 or more, ascending.
    """
    last, before = 1, {1: 1.0}
    for workers, speed_up in speed_ups.items():
        wanted = (
            speed * PAYS ** min(1.0, math.log2(workers / number))
            for number, speed in before.items()
        )
        if speed_up >= max(wanted):
            last = workers
        before[workers] = speed_up
    return last


def curves(plan: Plan, numbers: Sequence[int]) -> dict[str, dict[int, float]]:
    """Speed-ups of every method over numbers of workers."""
    found: dict[str, dict[int, float]] = {}
    for number in numbers:
        for name, method in plan.methods(number).items():
            found.setdefault(name, {})[number] = plan.speed_up(method)
    return found


def format_caveats(plan: Plan, workers: int) -> str:
    """How sure it is, and what it rests on, a line each."""
    off = (f"{name} {median:+.0%} ({most:.0%})" for name, (median, most) in OFF.items())
    beyond = "" if workers <= 8 else f"; {workers} workers are far beyond that"
    lines = [
        f"modelled, not measured; predicted steps of {_HELD} were off by a median of (nine in ten "
        f"by no more than): {', '.join(off)}; most were too short, and so speed-ups are "
        f"overstated, where workers shared cores (docs/plan.md){beyond}"
    ]
    if untried := [name for name in plan.methods(workers) if name not in OFF]:
        lines.append(f"no step of {', '.join(untried)} was held against the model")
    per_host, cores = plan.network.workers_per_host, plan.network.cores_per_host
    if (on_full := min(workers, per_host)) > cores:
        lines.append(
            f"{on_full} workers share the {cores:g} cores of a host (network.cores_per_host), and "
            f"each computes {on_full / cores:.3g} times as long; if they will have more, say so in "
            "the file"
        )
    if plan.overlap:
        lines.append(
            "in brackets: without overlap; where it was measured, on two hosts, gtc gained nothing "
            "by it (README, bench collectives)"
        )
    return "\n".join(lines)


def plot_speed_ups(plan: Plan, numbers: Sequence[int], path: Path) -> None:
    """Speed-ups over numbers of workers.

    Raises:
        UserError: it cannot be drawn to that place.
    """
    try:
        with picture(path, 7, 4.5) as axes:
            for name, by in curves(plan, numbers).items():
                axes.plot(list(by), list(by.values()), marker=".", label=name)
            axes.plot(numbers, numbers, color="gray", linewidth=0.8)
            axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="speed-up, modelled")
            axes.grid(alpha=0.3)
            axes.legend()
    except UserError as error:
        raise UserError(f"--plot {error}") from None
