"""Memory that the ranks of a host share, and lanes from host to host."""

import math
import mmap
import os
import secrets
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike, NDArray

from gtcbmuf.base.output import warn
from gtcbmuf.mpi import launcher
from gtcbmuf.mpi.carried import is_carried, per_process
from gtcbmuf.mpi.collectives import PatientComm, complete
from gtcbmuf.mpi.host_barrier import CAN_SLEEP, HostBarrier
from gtcbmuf.mpi.hosts import host_of_rank
from gtcbmuf.mpi.job import CollectiveError


@cache
def _keys() -> tuple[int, int]:
    """Keys of a communicator's attributes: the host of each rank, and its `Hosts`."""
    return MPI.Comm.Create_keyval(), MPI.Comm.Create_keyval()


def set_hosts(comm: MPI.Comm, hosts: Sequence[str]) -> None:
    """Declare the host of each rank of a communicator.

    Args:
        comm: the ranks.
        hosts: host of each rank. The ranks of a host must be able to share memory.
    """
    comm.Set_attr(_keys()[0], list(hosts))


def hosts_with_shared_memory(comm: MPI.Comm) -> list[str]:
    """Return the host of each rank; collective.

    Where the ranks of a host cannot share memory, each of them counts as a host of its own. Rank 0
    prints a line then.

    Raises:
        CollectiveError: ranks that cannot share memory carry several workers each.
    """
    declared: Any = comm.Get_attr(_keys()[0])
    if declared is not None:
        return list(declared)
    hosts = host_of_rank(comm)
    local = comm.Split(hosts.index(hosts[comm.rank]), comm.rank)
    shares = per_process(
        local, lambda processes: processes.size == 1 or share_memory(processes, 8) is not None
    )
    sharing = comm.allgather(shares)
    local.Free()
    lacking = sorted({host for host, shares in zip(hosts, sharing, strict=True) if not shares})
    if lacking and is_carried(comm):
        raise CollectiveError(
            f"{', '.join(lacking)}: the ranks cannot share memory (are they in separate "
            "containers?); expected one rank that carries all workers, or a rank for each worker"
        )
    if lacking and comm.rank == 0:
        warn(
            f"gtcbmuf: {', '.join(lacking)}: the ranks cannot share memory (are they in separate "
            "containers?); they send messages to each other, which takes longer"
        )
    hosts = [host if host not in lacking else f"{host}/{r}" for r, host in enumerate(hosts)]
    set_hosts(comm, hosts)
    return hosts


def hosts_of(comm: MPI.Comm) -> "Hosts":
    """Return the hosts of a communicator's ranks; collective at the first call."""
    known: Any = comm.Get_attr(_keys()[1])
    hosts: Hosts = known or Hosts(comm)
    if known is None:
        comm.Set_attr(_keys()[1], hosts)
    return hosts


def free(comm: MPI.Comm) -> None:
    """Free a communicator and its `Hosts`; collective."""
    hosts: Any = comm.Get_attr(_keys()[1])
    if hosts is not None:
        hosts.free()
    comm.Free()


def share_memory(local: MPI.Comm, size: int) -> mmap.mmap | None:
    """Map memory that all ranks of a host share; collective.

    The memory belongs to no file system, so no limit of /dev/shm applies and nothing stays behind.

    Args:
        local: ranks of one host.
        size: number of bytes.

    Returns:
        The memory, zeros; None if any of the ranks cannot map it.
    """
    token, memory = secrets.token_bytes(8), None
    file = -1
    place: tuple[int, int, bytes] | None = None
    with suppress(OSError, AttributeError):  # a Python for older systems has no memfd_create
        if local.rank == 0:
            file = os.memfd_create("gtcbmuf", os.MFD_CLOEXEC)
            os.truncate(file, size + len(token))
            os.pwrite(file, token, size)
            place = os.getpid(), file, token
    place = local.bcast(place)
    with suppress(OSError, ValueError):
        if place and local.rank:
            file = os.open(f"/proc/{place[0]}/fd/{place[1]}", os.O_RDWR | os.O_CLOEXEC)
        if place and os.pread(file, len(token), size) == place[2]:
            memory = mmap.mmap(file, size + len(token))
    all_share = all(local.allgather(memory is not None))
    if file >= 0:
        os.close(file)
    return memory if all_share else None


def _shared_array(local: MPI.Comm, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    if local.size == 1:
        return np.zeros(shape, dtype)
    count = math.prod(shape)
    size = count * np.dtype(dtype).itemsize
    memory = share_memory(local, size)
    if memory is None:
        raise MemoryError(f"{size:,} bytes that the ranks of a host share")
    return np.frombuffer(memory, dtype, count).reshape(shape)


class Hosts:
    """The hosts of a communicator's ranks; its constructor is collective.

    Every host has the same number of lanes. A lane joins one rank of every host. `hosts_of` keeps
    one object for each communicator.

    Args:
        comm: the ranks.

    Attributes:
        count: number of hosts.
        local: communicator of the ranks on this rank's host, in rank order.
        lanes: number of lanes: the ranks of the smallest host.
        lane: communicator of this rank's lane; null for ranks of larger hosts that have none.
        barrier: waits for all ranks of this host.
        patient_barrier: does the same asleep.

    Examples:
        >>> hosts = Hosts(MPI.COMM_SELF)
        >>> hosts.count, hosts.local.size, hosts.lanes
        (1, 1, 1)
        >>> hosts.array((2, 3), np.int16).tolist()
        [[0, 0, 0], [0, 0, 0]]
    """

    def __init__(self, comm: MPI.Comm) -> None:
        names = hosts_with_shared_memory(comm)
        sizes = Counter(names)
        self.count, self.lanes = len(sizes), min(sizes.values())
        self.local = comm.Split(names.index(names[comm.rank]), comm.rank)
        has_lane = self.local.rank < self.lanes
        self.lane = comm.Split(self.local.rank if has_lane else MPI.UNDEFINED, comm.rank)
        self.barrier = self.local.Barrier
        self.patient_barrier = self._wait_asleep
        if is_carried(comm):
            self.patient_barrier = self.barrier
        elif self.local.size > 1 and launcher.is_crowded() and CAN_SLEEP:
            self.barrier = HostBarrier(self.local, self.array((2,), np.int64))
            self.patient_barrier = self.barrier

    def _wait_asleep(self) -> None:
        complete(PatientComm(self.local), [self.local.Ibarrier()])

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Make an array of zeros that the ranks of this host share; collective on the host.

        Raises:
            MemoryError: the host lacks the memory.
        """
        return per_process(self.local, lambda processes: _shared_array(processes, shape, dtype))

    def free(self) -> None:
        """Free the communicators; collective."""
        self.local.Free()
        if self.lane != MPI.COMM_NULL:
            self.lane.Free()
