"""The paper's results (Ladkat et al. 2019, table 2), and a model of its cluster."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from gtcbmuf.cluster import placement
from gtcbmuf.cluster.coded_sums import message_size
from gtcbmuf.cluster.fitting import fit as fit_terms
from gtcbmuf.methods.bmuf import BMUFSpec
from gtcbmuf.methods.declaration import Summed

#: A method and its number of workers.
CellKey = tuple[str, int]

#: Relative error increase over one worker, in per cent. The hybrid with 32 workers has no figure.
ERROR_INCREASES: dict[CellKey, float] = {
    ("gtc", 32): 1.4,
    ("gtc", 64): 2.8,
    ("gtc", 128): 15.6,
    ("bmuf", 32): 3.5,
    ("bmuf", 64): 8.9,
    ("bmuf", 128): 9.6,
    ("gtc-bmuf", 64): 3.1,
    ("gtc-bmuf", 128): 4.7,
}
#: The paper only reports that the error of this cell fell.
ERROR_FELL: CellKey = ("gtc-bmuf", 32)

#: Parameters of the model, for the sizes of messages. The paper does not state it.
MODEL = 10_000_000

#: Speed-up over one worker.
SPEED_UPS: dict[CellKey, float] = {
    ("gtc", 32): 26.0,
    ("gtc", 64): 17.0,
    ("gtc", 128): 11.0,
    ("bmuf", 32): 36.6,
    ("bmuf", 64): 57.0,
    ("bmuf", 128): 80.0,
    ("gtc-bmuf", 32): 31.0,
    ("gtc-bmuf", 64): 42.0,
    ("gtc-bmuf", 128): 97.0,
}


@dataclass(frozen=True)
class Fit:
    """A model of the paper's cluster, fitted to the paper's speed-ups.

    All costs are in steps of the paper's single worker. A step of N workers, N / speed-up, is

        compute + link (M - 1) + shared M (M - 1) + leader (G - 1)

    with groups of M workers and G = N / M groups. M is N for gtc, and 1 for bmuf.

    Attributes:
        compute: computation of a worker.
        link: one message over the worker's own link.
        shared: one message over a link that all workers of a group share.
        leader: the model of one other group at a block's end, divided by K.
        group_sizes: group size M of the hybrid, by N. The paper does not state it.
    """

    compute: float
    link: float
    shared: float
    leader: float
    group_sizes: Mapping[int, int]

    def step(self, workers: int, group_size: int) -> float:
        """Return the time of a step of N workers in groups of M, in steps of one worker."""
        groups = workers // group_size
        return self.compute + self.exchange(group_size) + self.leader * (groups - 1)

    def exchange(self, m: int) -> float:
        """Return the time of the exchange of a group of M, in steps of one worker."""
        return self.link * (m - 1) + self.shared * m * (m - 1)

    def speed_up(self, cell: CellKey) -> float:
        """Return the speed-up over one worker of a method at a number of workers."""
        return cell[1] / self.step(cell[1], group_size(cell, self.group_sizes))

    def rms_error(self, cells: Sequence[CellKey]) -> float:
        """Return the root mean square of the relative errors of the cells' steps."""
        return math.sqrt(mean((SPEED_UPS[c] / self.speed_up(c) - 1) ** 2 for c in cells))


def fit_models(cells: Sequence[CellKey] = tuple(SPEED_UPS)) -> list[Fit]:
    """Fit the model to speed-ups, by least squares of the relative errors of the steps.

    Args:
        cells: cells to fit.

    Returns:
        A fit for each combination of the hybrid's group sizes, the best first. The group sizes are
        powers of two. The four costs are not negative.
    """
    hybrids = sorted({workers for method, workers in cells if method == "gtc-bmuf"})
    sizes_of = [[2**power for power in range(1, workers.bit_length() - 1)] for workers in hybrids]
    fits = []
    for sizes in itertools.product(*sizes_of):
        group_sizes = dict(zip(hybrids, sizes, strict=True))
        terms, steps = [], []
        for cell in cells:
            m = group_size(cell, group_sizes)
            terms.append((1, m - 1, m * (m - 1), cell[1] // m - 1))
            steps.append(cell[1] / SPEED_UPS[cell])
        compute, link, shared, leader = fit_terms(terms, steps).tolist()
        fits.append(Fit(compute, link, shared, leader, group_sizes))
    return sorted(fits, key=lambda fit: fit.rms_error(cells))


def fit_without_each_cell() -> list[Fit]:
    """Return nine fits, each the best one without one of the nine cells.

    The range of a cost over these fits shows how well the data determine it.
    """
    return [fit_models([cell for cell in SPEED_UPS if cell != omitted])[0] for omitted in SPEED_UPS]


def improved_speed_ups(fit: Fit, workers: int, m: int, bits: float) -> dict[str, float]:
    """Return the hybrid's speed-ups on the paper's cluster with the changes of this package.

    The first entry has none of the changes. Each further entry adds one:

    1. Shorter messages. The whole exchange becomes cheaper. A cost per message would not shrink,
       but this model has none.
    2. Coded block changes. A leader sums one part of the integers of all groups, and sends the sum
       to the others: (G - 1)/G changes and as much of a sum, instead of G - 1 models of floats.

    Args:
        fit: the cluster.
        workers: number of workers, N.
        m: workers in a group.
        bits: bits per update in this package's messages. The paper's messages have 32, as in Strom
            (2015).

    Returns:
        Speed-ups by name of the change.
    """
    exchange, groups = fit.exchange(m), workers // m
    short_exchange, all_models = exchange * bits / 32, fit.leader * (groups - 1)
    of_floats = (_bits_of_change(1) + _bits_of_change(groups)) / 32
    communication = {
        "the paper's": exchange + all_models,
        "with our messages": short_exchange + all_models,
        "and coded block changes": short_exchange + all_models / groups * of_floats,
    }
    return {name: workers / (fit.compute + cost) for name, cost in communication.items()}


def _bits_of_change(groups: int) -> float:
    """Bits per parameter of the sum of some groups' block changes, with the default step."""
    [sent] = BMUFSpec().sent(MODEL)
    assert isinstance(sent, Summed)
    size = message_size(sent.integers, groups, MODEL)
    return 8 * size.bytes / MODEL


def extrapolate(fit: Fit, workers: int, bits: float) -> dict[str, float]:
    """Return the speed-ups at any number of workers. The hybrid has its fastest group size.

    Args:
        fit: the cluster.
        workers: number of workers, N. It must not be a prime.
        bits: as in `improved_speed_ups`.

    Returns:
        Speed-ups by name of the method or the change.
    """
    hybrids = [improved_speed_ups(fit, workers, m, bits) for m in placement.group_sizes(workers)]
    best = {name: max(hybrid[name] for hybrid in hybrids) for name in hybrids[0]}
    return {
        "gtc": workers / fit.step(workers, workers),
        "bmuf": workers / fit.step(workers, 1),
        "gtc-bmuf": best["the paper's"],
        "with our messages": best["with our messages"],
        "and coded block changes": best["and coded block changes"],
    }


def group_size(cell: CellKey, group_sizes: Mapping[int, int]) -> int:
    """Return the group size M of a cell. The hybrid's is looked up by N.

    >>> group_size(("gtc-bmuf", 32), {32: 8}), group_size(("gtc", 32), {})
    (8, 32)
    """
    method, workers = cell
    return {"gtc": workers, "bmuf": 1}.get(method) or group_sizes[workers]
