"""The report of a plan: tables of methods and speed-ups, caveats, and a plot of speed-ups."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gtcbmuf.base.plotting import picture
from gtcbmuf.base.tables import markdown
from gtcbmuf.cluster.costs import Method, link_bytes
from gtcbmuf.cluster.placement import core_sharers
from gtcbmuf.cluster.plan import Plan, pays_until, speed_up_curves
from gtcbmuf.methods.bmuf import SUFFICIENT_STEPS

#: Relative errors of predicted steps: the median, and the 90th percentile of the absolute error.
#: scripts/hold-costs measured these steps on two machines, results/plan/**/steps.csv.
PREDICTION_ERRORS = {
    "sync-sgd": (-0.13, 0.28),
    "gtc": (-0.25, 0.39),
    "bmuf": (-0.11, 0.23),
    "gtc-bmuf": (-0.19, 0.34),
    "the others": (-0.18, 0.36),
}
_MEASURED_STEPS = "2 to 4 emulated hosts with 2 to 8 workers"
_FRAMES_PER_HOUR = 360_000


def format_methods(plan: Plan, workers: int, speech: float) -> str:
    """Format a table of every method at a number of workers, as Markdown.

    Args:
        plan: the plan.
        workers: number of workers, N.
        speech: hours of training speech, summed over all epochs.
    """
    frames = speech * _FRAMES_PER_HOUR
    methods = [
        Method(1, 1),
        *plan.single_tier_methods(workers).values(),
        *plan.hybrids(workers),
    ]
    rows = []
    for method in methods:
        seconds, hosts = plan.step(method).sum, plan.host_count(method.workers)
        hours = frames / (method.workers * plan.minibatch) * seconds / 3600
        link_load = link_bytes(method, plan.shapes, plan.network.workers_per_host)
        period, density = plan.sufficient_settings(method)
        rows.append(
            (
                method.name,
                str(method.workers),
                str(method.group_size),
                f"{seconds * 1e3:.3g}",
                _speed_up_cell(plan, method),
                f"{link_load / 1e6:.3g}",
                f"{hours:.3g}",
                f"{hours * hosts:.3g}",
                "" if period is None else str(period),
                "" if density is None else f"{density:g}",
            )
        )
    headers = ("method", "workers", "group", "step ms", "speed-up", "MB per link and step")
    return markdown((*headers, "hours", "node-hours", "period", "density"), rows)


def format_speed_ups(plan: Plan, numbers: Sequence[int]) -> str:
    """Format a table of speed-ups as Markdown: a row of each method, a column of each number.

    A hybrid has a second row with its fastest group sizes. The last column is the largest number of
    workers that pays.

    Args:
        plan: the plan.
        numbers: numbers of workers.
    """
    curves = speed_up_curves(plan, numbers)
    methods_by_workers = {number: plan.methods(number) for number in numbers}
    rows = []
    for name, curve in curves.items():
        methods = {number: methods_by_workers[number].get(name) for number in numbers}
        cells = (_speed_up_cell(plan, method) if method else "" for method in methods.values())
        rows.append((name, *cells, str(pays_until(curve))))
        if name not in plan.single_tier_methods(2):
            sizes = (str(method.group_size) if method else "" for method in methods.values())
            rows.append((f"{name}, groups of", *sizes, ""))
    return markdown(("workers", *map(str, numbers), "pays until"), rows)


def _speed_up_cell(plan: Plan, method: Method) -> str:
    """Format a speed-up. With overlap, the speed-up without overlap follows in brackets."""
    speed_up = plan.speed_up(method)
    cell = f"{speed_up:.3g}" if speed_up < 1000 else f"{speed_up:,.0f}"
    if not method.exchange.overlaps:
        return cell
    blocking = replace(method, exchange=method.exchange.with_keys(overlap=False))
    return f"{cell} ({plan.speed_up(blocking):.3g})"


def format_caveats(plan: Plan, workers: int, speech: float) -> str:
    """Format the caveats of a plan, one per line: its accuracy and its assumptions.

    Args:
        plan: the plan.
        workers: number of workers, N.
        speech: hours of training speech, summed over all epochs.
    """
    errors = (
        f"{name} {median:+.0%} ({size:.0%})" for name, (median, size) in PREDICTION_ERRORS.items()
    )
    beyond = "" if workers <= 8 else f"; {workers} workers are far beyond that"
    lines = [
        "modelled, not measured; median error of predicted steps (90th percentile of the absolute "
        f"error): {', '.join(errors)}; on {_MEASURED_STEPS}{beyond}",
        "where workers shared cores, most predicted steps were too short, so their speed-ups were "
        "too high (docs/explanation/cost-model.md)",
    ]
    methods = plan.methods(workers)
    per_host, cores = plan.network.workers_per_host, plan.network.cores_per_host
    if (on_full_host := min(workers, per_host)) > cores:
        sharers = core_sharers(plan.network, workers)
        lines.append(
            f"{on_full_host} workers share the {cores:g} cores of a host "
            f"(network.cores_per_host), so each computes up to {sharers} times as long; "
            "if the hosts have more cores, set network.cores_per_host in the cluster file"
        )
    steps = round(speech * _FRAMES_PER_HOUR / (workers * plan.minibatch))
    for method in methods.values():
        groups = workers // method.group_size
        sufficient = method.block_filter.resolve(groups).sufficient_steps
        if steps < sufficient:
            longest = steps // (SUFFICIENT_STEPS * groups)
            remedy = f"--period {longest} or less" if longest else "more speech, or larger groups"
            lines.append(
                f"{method.name}: {steps:,} steps are too few for block momentum with {groups} "
                f"groups and blocks of {plan.period} steps; expected {SUFFICIENT_STEPS} times the "
                f"product, {sufficient:,}, or {remedy} (docs/measurements/error.md)"
            )
    synchronous = [name for name, one in methods.items() if one.block_filter.period_of(0) == 1]
    if synchronous and plan.period > 1:
        lines.append(f"{', '.join(synchronous)}: planned after its synchronous epochs")
    if plan.delay:
        lines.append("no step with a delay was compared with a measurement")
    if plan.overlap:
        lines.append("speed-ups in brackets are without overlap")
    elif plan.bits == 32:
        lines.append("sync-sgd sums floats of 32 bits; --bits 16 plans its faster form")
    return "\n".join(lines)


def plot_speed_ups(plan: Plan, numbers: Sequence[int], path: Path) -> None:
    """Plot speed-ups over the number of workers.

    Args:
        plan: the plan.
        numbers: numbers of workers.
        path: file of the picture.

    Raises:
        UserError: the picture cannot be written.
    """
    with picture(path, 7, 4.5, "--plot") as axes:
        for name, curve in speed_up_curves(plan, numbers).items():
            axes.plot(list(curve), list(curve.values()), marker=".", label=name)
        axes.plot(numbers, numbers, color="gray", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="speed-up, modelled")
        axes.grid(alpha=0.3)
        axes.legend()
