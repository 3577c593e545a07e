"""Plans: modelled speed-ups of every method on a cluster. Nothing here is measured.

`gtcbmuf.cluster.costs` models a step. `gtcbmuf.cluster.plan_report` prints and draws a plan.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.provenance import processor
from gtcbmuf.base.shapes import Shapes, square_matrices
from gtcbmuf.cluster.costs import SLICES, Method, StepTime, step_time
from gtcbmuf.cluster.placement import group_sizes, host_count
from gtcbmuf.cluster.profile import MOST_PER_HOST, Compute, Network, read_profile
from gtcbmuf.config.loading import load_config, recipe_names
from gtcbmuf.methods import EXCHANGES, FILTERS

T = TypeVar("T")

#: Periods and densities that `Plan.sufficient_settings` tries.
PERIODS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
DENSITIES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 5e-4, 2e-4, 1e-4)
#: Share of a method's best speed-up that is sufficient.
NEAR_BEST = 0.95
#: Factor by which twice as many workers must be faster in order to pay.
PAYING_FACTOR = 1.2
#: Valid ranges of a plan's options. The wire format allows n < 2^31, and a configuration allows
#: minibatches up to 2^20. The other bounds are far beyond any real cluster.
LIMITS = {
    "workers": (2, 10_000_000),
    "most": (2, 10_000_000),
    "workers-per-host": (1, MOST_PER_HOST),
    "parameters": (1, 2**31 - 1),
    "minibatch": (1, 2**20),
    "period": (1, 2**31 - 1),
    "density": (1e-9, 1.0),
    "step": (0.001, 100.0),
    "hours": (1e-9, 1e9),
    "epochs": (1, 1_000_000),
}


def read_cluster(
    path: Path | None,
    network: Path | None,
    *,
    elsewhere: bool,
    workers_per_host: int | None = None,
) -> tuple[Compute, Network]:
    """Read the compute costs and the network of a cluster, from one file or from two.

    Args:
        path: profile of the cluster.
        network: another profile. Its network replaces the cluster's.
        elsewhere: whether the compute costs may be those of another processor than this host's.
        workers_per_host: replaces the network's value.

    Returns:
        Compute costs and network of the cluster.

    Raises:
        UserError: a file cannot be read, lacks a table, or describes another processor.
    """
    if path is None:
        raise UserError("--cluster: expected a file from `gtcbmuf calibrate --out FILE`")
    cluster = read_profile(path)
    if cluster.compute is None:
        raise UserError(f"{path}: no table [compute]; calibrate on a host of the cluster")
    if not elsewhere and not cluster.processor:
        raise UserError(
            f"{path}: no key processor; add processor = {processor()!r} if [compute] is of this "
            "host, or use --elsewhere"
        )
    if cluster.processor != (here := processor()) and not elsewhere:
        raise UserError(
            f"{path}: measured on {cluster.processor!r}, but this host has {here!r}; calibrate "
            "here, or use --elsewhere to plan for that processor"
        )
    links = read_profile(network).network if network else cluster.network
    if links is None:
        raise UserError(
            f"{network or path}: no table [network]; calibrate on two hosts with two workers "
            "each, or name a file that has one with --network"
        )
    if workers_per_host is not None:
        check_limits({"workers-per-host": workers_per_host})
        links = msgspec.structs.replace(links, workers_per_host=workers_per_host)
    return cluster.compute, links


@dataclass(frozen=True)
class Plan:
    """The model to train, the settings of the methods, and the cluster.

    Attributes:
        compute: compute costs of a worker of the cluster.
        network: network of the cluster.
        parameters: parameters of the model, n.
        minibatch: frames per worker and step.
        density: share of the parameters whose update is sent in a step.
        period: steps in a block, K.
        group_size: workers in a group of the hybrid, M; None for the fastest size.
        bits: bits of a number in a dense exchange: 32, 16 or 8.
        block_step: quantisation step of a block's change, `block_filter.step`.
        delay: steps until a block's result arrives, `block_filter.delay`.
        overlap: whether a dense exchange overlaps with the backward pass.
    """

    compute: Compute
    network: Network
    parameters: int
    minibatch: int
    density: float
    period: int
    group_size: int | None = None
    bits: int = 32
    block_step: float = 2.0
    delay: int = 0
    overlap: bool = False

    def single_tier_methods(self, workers: int) -> dict[str, Method]:
        """List the methods of one tier, by name. They have one group, or groups of one worker."""
        return {
            method.name: replace(method, workers=workers, group_size=size)
            for method in self._recipe_methods()
            if method.exchange.connects is not method.block_filter.connects
            for size in [workers if method.exchange.connects else 1]
        }

    def methods(self, workers: int) -> dict[str, Method]:
        """List every method, by name. Hybrids have the fastest group size."""
        fastest = self.single_tier_methods(workers)
        for hybrid in self.hybrids(workers):
            best = fastest.setdefault(hybrid.name, hybrid)
            fastest[hybrid.name] = min(best, hybrid, key=lambda method: self.step(method).sum)
        return fastest

    def hybrids(self, workers: int) -> list[Method]:
        """List the methods of two tiers with every possible group size, or the plan's size."""
        return [
            replace(method, workers=workers, group_size=size)
            for method in self._recipe_methods()
            if method.exchange.connects and method.block_filter.connects
            for size in group_sizes(workers)
            if self.group_size in (None, size)
        ]

    def _recipe_methods(self) -> list[Method]:
        """List the methods of all recipes, with the settings of this plan, for one worker."""
        keys = {"density": self.density, "bits": self.bits, "overlap": self.overlap}
        keys_of_filter = {"period": self.period, "step": self.block_step, "delay": self.delay}
        return [
            Method(
                1,
                1,
                exchange().with_keys(**keys),
                block_filter().with_keys(**keys_of_filter),
                _recipe_kinds()[exchange_kind, kind],
            )
            for kind, block_filter in FILTERS.items()
            for exchange_kind, exchange in EXCHANGES.items()
            if (exchange_kind, kind) in _recipe_kinds()
        ]

    def step(self, method: Method) -> StepTime:
        """Model the time of a method's step, by parts, in seconds."""
        return step_time(
            self.compute, self.network, method, shapes=self.shapes, minibatch=self.minibatch
        )

    @property
    def shapes(self) -> Shapes:
        """Shapes of the model's arrays. A plan knows no layers, so it assumes equal matrices."""
        return square_matrices(self.parameters, SLICES)

    def speed_up(self, method: Method) -> float:
        """Model the speed-up: frames per second, relative to one worker."""
        return method.workers * self.step(Method(1, 1)).sum / self.step(method).sum

    def host_count(self, workers: int) -> int:
        """Compute the number of this cluster's hosts for a number of workers."""
        return host_count(workers, self.network.workers_per_host)

    def sufficient_settings(self, method: Method) -> tuple[int | None, float | None]:
        """Find the shortest period and the highest density at nearly the best speed-up.

        Shorter blocks, to a point, and more updates lower the error. Longer blocks or fewer updates
        would gain little speed. Each setting varies while the other keeps its value in the plan.

        Args:
            method: a method with the settings of this plan.

        Returns:
            Period and density. The period is None without a block filter. The density is None
            without a compressing exchange.
        """
        exchange, block_filter = method.exchange, method.block_filter
        period = density = None
        if block_filter.connects:
            periods = [k for k in PERIODS if k > block_filter.late_steps] or [block_filter.period]
            filters = {k: block_filter.with_keys(period=k) for k in periods}
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
        best = max(speeds.values())
        return next(value for value, speed in speeds.items() if speed >= NEAR_BEST * best)

    def worker_counts(self, workers: int, most: int) -> list[int]:
        """List the numbers of workers for a table of speed-ups, in ascending order.

        The numbers double up to `most`, and include `most` and `workers`. If the plan has a group
        size, numbers from twice that size on are multiples of it.

        Args:
            workers: number of workers to plan for, N.
            most: largest number of workers.
        """
        base = self.group_size or 1
        small = [2**power for power in range(1, base.bit_length() + 1) if 2**power < 2 * base]
        multiples = [base * 2**power for power in range(1, (most // base).bit_length())]
        last = most - most % base
        return sorted({*small, *multiples, workers, *([last] if last > base else [])})


@cache
def _recipe_kinds() -> Mapping[tuple[str, str], int]:
    """Map the exchange kind and block filter kind of a recipe to its optimiser's passes."""
    return {
        (recipe.exchange.kind, recipe.block_filter.kind): recipe.train.optimizer_passes
        for recipe in map(load_config, recipe_names())
    }


def check_limits(values: Mapping[str, float]) -> None:
    """Check that options are within their `LIMITS`.

    Args:
        values: value of each option, by the option's name.

    Raises:
        UserError: a value is outside its limits. The line names the first such option.
    """
    for name, value in values.items():
        least, most = LIMITS[name]
        if not least <= value <= most:
            text = f"{value:g}" if isinstance(value, float) else value
            raise UserError(f"--{name} {text}: expected {least:,} to {most:,}")


def parse_parameters(parameters: float) -> int:
    """Convert a number of parameters, such as 5e6, to an integer.

    Raises:
        UserError: the number is not whole, or outside its limits.

    Examples:
        >>> parse_parameters(5e6)
        5000000
    """
    check_limits({"parameters": parameters})
    if parameters != round(parameters):
        raise UserError(f"--parameters {parameters:g}: expected a whole number")
    return round(parameters)


def check_plan(plan: Plan, workers: int, *, most: int, hours: float, epochs: int) -> None:
    """Check the options of a plan.

    Args:
        plan: the plan.
        workers: number of workers to plan for, N.
        most: largest number of workers in the table of speed-ups.
        hours: hours of speech in the corpus.
        epochs: epochs of training.

    Raises:
        UserError: a value is outside its limits, two options exclude each other, or the workers
            cannot form groups of the plan's size.
    """
    check_limits({"workers": workers, "most": most, "hours": hours, "epochs": epochs})
    check_limits({name: getattr(plan, name) for name in ("minibatch", "density", "period")})
    check_limits({"step": plan.block_step})
    if not 0 <= plan.delay < plan.period:
        raise UserError(f"--delay {plan.delay}: expected 0 to {plan.period - 1}, below the period")
    if plan.overlap and plan.bits != 32:
        raise UserError(f"--bits {plan.bits}: expected 32 with --overlap")
    size, valid_sizes = plan.group_size, group_sizes(workers)
    if size is None or size in valid_sizes:
        return
    why = f"does not divide the {workers} workers"
    if size == workers:
        why = f"one group of all {workers} workers is gtc, not a hybrid"
    elif size == 1:
        why = "groups of one worker are bmuf, not a hybrid"
    expected = ", ".join(map(str, valid_sizes)) or "a number of workers that is not a prime"
    raise UserError(f"--group-size {size}: {why}; expected {expected}")


def pays_until(speed_ups: Mapping[int, float]) -> int:
    """Find the largest number of workers that pays.

    A number N pays if it is `PAYING_FACTOR` times as fast as every number up to N / 2, including
    one worker. Compared with a number n above N / 2, the factor is PAYING_FACTOR ** log2(N / n).

    Args:
        speed_ups: speed-up of each number of workers from 2 on, in ascending order.

    Returns:
        The number of workers; 1 if no number pays.

    Examples:
        >>> pays_until({2: 1.9, 4: 3.5, 8: 4.1, 16: 4.5})
        4
    """
    last, smaller = 1, {1: 1.0}
    for workers, speed_up in speed_ups.items():
        thresholds = (
            speed * PAYING_FACTOR ** min(1.0, math.log2(workers / number))
            for number, speed in smaller.items()
        )
        if speed_up >= max(thresholds):
            last = workers
        smaller[workers] = speed_up
    return last


def speed_up_curves(plan: Plan, numbers: Sequence[int]) -> dict[str, dict[int, float]]:
    """Model the speed-ups of every method, by its name and the number of workers.

    Args:
        plan: the plan.
        numbers: numbers of workers.
    """
    curves: dict[str, dict[int, float]] = {}
    for number in numbers:
        for name, method in plan.methods(number).items():
            curves.setdefault(name, {})[number] = plan.speed_up(method)
    return curves
