"""Workers that share a process, for studies with more workers than cores.

A rank can carry several workers. Each of them runs the same code as a rank, as a coroutine: it runs
until it waits for others in a collective, then the next worker of the process runs. Workers see a
communicator with the part of mpi4py's interface that this package uses. It passes objects and
arrays within the process, and uses MPI between processes.

Sums of floats are in the order of the workers. So their bits do not depend on the processes.
"""

import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial, reduce
from typing import Any, TypeVar

import greenlet
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from gtcbmuf.mpi.hosts import host_of_rank
from gtcbmuf.mpi.job import CollectiveError

T = TypeVar("T")


class _Crew:
    """The workers of a process. They take turns, in the order in which they were woken."""

    def __init__(self) -> None:
        self._main = greenlet.getcurrent()
        self._ready = deque[greenlet.greenlet]()

    def wait(self) -> None:
        """Let the other workers run until someone wakes this one."""
        self._main.switch()

    def wake(self, workers: Sequence[greenlet.greenlet]) -> None:
        """Let workers run again, in this order, after those that can run already."""
        self._ready.extend(workers)

    def run(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Run a worker for each task to its end, and return the results.

        Raises:
            Exception: that of the first worker with one. After a `CollectiveError`, which all
                workers raise, the others run on to their own. Other errors end all workers.
        """
        workers = [greenlet.greenlet(task) for task in tasks]
        results: dict[greenlet.greenlet, T] = {}
        errors: list[CollectiveError] = []
        self.wake(workers)
        try:
            while self._ready:
                worker = self._ready.popleft()
                try:
                    result = worker.switch()
                except CollectiveError as error:
                    errors.append(error)
                    continue
                if worker.dead:
                    results[worker] = result
        finally:
            for worker in workers:
                if not worker.dead:
                    worker.throw()
        if errors:
            raise errors[0]
        if len(results) < len(workers):
            raise RuntimeError("workers wait for others that have ended")
        return [results[worker] for worker in workers]


class _Meeting:
    """The place where the workers of a process that share a communicator wait for each other.

    Args:
        ranks: their ranks in the communicator.
        processes: communicator of all processes with workers in the communicator.
        crew: all workers of this process; None for a single worker that never waits.
    """

    def __init__(self, ranks: Sequence[int], processes: Any, crew: _Crew | None) -> None:
        self.ranks, self.processes, self.crew = ranks, processes, crew
        self._values: dict[int, Any] = {}
        self._waiting: dict[int, greenlet.greenlet] = {}
        self._result: Any = None
        self._error: BaseException | None = None

    def __call__(self, rank: int, value: Any, act: Callable[[dict[int, Any]], T]) -> T:
        """Wait for all workers. The last one acts on the values of all, in the order of ranks.

        Returns:
            What `act` returned, the same object for all workers.
        """
        if self.crew is None:
            return act({rank: value})
        self._values[rank], self._waiting[rank] = value, greenlet.getcurrent()
        if len(self._values) == len(self.ranks):
            values, waiting = self._values, self._waiting
            self._values, self._waiting, self._error = {}, {}, None
            try:
                self._result = act({rank: values[rank] for rank in self.ranks})
            except Exception as error:
                self._error = error
            self.crew.wake([waiting[rank] for rank in self.ranks])
        self.crew.wait()
        if self._error is not None:
            raise self._error
        result: T = self._result
        return result


class CarriedComm:
    """A communicator of workers that processes carry.

    Its methods are those of `mpi4py.MPI.Comm`. Objects are passed within a process without a copy:
    treat them as read-only.

    Args:
        rank, size: the worker's rank, and the number of workers.
        meeting: where the workers of this process meet.
    """

    def __init__(self, rank: int, size: int, meeting: _Meeting) -> None:
        self.rank, self.size = rank, size
        self._meeting = meeting
        #: Whether this is the first worker of its process.
        self.is_first = rank == meeting.ranks[0]
        self._attributes: dict[int, Any] = {}

    def per_process(self, do: Callable[[Any], T]) -> T:
        """Call a function in each process, with the communicator of the processes. Collective.

        Returns:
            What the function returned in this process, the same object for all of its workers.
        """
        if self._meeting.crew is None:
            return do(self)
        return self._meet(None, lambda _: do(self._meeting.processes))

    def _meet(self, value: Any, act: Callable[[dict[int, Any]], T]) -> T:
        return self._meeting(self.rank, value, act)

    def _gather(self, values: dict[int, Any]) -> list[Any]:
        """Return the values of the workers of all processes, by rank."""
        processes = self._meeting.processes
        if len(values) < self.size:
            values = {rank: v for part in processes.allgather(values) for rank, v in part.items()}
        return [values[rank] for rank in range(self.size)]

    # Objects

    def allgather(self, value: Any) -> list[Any]:
        """Return the values of all workers."""
        return list(self._meet(value, self._gather))

    def gather(self, value: Any, root: int = 0) -> list[Any] | None:
        """Return the values of all workers to the root."""
        values = self.allgather(value)
        return values if self.rank == root else None

    def bcast(self, value: Any, root: int = 0) -> Any:
        """Return the root's value."""
        return self.allgather(value if self.rank == root else None)[root]

    def allreduce(self, value: Any, op: Any = MPI.SUM) -> Any:
        """Reduce the values of all workers, in their order."""
        return reduce(op, self.allgather(value))

    # Arrays

    def Barrier(self) -> None:  # noqa: N802
        """Wait for all workers."""
        self._meet(None, lambda _: self._meeting.processes.Barrier())

    def Bcast(self, array: NDArray[Any], root: int = 0) -> None:  # noqa: N802
        """Copy the root's array to all workers."""
        value = array if self.rank == root else None
        array[...] = self._meet(value, lambda values: np.array(self._gather(values)[root]))

    def Allgather(self, part: NDArray[Any], whole: NDArray[Any]) -> None:  # noqa: N802
        """Copy the arrays of all workers to the rows of an array."""
        whole[...] = self._meet(part, lambda values: np.stack(self._gather(values)))

    def Alltoall(self, parts: NDArray[Any], received: NDArray[Any]) -> None:  # noqa: N802
        """Copy row r of every worker's array to worker r, to the row of its sender."""
        everything = self._meet(parts, lambda values: np.stack(self._gather(values)))
        received[...] = everything[:, self.rank]

    def Allgatherv(self, part: NDArray[Any], whole: list[Any]) -> None:  # noqa: N802
        """Copy the arrays of all workers to an array, one after another."""
        whole[0][...] = self._meet(part, lambda values: np.concatenate(self._gather(values)))

    def Allreduce(self, part: Any, total: NDArray[Any], op: Any = MPI.SUM) -> None:  # noqa: N802
        """Add up the arrays of all workers in their order, or take the largest values."""
        # A copy, because workers of a process may share the array.
        value = np.array(total if part is MPI.IN_PLACE else part)
        add = np.maximum if op == MPI.MAX else np.add
        total[...] = self._meet(value, lambda values: self._add(add, values))

    def _add(self, add: np.ufunc, values: dict[int, NDArray[Any]]) -> NDArray[Any]:
        """Reduce arrays in the order of the ranks, from one process to the next."""
        processes = self._meeting.processes
        total, *rest = values.values()
        if processes.rank:
            before = np.empty_like(total)
            processes.Recv(before, processes.rank - 1)
            add(before, total, out=total)
        for value in rest:
            add(total, value, out=total)
        if processes.rank + 1 < processes.size:
            processes.Send(total, processes.rank + 1)
        if processes.size > 1:
            processes.Bcast(total, processes.size - 1)
        return total

    # Communicators

    def Split(self, color: int = 0, key: int = 0) -> Any:  # noqa: N802
        """Return a communicator of the workers with this color, in the order of their keys."""
        comms = self._meet((color, key), self._split)
        return comms.get(self.rank, MPI.COMM_NULL)

    def _split(self, values: dict[int, tuple[int, int]]) -> dict[int, "CarriedComm"]:
        """Return the new communicators of this process's workers, by their ranks in this one."""
        meeting, comms = self._meeting, dict[int, CarriedComm]()
        processes = meeting.processes
        everyone = self._gather({r: (*value, processes.rank) for r, value in values.items()})
        by_color: dict[int, list[tuple[int, int, int]]] = {}
        for rank, (color, key, process) in enumerate(everyone):
            if color != MPI.UNDEFINED:
                by_color.setdefault(color, []).append((key, rank, process))
        for color in sorted(by_color):
            members = sorted(by_color[color])
            here = {
                rank: new
                for new, (_, rank, process) in enumerate(members)
                if process == processes.rank
            }
            if not here:
                continue
            sharing = sorted({process for _, _, process in members})
            if len(sharing) == 1:
                joint = MPI.COMM_SELF
            else:
                group = processes.Get_group()
                joint = processes.Create_group(group.Incl(sharing), tag=color % 2**14)
            place = _Meeting(list(here.values()), joint, meeting.crew)
            comms |= {rank: CarriedComm(new, len(members), place) for rank, new in here.items()}
        return comms

    def Split_type(self, split_type: int, key: int = 0) -> Any:  # noqa: N802
        """Return a communicator of the workers that share memory, which all of them do."""
        return self.Split(0, key)

    def Dup(self) -> "CarriedComm":  # noqa: N802
        """Return a communicator of the same workers."""
        comm: CarriedComm = self.Split(0, self.rank)
        return comm

    def Free(self) -> None:  # noqa: N802
        """Free the communicator of the processes."""
        self._meet(None, lambda _: self._free())

    def _free(self) -> None:
        if self._meeting.processes.size > 1:
            self._meeting.processes.Free()

    def Abort(self, status: int) -> None:  # noqa: N802
        """Exit. Only a worker without other processes calls it."""
        sys.exit(status)

    def Set_attr(self, key: int, value: Any) -> None:  # noqa: N802
        """Keep a value under a key."""
        self._attributes[key] = value

    def Get_attr(self, key: int) -> Any:  # noqa: N802
        """Return the value of a key, or None."""
        return self._attributes.get(key)


def host_of_worker(ranks: MPI.Comm, workers: int) -> list[str]:
    """Return the host of each worker, where ranks carry equal numbers of workers. Collective.

    Args:
        ranks: communicator of the ranks.
        workers: number of workers.

    Raises:
        CollectiveError: the ranks cannot carry as many workers, or they are on several hosts.

    Examples:
        >>> hosts = host_of_worker(MPI.COMM_SELF, 3)
        >>> len(hosts), len(set(hosts))
        (3, 1)
    """
    if workers < 1:
        raise CollectiveError(f"--workers {workers}: expected 1 or more")
    if workers % ranks.size:
        raise CollectiveError(
            f"--workers {workers}: expected a multiple of this job's {ranks.size} ranks"
        )
    hosts = host_of_rank(ranks)
    if len(set(hosts)) > 1 and workers > ranks.size:
        raise CollectiveError(
            f"--workers {workers}: this job has {len(set(hosts))} hosts; expected one, because "
            "workers of a rank share memory; on several hosts, start a rank for each worker"
        )
    return hosts if workers == ranks.size else workers * hosts[:1]


def carry(ranks: MPI.Comm, workers: int, do: Callable[[MPI.Comm], T]) -> T:
    """Run a number of workers on the ranks of a host, as many on each. Collective.

    Args:
        ranks: communicator of the ranks.
        workers: number of workers. If each rank has one, it is the rank itself.
        do: function that a worker runs with the communicator of all workers.

    Returns:
        The result of the first worker of this rank.

    Raises:
        CollectiveError: as `host_of_worker`, or raised by the function.

    Examples:
        >>> carry(MPI.COMM_SELF, 3, lambda world: world.allgather(world.rank))
        [0, 1, 2]
    """
    if workers == ranks.size:
        return do(ranks)
    host_of_worker(ranks, workers)
    each, crew = workers // ranks.size, _Crew()
    carried = range(ranks.rank * each, (ranks.rank + 1) * each)
    meeting = _Meeting(carried, ranks, crew)
    comms: list[Any] = [CarriedComm(rank, workers, meeting) for rank in carried]
    return crew.run([partial(do, comm) for comm in comms])[0]


def is_carried(comm: MPI.Comm) -> bool:
    """Return whether processes carry the workers of a communicator."""
    return isinstance(comm, CarriedComm)


def is_first_in_process(comm: MPI.Comm) -> bool:
    """Return whether no other worker of the communicator in this process has a lower rank."""
    return not isinstance(comm, CarriedComm) or comm.is_first


def per_process(comm: MPI.Comm, do: Callable[[MPI.Comm], T]) -> T:
    """Call a function in each process, with the communicator of the processes. Collective.

    Where a rank is a worker, that is the communicator itself.

    Returns:
        What the function returned in this process, the same object for all of its workers.

    Examples:
        >>> carry(MPI.COMM_SELF, 3, lambda world: per_process(world, lambda comm: comm.size))
        1
    """
    return comm.per_process(do) if isinstance(comm, CarriedComm) else do(comm)


def background(comm: MPI.Comm, name: str) -> Executor:
    """Return what runs functions with collectives beside a worker's own work, one at a time.

    This is a thread. Workers that share a process share its cores, too: for them, a function runs
    when its result is needed.

    Args:
        comm: communicator of the workers.
        name: name of the thread.
    """
    return _Later() if is_carried(comm) else ThreadPoolExecutor(1, name)


class _Later(Executor):
    """Runs functions when their results are needed."""

    def submit(self, do: Callable[..., T], *arguments: Any) -> Future[T]:  # type: ignore[override]
        """Return the future result of a function."""
        return _LaterResult(partial(do, *arguments))


class _LaterResult(Future[T]):
    def __init__(self, do: Callable[[], T]) -> None:
        super().__init__()
        self._do = do

    def result(self, timeout: float | None = None) -> T:
        """Call the function and return its result."""
        return self._do()


def alone() -> CarriedComm:
    """Return the communicator of a single worker."""
    return CarriedComm(0, 1, _Meeting([0], _Process(), None))


class _Process:
    """The communicator of a process without MPI."""

    rank, size = 0, 1

    def Barrier(self) -> None:  # noqa: N802
        """Nobody else is there to wait for."""
