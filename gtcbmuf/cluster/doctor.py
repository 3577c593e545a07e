"""Diagnosis of a job's hosts: problems that would slow a training run down or stop it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mpi4py
from mpi4py import MPI

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.kernel_cache import cache_folder, take_fault
from gtcbmuf.core.kernels import threshold
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.mpi import launcher
from gtcbmuf.mpi.hosts import cores_of_hosts, host_of_rank
from gtcbmuf.mpi.probes import find_partners, time_one_way

#: Bytes of a message and number of round trips, for the latency and for the bandwidth.
_SMALL, _LARGE = (8, 200), (4 << 20, 10)
#: Limits beyond which a network is slow: latency in microseconds, bandwidth in MB/s.
_SLOW_LATENCY, _SLOW_BANDWIDTH = 50.0, 500.0


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        subject: name of the check, such as "launcher".
        state: measured or detected state.
        hint: cause or remedy of a problem; empty without a problem.
    """

    subject: str
    state: str
    hint: str = ""


def diagnose(world: MPI.Comm, corpus_file: Path | None) -> list[Finding]:
    """Check library, launcher, hosts, threads, caches, corpus and network; collective.

    Args:
        world: all ranks.
        corpus_file: a corpus that every host must be able to read, or None.

    Returns:
        The findings of all hosts, complete on rank 0.
    """
    hosts = host_of_rank(world)
    library = " ".join(MPI.Get_library_version().partition("\n")[0].split())
    findings = [
        Finding("library", f"{library}, mpi4py {mpi4py.__version__}"),
        _check_launcher(world.size),
        *_check_names(world, hosts),
        *_check_cores(world, hosts),
        *_check_cache(world, hosts),
    ]
    if corpus_file:
        findings += _check_corpus(world, hosts, corpus_file)
    return findings + _check_network(world, hosts)


def _check_launcher(size: int) -> Finding:
    """Report the launcher. `launcher.start` has already compared MPI's world with it."""
    if launcher.name() == "none":
        hint = "start gtcbmuf doctor as you start the job: mpirun -n N, or srun"
        return Finding("launcher", "none: 1 worker", hint)
    return Finding("launcher", f"{launcher.name()}: {size} ranks in one MPI world")


def _check_names(world: MPI.Comm, hosts: Sequence[str]) -> list[Finding]:
    """Check that the name of a host is that of no other host."""
    name_of_host = dict(zip(hosts, world.allgather(MPI.Get_processor_name()), strict=True))
    return [
        Finding("host names", f"{count} hosts are called {name}", "give each node its own name")
        for name, count in Counter(name_of_host.values()).items()
        if count > 1
    ]


def _check_cores(world: MPI.Comm, hosts: Sequence[str]) -> list[Finding]:
    import threadpoolctl

    threads = max((pool["num_threads"] for pool in threadpoolctl.threadpool_info()), default=1)
    threads_of_rank, cores_of_host = world.allgather(threads), cores_of_hosts(world, hosts)
    threads_of_host: Counter[str] = Counter()
    for host, threads in zip(hosts, threads_of_rank, strict=True):
        threads_of_host[host] += threads
    findings = []
    for host, ranks in Counter(hosts).items():
        cores, threads = cores_of_host[host], threads_of_host[host]
        hint = ""
        if ranks > cores:
            hint = (
                "more ranks than cores: they slow each other down; use fewer ranks per node, or "
                "more cores (srun --cpu-bind, mpirun --bind-to)"
            )
        elif threads > cores:
            hint = f"more threads than cores: set OMP_NUM_THREADS={cores // ranks}"
        findings.append(
            Finding(f"host {host}", f"{ranks} ranks, {threads} threads, {cores} cores", hint)
        )
    if len(set(Counter(hosts).values())) > 1:
        hint = 'topology.group_size = "node" needs equal numbers: use --ntasks-per-node'
        findings.append(Finding("ranks per host", "uneven", hint))
    return findings


def _check_cache(world: MPI.Comm, hosts: Sequence[str]) -> list[Finding]:
    """Check that Numba's cache has a folder on every host: the one in NUMBA_CACHE_DIR, if set."""
    faults = world.allgather(take_fault())
    fault_of_host = {host: fault for host, fault in zip(hosts, faults, strict=True) if fault}
    if not fault_of_host:
        return [Finding("Numba cache", str(cache_folder(threshold) or "none"))]
    fault = next(iter(fault_of_host.values()))
    state = f"on {', '.join(fault_of_host)}: {fault.state}"
    return [Finding("Numba cache", state, f"{fault.remedy}, preferably on a disk of each node")]


def _check_corpus(world: MPI.Comm, hosts: Sequence[str], file: Path) -> list[Finding]:
    """Check that the first rank of every host can read the corpus."""
    fault = ""
    if hosts.index(hosts[world.rank]) == world.rank:
        try:
            corpus = open_corpus(file)
            corpus.train.features[len(corpus.train) - 1 :]
        except UserError as error:
            fault = str(error)
    faults = {
        host: fault for host, fault in zip(hosts, world.allgather(fault), strict=True) if fault
    }
    if not faults:
        return [Finding("corpus", f"{file}: readable on every host")]
    hint = "use a file system that all nodes share, or a path that is valid on every node"
    return [Finding("corpus", f"on {host}: {fault}", hint) for host, fault in faults.items()]


def _check_network(world: MPI.Comm, hosts: Sequence[str]) -> list[Finding]:
    """Measure the network from rank 0 to a rank of its host, and to the slowest other host."""
    near, far = find_partners(hosts)
    findings = []
    for subject, partners in (("within a host", near), ("across hosts", far)):
        if not partners:
            continue
        latency = max(time_one_way(world, partner, *_SMALL) for partner in partners) * 1e6
        seconds = {hosts[partner]: time_one_way(world, partner, *_LARGE) for partner in partners}
        slowest = max(seconds, key=seconds.__getitem__)
        bandwidth = _LARGE[0] / seconds[slowest] / 1e6
        to = f" (to {slowest}, the slowest of {len(partners)})" if len(partners) > 1 else ""
        hint = ""
        if latency > _SLOW_LATENCY or bandwidth < _SLOW_BANDWIDTH:
            hint = (
                "slow for one machine: check whether ranks share cores"
                if subject == "within a host"
                else "slow for a cluster: check that MPI uses the fast network (MPICH: "
                "FI_PROVIDER, UCX_TLS; Open MPI: --mca pml, --mca btl_tcp_if_include)"
            )
        findings.append(Finding(subject, f"{latency:.3g} us, {bandwidth:,.0f} MB/s{to}", hint))
    return findings


def format_findings(findings: Sequence[Finding]) -> str:
    """Format findings as text, one line per finding and one per hint.

    Examples:
        >>> print(format_findings([Finding("launcher", "none", "use mpirun")]))
        warn  launcher  none
                        -> use mpirun
    """
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        verdict = "warn" if finding.hint else "ok  "
        lines.append(f"{verdict}  {finding.subject:<{width}}  {finding.state}")
        if finding.hint:
            lines.append(f"      {'':<{width}}  -> {finding.hint}")
    return "\n".join(lines)
