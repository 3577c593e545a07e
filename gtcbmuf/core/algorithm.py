"""Two-tiered distributed training (Ladkat et al., Interspeech 2019), the whole method.

N workers train replicas of one model on their own shares of the data. They form G groups of M.

Tier 1, inside a group, at every step: the workers *exchange* their gradients. With gradient
threshold compression (GTC; Strom, Interspeech 2015) a worker adds its gradient to a residual. Where
the residual has reached tau, it sends one bit, the sign. All workers of the group apply the same
messages, so the group's replicas stay equal.

Tier 2, across the groups, at the end of every block of K steps: the groups average the changes that
the block made to their models, and *filter* the average. The filter has a momentum that runs from
block to block (BMUF; Chen and Huo, ICASSP 2016). All groups go on from the result.

    for every step:
        update = exchange(gradient of my minibatch)                          # tier 1
        model -= learning rate * update
        at the end of a block: block_filter(model)                           # tier 2

The methods are combinations. Sync SGD is a dense exchange in one group of N, and GTC a compressed
one. BMUF is a block filter over N groups of one. The hybrid has both.

A model here is one flat float32 vector of n parameters, of any network. A gradient is the SUM over
a worker's minibatch, and an update is the sum over its group. So tau is in the unit of a summed
gradient, and the learning rate is per frame.

Both tiers add up integers: signs in units of tau, and changes in units of a step. What a worker or
a group has not sent, it keeps. Sums of integers are exact, so `gtcbmuf.core.sums` is free to
compute them where it is fastest.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.partition import share
from gtcbmuf.core import kernels
from gtcbmuf.core.checks import (
    NotFiniteError,
    VectorCheck,
    check_above_zero,
    check_integer,
    check_share,
    check_target,
)
from gtcbmuf.core.deviation import Deviation
from gtcbmuf.core.error_feedback import ErrorFeedback
from gtcbmuf.core.meter import Meter
from gtcbmuf.core.sums import IntegerSum
from gtcbmuf.mpi.collectives import RankOrderSum, gather_shares
from gtcbmuf.mpi.job import check_replicas
from gtcbmuf.mpi.shared_memory import hosts_of
from gtcbmuf.mpi.topology import Topology

State = dict[str, NDArray[Any]]


class Update(Protocol):
    """The sum of a group's messages of one step, with the same bits on all its workers."""

    def add_to(self, vector: Vector, scale: float) -> None:
        """vector += scale * update, in place. Call it before the next exchange."""
        ...


class Exchange(Protocol):
    """Tier 1: exchanges the gradients of a group at every step."""

    def __call__(self, gradient: Vector) -> Update:
        """Take this worker's gradient (n,) and return the group's update. Collective in the group.

        Raises:
            ValueError: the gradient has another length or type.
            NotFiniteError: the gradient is not finite, and was not sent. To go on, restore a
                `state` from before, because a residual may hold the gradient.
        """
        ...

    def forget(self) -> None:
        """Drop the residual."""
        ...

    def state(self) -> State:
        """Views of all arrays that the next call depends on, for saving or copying."""
        ...

    def restore(self, state: State) -> None:
        """Continue from a `state`."""
        ...


class BlockFilter(Protocol):
    """Tier 2: filters the groups' models at the end of a block."""

    def __call__(self, model: Vector, *, wait: bool = True) -> None:
        """Filter this worker's model (n,) in place. Collective in the world.

        Args:
            model: this worker's model.
            wait: whether the result must be in the model at the return, as at an epoch's end. If
                not, a later `advance` may add it.

        Raises:
            ValueError: the model has another length or type.
            NotFiniteError: the model is not finite; nothing was sent.
        """
        ...

    def advance(self, model: Vector, learning_rate: float) -> None:
        """Take note of the end of a step and its learning rate, before the filter is called."""
        ...

    def anchor(self, model: Vector) -> Vector:
        """Return the global model to evaluate and save, as a new vector. Collective in the world.

        Args:
            model: (n,) the model after the last call.
        """
        ...

    def state(self) -> State:
        """Views of all arrays that the next call depends on, for saving or copying."""
        ...

    def restore(self, state: State) -> None:
        """Continue from a `state`."""
        ...


# Tier 1


@dataclass(frozen=True)
class DenseUpdate:
    """A vector (n,) as an update.

    Examples:
        >>> import numpy as np
        >>> model = np.zeros(2, np.float32)
        >>> DenseUpdate(np.array([1, 2], np.float32)).add_to(model, -0.5)
        >>> model.tolist()
        [-0.5, -1.0]
    """

    vector: Vector

    def add_to(self, vector: Vector, scale: float) -> None:
        """vector += scale * update."""
        check_target("the vector to add to", vector, self.vector.size)
        kernels.add_scaled(self.vector, np.float32(scale), vector)


class NoExchange:
    """The exchange of a single worker: its gradient is the update.

    Args:
        parameters: n, below 2^31.

    Examples:
        >>> import numpy as np
        >>> exchange, model = NoExchange(3), np.zeros(3, np.float32)
        >>> exchange(np.array([1, 2, 3], np.float32)).add_to(model, -0.5)
        >>> model.tolist()
        [-0.5, -1.0, -1.5]
    """

    def __init__(self, parameters: int) -> None:
        self._check = VectorCheck("gradient", "step", parameters)

    def __call__(self, gradient: Vector) -> Update:
        gradient = self._check(gradient)
        self._check.require_finite(gradient)
        return DenseUpdate(gradient)

    def forget(self) -> None:
        """Nothing is left unsent."""

    def state(self) -> State:
        """Nothing."""
        return {}

    def restore(self, state: State) -> None:
        """Nothing."""


class DenseExchange(NoExchange):
    """Sync SGD: the exact sum of the group's gradients.

    Args:
        group: this worker's group.
        parameters: n, below 2^31.
        meter: counts.
        ordered: add in rank order, so that a slice has the same bits as in the whole vector. By
            default the MPI library chooses the order.

    Examples:
        >>> import numpy as np
        >>> from mpi4py import MPI
        >>> exchange, model = DenseExchange(MPI.COMM_SELF, 2), np.zeros(2, np.float32)
        >>> exchange(np.array([1, -2], np.float32)).add_to(model, -1)
        >>> model.tolist()
        [-1.0, 2.0]
    """

    def __init__(
        self,
        group: MPI.Comm,
        parameters: int,
        meter: Meter | None = None,
        *,
        ordered: bool = False,
    ) -> None:
        super().__init__(parameters)
        self._group = group
        self._parts = RankOrderSum(group, parameters) if ordered else None
        self._crosses = hosts_of(group).count > 1
        self._sum = np.empty(parameters, np.float32)
        self._meter = meter or Meter()

    def __call__(self, gradient: Vector) -> Update:
        gradient = self._check(gradient)
        self._check.require_finite(gradient)
        with self._meter.time("communicate"):
            if self._parts is None:
                self._group.Allreduce(gradient, self._sum)
            else:
                self._parts.gather(self._parts.scatter(gradient), self._sum)
        self._meter.updates_sent += gradient.size
        self._meter.bytes_sent += gradient.nbytes if self._crosses else 0
        return DenseUpdate(self._sum)


@dataclass(frozen=True)
class GTCUpdate:
    """Counts of tau: the sums of a group's signs (n,), int16, in units of tau."""

    counts: NDArray[np.int16]
    tau: float

    def add_to(self, vector: Vector, scale: float) -> None:
        """vector += scale * tau * counts."""
        check_target("the vector to add to", vector, self.counts.size)
        kernels.add_counts(self.counts, np.float32(scale * self.tau), vector)


#: Speed at which tau follows a density. In an epoch of the quickstart, the mean density was within
#: 3 % of the targets 0.01 and 0.1. A larger gain makes it swing (with 1.2, 9 % off), and a smaller
#: one makes it lag: with 0.3 and the target 0.001, the density was 1.9 times as large, not 1.5.
GAIN = 0.5


class GTCExchange(ErrorFeedback):
    """Gradient threshold compression (Strom 2015, section 2).

    residual += gradient; where |residual| >= tau: send sign(residual) * tau and subtract it from
    the residual. At most one tau is sent per parameter and step. The update plus the new residual
    is the old residual plus the gradient.

    Tau is fixed, or it follows a density (not in the paper). After each step

        tau *= clip(group's density / target density, 1/4, 4) ^ (GAIN * sqrt(target density))

    A density can be out of reach, as when many gradients are zero. Then a smaller tau would only
    send less, since a step sends one tau per parameter at most. So while most workers have a
    backlog, which is that most of what they sent could be sent again, the ratio counts as at least
    2, and tau rises.

    All workers of a group compute the same tau from the same sums. The root is about the share
    of tau by which a residual moves in a step: a random walk reaches tau after (tau / move)^2
    steps. If tau moved further, no residual would reach it in one step, and too many in the next.

    Args:
        group: this worker's group.
        parameters: n, below 2^31.
        tau: the threshold, in the unit of a summed gradient. With a density, the threshold of the
            first step.
        meter: counts.
        density: target share of the parameters sent in a step, above 0 and below 1.

    Attributes:
        backlogs: number of steps in which most workers of the group had a backlog.

    Raises:
        ValueError: n, tau or the density is out of its range.

    Raises, when called:
        MessageError: a message from another host cannot be read; names its sender.
        NotFiniteError: the gradient is not finite. A part of it was added to the residual: restore
            a `state` before you continue.

    Examples:
        >>> import numpy as np
        >>> from mpi4py import MPI
        >>> exchange, model = GTCExchange(MPI.COMM_SELF, 3, tau=1.0), np.zeros(3, np.float32)
        >>> exchange(np.array([0.75, -2.5, 0], np.float32)).add_to(model, -1)
        >>> model.tolist(), exchange.state()["residual"].tolist()
        ([0.0, 1.0, 0.0], [0.75, -1.5, 0.0])
    """

    def __init__(
        self,
        group: MPI.Comm,
        parameters: int,
        tau: float,
        meter: Meter | None = None,
        *,
        density: float | None = None,
    ) -> None:
        super().__init__(group, parameters, meter)
        check_integer("workers of a group", group.size, 1, kernels.LARGEST)
        self._tau = np.array([check_above_zero("tau", tau)], np.float32)
        self._density = (
            None if density is None else check_share("density", density, above_zero=True)
        )
        self._sum = IntegerSum(group, parameters, bound=1, meter=self._meter)
        self._counts = self._sum.hosts.array((parameters,), np.int16)
        self.backlogs = 0

    def __call__(self, gradient: Vector) -> Update:
        gradient, tau = self._check(gradient), self._tau[0]
        with self._meter.time("encode"):
            # residual += gradient; where it reaches tau, sign(residual) * tau moves to the row
            sent = kernels.threshold(self._residual, gradient, tau, self._sum.row)
            if sent == kernels.NOT_FINITE:
                raise self._check.error(self._residual)
            backlog = self._density and 2 * kernels.count_reaching(self._residual, tau) > sent
        with self._meter.time("communicate"):
            counts = self._sum.reduce(float(tau), (sent, int(bool(backlog))))
            self._counts[self._sum.mine] = counts
            sent_by_group, backlogs = self._sum.finish().tolist()
        self._meter.updates_sent += sent
        if self._density is not None:
            most = 2 * backlogs > self._group.size
            self.backlogs += most
            self._follow(sent_by_group / self._group.size, self._density, most)
        return GTCUpdate(self._counts, float(tau))

    @property
    def tau(self) -> float:
        """The threshold of the next step."""
        return float(self._tau[0])

    def _follow(self, count: float, density: float, backlog: bool) -> None:
        """Move tau towards a density, after a step that sent `count` parameters."""
        ratio = min(max(count / self._residual.size / density, 2 if backlog else 1 / 4), 4)
        tau = self.tau * ratio ** (GAIN * math.sqrt(density))
        self._tau[0] = min(max(tau, 1e-30), 1e30)

    def state(self) -> State:
        """The residual (n,) and tau (1,)."""
        return {**super().state(), "tau": self._tau}


# Tier 2


class NoFilter:
    """The block filter of a single group: its model is the global model.

    Args:
        parameters: n, below 2^31.

    Examples:
        >>> import numpy as np
        >>> block_filter, model = NoFilter(2), np.ones(2, np.float32)
        >>> block_filter(model)
        >>> block_filter.anchor(model).tolist()
        [1.0, 1.0]
    """

    def __init__(self, parameters: int) -> None:
        self._check = VectorCheck("model", "block", parameters)

    def __call__(self, model: Vector, *, wait: bool = True) -> None:
        self._check.require_finite(self._check(model))

    def advance(self, model: Vector, learning_rate: float) -> None:
        """Nothing is late."""

    def anchor(self, model: Vector) -> Vector:
        """A copy of the model."""
        return model.copy()

    def state(self) -> State:
        """Nothing."""
        return {}

    def restore(self, state: State) -> None:
        """Nothing."""


class BMUF:
    """Blockwise model-update filtering (Chen and Huo 2016, section 2), with changes as integers.

    With the anchor W, the start S of the block, and the model V of each of G groups,

        q        = (V - S(t-1)) / step, rounded          change of a group, in steps
        A(t)     = S(t-1) + step * (sum of q) / G        average of the groups
        G(t)     = A(t) - S(t-1)                         change that the block made
        Delta(t) = eta * Delta(t-1) + zeta * G(t)        filtered change
        W(t)     = W(t-1) + Delta(t)
        S(t)     = W(t)                                  classical block momentum (CBM)
                 = W(t) + eta * Delta(t)                 Nesterov block momentum (NBM)
        V        = S(t) + (V - S(t-1) - step * q)

    A group goes on from S(t) plus what it has not sent. So nothing is lost, and it is sent in a
    later block. The step is a multiple of the changes' root mean square. A small one is the filter
    of the source; a larger one is compression (`gtcbmuf.core.wire`). Above 2, nothing might be sent
    any more after a fast fall of the changes (scripts/unsent).

    Under a constant G(t) the anchor moves by zeta / (1 - eta) G(t) per block, by default G times as
    far for G groups. Plain averaging is eta = 0, zeta = 1; the first blocks can use it.

    The workers of a host share this work, each for a part of the model.

    Args:
        topology: groups and hosts.
        model: (n,) float32, the start of the first block, the same bits on all workers.
        momentum: eta, 0 <= eta < 1; None is 1 - 1/G for G groups.
        learning_rate: zeta.
        nesterov: NBM instead of CBM.
        step: quantisation step, as a multiple of the root mean square of a group's change.
        averaged: number of blocks at the start that are plainly averaged.
        meter: counts.
        patient: sleep instead of polling while waiting, for a thread beside the computation.

    Raises:
        ValueError: the model or a number is out of its range.
        ReplicaError: the workers' models differ.

    Raises, when called:
        MessageError: a message from another host cannot be read; names its sender.

    Examples:
        >>> import numpy as np
        >>> from mpi4py import MPI
        >>> from gtcbmuf import Topology
        >>> model = np.zeros(2, np.float32)
        >>> bmuf = BMUF(Topology(MPI.COMM_SELF, 1), model, momentum=0.5, step=2**-9)
        >>> for _ in range(2):
        ...     model += 1  # a block of steps
        ...     bmuf(model)
        >>> np.round(model, 2).tolist()  # 1, then 1 + 1/2 more
        [2.5, 2.5]
    """

    def __init__(
        self,
        topology: Topology,
        model: Vector,
        *,
        momentum: float | None = None,
        learning_rate: float = 1.0,
        nesterov: bool = False,
        step: float = 2.0,
        averaged: int = 0,
        meter: Meter | None = None,
        patient: bool = False,
    ) -> None:
        check_target("model", model)
        n = model.size
        self._check, self._size = VectorCheck("model", "block", n), n
        eta = 1 - 1 / topology.groups if momentum is None else check_share("momentum", momentum)
        self._eta = np.float32(eta)
        self._zeta = np.float32(check_above_zero("learning_rate", learning_rate))
        self._step = check_above_zero("step", step)
        self._averaged = check_integer("averaged", averaged, 0)
        self._nesterov = nesterov
        check_replicas(topology.world, model, "start of the first block")
        self._world, self._groups = topology.world, topology.groups
        self._meter = meter or Meter()
        workers = topology.group.size
        self._sum = IntegerSum(
            topology.world,
            n,
            kernels.LARGEST,
            sharers=workers,
            meter=self._meter,
            patient=patient,
        )
        # This worker's part of its group's change, which no other worker of the group writes.
        self._sent = slice(*share(n, workers, topology.group.rank))
        self._blocks = np.zeros(1, np.int64)  # done so far
        self._deviation = Deviation(topology.groups * n)  # of the groups' changes
        # The workers of a host share these; each filters the part that it sums.
        self._anchor, self._delta, self._start, self._next_start, self._evaluated = (
            self._sum.hosts.array((n,), np.float32) for _ in range(5)
        )
        self._ahead = np.float32(1)  # factor of eta in the start of NBM
        mine = self._sum.mine
        self._anchor[mine] = self._start[mine] = model[mine]
        self._sum.hosts.barrier()

    def __call__(self, model: Vector, *, wait: bool = True) -> None:
        self._require_model(model)
        with self._meter.time("filter"):
            step, energy = self._quantise(model)
            self._filter(step, energy)
            self._restart(model, step)

    def advance(self, model: Vector, learning_rate: float) -> None:
        """Nothing is late."""

    def _require_model(self, model: Vector) -> None:
        check_target("model", model, self._size)
        self._check.number = int(self._blocks[0]) + 1
        self._check.require_finite(model)

    def _quantise(self, model: Vector) -> tuple[float, int]:
        """Write this worker's part of its group's change to its row. Return step and energy."""
        part, start = model[self._sent], self._start[self._sent]
        if not self._deviation.value[0]:
            self._deviation.measure(self._world, part, start)
        step = float(np.float32(self._step * self._deviation.value[0]))
        kernels.quantise(part, start, np.float32(1 / step), self._sum.row[self._sent])
        return step, self._deviation.energy(part, start)

    def _filter(self, step: float, energy: int) -> None:
        """Average the groups' changes, and filter the average. Collective in the world."""
        averages = self._blocks[0] < self._averaged
        eta, zeta = (np.float32(0), np.float32(1)) if averages else (self._eta, self._zeta)
        mine, change = self._sum.mine, self._sum.reduce(step, (energy, 0)).astype(np.float32)
        change *= np.float32(step / self._groups)  # G(t)
        anchor, delta, start = self._anchor[mine], self._delta[mine], self._next_start[mine]
        change *= zeta
        delta *= eta
        delta += change
        anchor += delta
        if self._nesterov:
            np.multiply(delta, eta * self._ahead, out=start)
            start += anchor
        else:
            start[:] = anchor
        self._deviation.follow(int(self._sum.finish()[0]))

    def _restart(self, model: Vector, step: float) -> None:
        """Replace the start in the model by the next one."""
        steps = np.float32(1 / step)
        kernels.restart(model, self._start, self._next_start, steps, np.float32(step))
        self._start, self._next_start = self._next_start, self._start
        self._blocks += 1

    def anchor(self, model: Vector) -> Vector:
        """Return W(t) of the last block plus the mean of what the groups have not sent. Collective.

        All workers have the same. Without the unsent parts, the loss of a quadratic was up to 2
        times as high (scripts/unsent).
        """
        part, start = model[self._sent], self._start[self._sent]
        largest = float(np.abs(part - start).max(initial=0))
        largest = self._world.allreduce(largest, MPI.MAX)
        step = np.float32(max(largest / kernels.LARGEST, 1e-30))
        kernels.quantise(part, start, np.float32(1) / step, self._sum.row[self._sent])
        mine = self._sum.mine
        with self._meter.uncounted():
            unsent = self._sum.reduce(float(step), (0, 0)).astype(np.float32)
        unsent *= np.float32(step / self._groups)
        np.add(self._global_model()[mine], unsent, out=self._evaluated[mine])
        self._sum.finish()
        return self._evaluated.copy()

    def _global_model(self) -> Vector:
        """What `anchor` returns, without what the groups have not sent."""
        return self._anchor

    def state(self) -> State:
        """Number of blocks (1,), root mean square (1,); anchor, start and Delta, a part of each.

        The parts of all workers are the whole vectors. They do not depend on the hosts.
        """
        part = slice(*share(self._size, self._world.size, self._world.rank))
        parts = {name: vector[part] for name, vector in self._vectors().items()}
        return {"blocks": self._blocks, "deviation": self._deviation.value, **parts}

    def restore(self, state: State) -> None:
        """Continue from a `state`. Collective in the world."""
        self._blocks[:], self._deviation.value[:] = state["blocks"], state["deviation"]
        for name, vector in self._vectors().items():
            whole = gather_shares(self._world, state[name], self._size)
            vector[self._sum.mine] = whole[self._sum.mine]
        self._sum.hosts.barrier()

    def _vectors(self) -> State:
        return {"anchor": self._anchor, "start": self._start, "delta": self._delta}


# The step loop


class Descent:
    """model -= learning rate * update, with or without heavy-ball momentum.

    Args:
        parameters: n, below 2^31.
        momentum: from 0 to below 1.

    Examples:
        >>> import numpy as np
        >>> descent, model = Descent(1, momentum=0.5), np.zeros(1, np.float32)
        >>> for _ in range(2):
        ...     descent(model, DenseUpdate(np.ones(1, np.float32)), 0.25)
        >>> model.tolist()  # -0.25, then -0.25 * 1.5 more
        [-0.625]
    """

    def __init__(self, parameters: int, momentum: float = 0.0) -> None:
        self._momentum = np.float32(check_share("momentum", momentum))
        self._velocity = np.zeros(parameters, np.float32) if momentum else None

    def __call__(self, model: Vector, update: Update, learning_rate: float) -> None:
        if self._velocity is None:
            update.add_to(model, -learning_rate)
        else:
            kernels.decay(self._velocity, self._momentum)
            update.add_to(self._velocity, 1.0)
            kernels.add_scaled(self._velocity, np.float32(-learning_rate), model)

    def forget(self) -> None:
        """Reset the momentum to 0."""
        if self._velocity is not None:
            self._velocity[:] = 0

    def state(self) -> State:
        """The velocity (n,); nothing without momentum."""
        return {} if self._velocity is None else {"velocity": self._velocity}

    def restore(self, state: State) -> None:
        """Continue from a `state`."""
        for name, vector in self.state().items():
            vector[:] = state[name]


class Worker:
    """One worker: a replica of the model between the two tiers.

    Args:
        model: (n,) float32, changed in place; the same bits on all workers at the start.
        exchange: tier 1.
        block_filter: tier 2.
        period: K, steps per block.
        descent: applies updates to the model; by default without momentum.
        forgetting: parts to reset at a block's end: the descent (its momentum) or the exchange
            (its residual). The paper does not mention it; `gtcbmuf train` resets the momentum.
        meter: counts; the same meter as in the two tiers.

    Raises:
        ValueError: the model cannot be changed in place, or the period is below 1.

    Examples:
        >>> import numpy as np
        >>> model = np.zeros(2, np.float32)
        >>> worker = Worker(model, NoExchange(2), NoFilter(2), period=10)
        >>> target = np.array([1, -1], np.float32)
        >>> worker.run(100, lambda step: model - target, lambda step: 0.1)
        >>> np.round(model, 2).tolist()
        [1.0, -1.0]
    """

    def __init__(
        self,
        model: Vector,
        exchange: Exchange,
        block_filter: BlockFilter,
        period: int,
        descent: Descent | None = None,
        *,
        forgetting: Sequence[Exchange | Descent] = (),
        meter: Meter | None = None,
    ) -> None:
        check_target("model", model)
        self.model, self.exchange, self.block_filter = model, exchange, block_filter
        self.period = check_integer("period", period, 1)
        self.descent = descent or Descent(model.size)
        self.forgetting = forgetting
        self.meter = meter or Meter()

    def run(
        self,
        steps: int,
        gradient: Callable[[int], Vector],
        learning_rate: Callable[[int], float],
        *,
        first: int = 0,
        after: Callable[[int], object] = lambda step: None,
    ) -> None:
        """Run an epoch. Its last step ends a block.

        Args:
            steps: number of steps, the same on all workers.
            gradient: step (0 to steps - 1) -> the gradient (n,) of the current model, summed over
                this worker's minibatch.
            learning_rate: step -> per-frame learning rate, the same on all workers.
            first: the step to begin with, to continue from a `state`.
            after: called after every step with its number.

        Raises:
            ValueError: a gradient has another length or type, or a learning rate is not finite.
            NotFiniteError: a gradient or the model is not finite; names rank and step, or block.
        """
        for step in range(first, steps):
            with self.meter.time("compute"):
                mine = gradient(step)
            try:
                update = self.exchange(mine)  # tier 1
            except NotFiniteError as error:
                error.number = step + 1
                raise
            rate = learning_rate(step)
            if not math.isfinite(rate):
                raise ValueError(f"learning rate of step {step}: {rate}; expected a finite number")
            ends_block = (step + 1) % self.period == 0 or step + 1 == steps
            with self.meter.time("decode"):
                self.descent(self.model, update, rate)
            self.block_filter.advance(self.model, rate)
            if ends_block:
                self.block_filter(self.model, wait=step + 1 == steps)  # tier 2
                for part in self.forgetting:
                    part.forget()
            after(step)

    def state(self) -> State:
        """Views of all arrays that the next step depends on, besides its number and the data."""
        parts = {
            f"{part}.{name}": vector
            for part, owner in self._parts().items()
            for name, vector in owner.state().items()
        }
        return {"descent.model": self.model, **parts}

    def restore(self, state: State) -> None:
        """Continue from a `state`."""
        self.model[:] = state["descent.model"]
        for part, owner in self._parts().items():
            owner.restore({name: state[f"{part}.{name}"] for name in owner.state()})

    def _parts(self) -> dict[str, Descent | Exchange | BlockFilter]:
        return {"descent": self.descent, "exchange": self.exchange, "filter": self.block_filter}
