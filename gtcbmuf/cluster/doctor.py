"""Looks at where a job would run, and tells what would slow it down or stop it."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mpi4py
from mpi4py import MPI

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.mpi import launcher
from gtcbmuf.mpi.probes import one_way, partners
from gtcbmuf.mpi.topology import cores_of_hosts, host_of_rank

#: Bytes of the messages that tell latency and bandwidth, and how often each goes there and back.
_SMALL, _LARGE = (8, 200), (4 << 20, 10)
#: Microseconds, and MB/s, beyond which a hint is given.
_SLOW_LATENCY, _SLOW_BANDWIDTH = 50.0, 500.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: was looked at.
        found: what there is.
        hint: what to do about it; empty if it is as it should be.
    """

    what: str
    found: str
    hint: str = ""


def findings(world: MPI.Comm, corpus_file: Path | None) -> list[Finding]:
    """Look at library, launcher, hosts, threads, caches, corpus, network; collective.

    Args:
        world: all ranks.
        corpus_file: that every host must be able to read, if any.
    """
    hosts = host_of_rank(world)
    library = " ".join(MPI.Get_library_version().partition("\n")[0].split())
    found = [
        Finding("library", f"{library}, mpi4py {mpi4py.__version__}"),
        _launcher(world.size),
        *_cores(world, hosts),
        *_cache(world, hosts),
    ]
    if corpus_file:
        found += _corpus(world, hosts, corpus_file)
    return found + _network(world, hosts)


def _launcher(size: int) -> Finding:
    """That MPI's world is the launcher's was found out when MPI was started."""
    if launcher.name() == "none":
        return Finding("launcher", "none: 1 worker", "start it as the job: mpirun -n N, or srun")
    return Finding("launcher", f"{launcher.name()}: {size} ranks, which see each other")


def _cores(world: MPI.Comm, hosts: Sequence[str]) -> list[Finding]:
    import threadpoolctl

    threads = max((pool["num_threads"] for pool in threadpoolctl.threadpool_info()), default=1)
    of_rank, of_host = world.allgather(threads), cores_of_hosts(world, hosts)
    found = []
    for host, ranks in Counter(hosts).items():
        cores = of_host[host]
        wanted = sum(number for number, its in zip(of_rank, hosts, strict=True) if its == host)
        hint = ""
        if ranks > cores:
            hint = (
                "more ranks than cores: each is slower, and waiting takes cores from those that "
                "work; fewer ranks a node, or more cores (srun --cpu-bind, mpirun --bind-to)"
            )
        elif wanted > cores:
            hint = f"more threads than cores: OMP_NUM_THREADS={cores // ranks}"
        found.append(
            Finding(f"host {host}", f"{ranks} ranks, {wanted} threads, {cores} cores", hint)
        )
    if len(set(Counter(hosts).values())) > 1:
        hint = 'topology.group_size = "node" wants as many on each: --ntasks-per-node'
        found.append(Finding("ranks per host", "uneven", hint))
    return found


def _cache(world: MPI.Comm, hosts: Sequence[str]) -> list[Finding]:
    """Where Numba keeps machine code: NUMBA_CACHE_DIR, or beside the source."""
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent / "__pycache__")
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    writable = world.allgather(nearest.is_dir() and os.access(nearest, os.W_OK))
    bad = sorted({host for host, can in zip(hosts, writable, strict=True) if not can})
    if not bad:
        return [Finding("Numba cache", str(folder))]
    hint = "name a folder that can be written in NUMBA_CACHE_DIR, best on each node's own disk"
    return [Finding("Numba cache", f"{folder}: not to be written on {', '.join(bad)}", hint)]


def _corpus(world: MPI.Comm, hosts: Sequence[str], file: Path) -> list[Finding]:
    fault = ""
    if hosts.index(hosts[world.rank]) == world.rank:
        try:
            opened = open_corpus(file)
            opened.train.features[len(opened.train) - 1 :]
        except UserError as error:
            fault = str(error)
    faults = {
        host: fault for host, fault in zip(hosts, world.allgather(fault), strict=True) if fault
    }
    if not faults:
        return [Finding("corpus", f"{file}: can be read on every host")]
    hint = "a file system that all nodes see, or a path that is right on each"
    return [Finding("corpus", f"on {host}: {fault}", hint) for host, fault in faults.items()]


def _network(world: MPI.Comm, hosts: Sequence[str]) -> list[Finding]:
    """From rank 0 to its neighbour, and to each other host: the slowest of these counts."""
    near, far = partners(hosts)
    found = []
    for what, others in (("within a host", near), ("across hosts", far)):
        if not others:
            continue
        latency = max(one_way(world, other, *_SMALL) for other in others) * 1e6
        seconds = {hosts[other]: one_way(world, other, *_LARGE) for other in others}
        slowest = max(seconds, key=seconds.__getitem__)
        bandwidth = _LARGE[0] / seconds[slowest] / 1e6
        to = f" (to {slowest}, the slowest of {len(others)})" if len(others) > 1 else ""
        hint = ""
        if latency > _SLOW_LATENCY or bandwidth < _SLOW_BANDWIDTH:
            hint = (
                "slow for one machine: do ranks share cores?"
                if what == "within a host"
                else "slow for a cluster; is it the fast network? MPICH: FI_PROVIDER, UCX_TLS; "
                "Open MPI: --mca pml, --mca btl_tcp_if_include"
            )
        found.append(Finding(what, f"{latency:.3g} us, {bandwidth:,.0f} MB/s{to}", hint))
    return found


def report(found: Sequence[Finding]) -> str:
    """A line for each finding, and one for each hint."""
    width = max(len(one.what) for one in found)
    lines = []
    for one in found:
        lines.append(f"{'look' if one.hint else 'ok  '}  {one.what:<{width}}  {one.found}")
        if one.hint:
            lines.append(f"      {'':<{width}}  -> {one.hint}")
    return "\n".join(lines)
