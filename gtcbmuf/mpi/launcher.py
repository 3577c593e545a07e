"""Launchers of jobs (mpirun, srun): start of MPI, rank and size, environment variables.

Only `start` loads MPI. The other functions read the environment, /proc and the launcher's pipe.
"""

import fcntl
import os
import re
import shutil
import stat
import sys
import termios
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gtcbmuf.base.errors import UserError
from gtcbmuf.mpi import without_mpi

if TYPE_CHECKING:
    from mpi4py import MPI

#: Variables in which each launcher sets the world's size, this process's rank, and the number of
#: processes on this host. The innermost launcher comes first, such as mpirun in a Slurm job.
_LAUNCHERS = {
    "Open MPI's mpirun": (
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "a PMI launcher (MPICH's mpirun, srun)": ("PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS"),
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_TASKS_PER_NODE"),
}
#: Index of each variable in these tuples.
_SIZE, _RANK, _HOST_SIZE = range(3)

#: Nanoseconds of timer slack for each rank that shares a core.
SLACK_PER_RANK = 32_000
#: Ranks per core above which a collective with few rounds beats one with few bytes.
CROWD = 16


def _read_number(index: int) -> int | None:
    """Return the innermost launcher's variable, or None without a launcher or a number."""
    for variables in _LAUNCHERS.values():
        if variables[_SIZE] in os.environ:
            return _parse_number(variables[index])
    return None


def _parse_number(variable: str) -> int | None:
    match = re.match(r"\d+", os.environ.get(variable, ""))
    return int(match[0]) if match else None


def _processes_on_host() -> int | None:
    """Return the number of processes on this host.

    With --mpi=pmi2 only srun's own variable holds this number. It lists all nodes: "4(x2),3".
    """
    node = _parse_number("SLURM_NODEID") or 0
    for variables in _LAUNCHERS.values():
        runs = re.findall(r"(\d+)(?:\(x(\d+)\))?", os.environ.get(variables[_HOST_SIZE], ""))
        numbers = [int(number) for number, times in runs for _ in range(int(times or 1))]
        if numbers:
            return numbers[node] if node < len(numbers) else numbers[0]
    return None


def name() -> str:
    """Return the launcher that started this process, such as "srun --mpi=pmi2", or "none"."""
    names = (name for name, variables in _LAUNCHERS.items() if variables[_SIZE] in os.environ)
    launcher = next(names, "none")
    is_mpirun = any(
        variable in os.environ for variable in ("OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
    )
    if is_mpirun or "SLURM_STEP_NUM_TASKS" not in os.environ:
        return launcher
    # Without the option --mpi, srun uses the site's default. Variables identify that default.
    kinds = {"PMI_SIZE": "pmi2", "PMIX_RANK": "pmix"}
    default = next((kind for variable, kind in kinds.items() if variable in os.environ), "none")
    return f"srun --mpi={os.environ.get('SLURM_MPI_TYPE', default)}"


def rank() -> int:
    """Return the rank of this process according to the launcher, or 0 without a launcher."""
    return _read_number(_RANK) or 0


def size() -> int:
    """Return the number of processes that the launcher started, or 1 without a launcher."""
    return _read_number(_SIZE) or 1


def mpirun(workers: int) -> list[str]:
    """Return the command line that starts workers on this machine or in this Slurm allocation.

    Args:
        workers: number of workers.

    Returns:
        The words of the command line before the program.

    Raises:
        UserError: no mpirun is beside this Python or on PATH.
    """
    beside_python = Path(sys.executable).with_name("mpirun")
    path = str(beside_python) if beside_python.exists() else shutil.which("mpirun")
    if path is None:
        raise UserError(
            "mpirun: not found beside this Python or on PATH; install one with scripts/setup, or "
            "load your site's module"
        )
    return [path, "-n", str(workers)]


def spans_hosts() -> bool:
    """Return whether mpirun would start ranks on several hosts of a Slurm job."""
    return (_parse_number("SLURM_JOB_NUM_NODES") or 1) > 1


def program() -> str:
    """Return the path of this Python's `gtcbmuf` command."""
    return str(Path(sys.executable).with_name("gtcbmuf"))


def settings() -> dict[str, str]:
    """Return environment variables for Open MPI 4 and 5: oversubscribe cores, run as root."""
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # In a Slurm job this policy would put all ranks on the first node.
    oversubscription = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    return {
        **({} if "SLURM_JOB_ID" in os.environ else oversubscription),
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        **({} if os.getuid() else root),
    }


def prepare() -> None:
    """Set MPI's environment variables for this number of ranks, unless MPI is already loaded."""
    if "mpi4py.MPI" not in sys.modules:
        # At SIGHUP, from a closed terminal, UCX would begin to write debug lines.
        os.environ.setdefault("UCX_DEBUG_SIGNO", "0")
        _ease_oversubscription()


def start(*, alone: bool = False) -> "MPI.Comm":
    """Start MPI.

    Args:
        alone: whether a process without a launcher does without MPI.

    Returns:
        MPI's world.

    Raises:
        UserError: no MPI library can be loaded, or it does not belong to the launcher.
    """
    if alone and size() == 1 and without_mpi.is_possible():
        return without_mpi.install()  # type: ignore[no-any-return]
    prepare()
    # mpi4py would warn on every rank. The checks below report the same fault once.
    warnings.filterwarnings("ignore", "suspicious MPI execution environment")
    try:
        import mpi4py

        mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"no MPI library can be loaded ({reason}); install one with scripts/setup, or load "
            "your site's module and name its library in MPI4PY_LIBMPI"
        ) from None
    check_library(MPI.Get_library_version())
    if not MPI.Is_initialized():
        MPI.Init_thread()
    check_size(MPI.COMM_WORLD.size)
    return MPI.COMM_WORLD


_ADVICE = (
    "start with the mpirun that belongs to the library (with scripts/setup: .venv/bin/mpirun), "
    "or with srun and the --mpi that it was built for (pmi2 or pmix)"
)


def check_library(version: str) -> None:
    """Check, before MPI starts, that the MPI library works under the launcher.

    Args:
        version: result of MPI_Get_library_version.

    Raises:
        UserError: Open MPI's mpirun cannot start this library.
    """
    family = " ".join(version.partition("\n")[0].split())
    foreign = any(name in version for name in ("MPICH", "Intel(R) MPI", "MVAPICH"))
    if name() == "Open MPI's mpirun" and foreign:
        raise UserError(f"Open MPI's mpirun cannot start the loaded library, {family}; {_ADVICE}")


def check_size(world_size: int) -> None:
    """Check that MPI's world has as many processes as the launcher started.

    Args:
        world_size: size of MPI's world.

    Raises:
        UserError: the sizes differ, because the MPI library does not belong to the launcher. N jobs
            of one worker would run instead of one job of N workers.
    """
    processes = _read_number(_SIZE)
    if processes is not None and processes != world_size:
        raise UserError(
            f"{name()} started {processes} processes, but MPI sees a world of {world_size}: the "
            f"launcher and the MPI library do not belong together; {_ADVICE}"
        )


def is_crowded() -> bool:
    """Return whether this host has more ranks than cores, or MPICH was told to yield anyway.

    Emulated hosts share the cores of their machine, so `scripts/hosts` tells MPICH to yield.
    """
    yields = os.environ.get("MPIR_CVAR_ENABLE_HEAVY_YIELD") == "1"
    return yields or (_processes_on_host() or 1) > (os.cpu_count() or 1)


def _ease_oversubscription() -> None:
    """Make waiting ranks leave their core to others if a host has more ranks than cores.

    MPICH polls once, then sleeps for a nanosecond, which Linux extends by the process's timer
    slack. The default slack is 50 us. With 64 ranks per core, the polls then leave little time for
    computation. So the slack grows with the number of ranks.

    Open MPI yields by itself if its mpirun knows that it oversubscribes. But its collectives for
    long messages have about as many rounds as ranks. In every round each rank waits for its turn on
    the core. The collectives of the component "basic" pass through one rank instead. All ranks must
    take the same component. They do so on a single host, where each rank knows the number of ranks.

    MPICH also takes 5 MB per rank for message buffers. UCX's buffers for messages within a host
    take 4 MB of this. MPICH does not need these buffers (Open MPI may).

    The transport posix stays on. Without it, MPI_Init with 128 ranks took 28 s instead of 8 s (one
    run each). Perhaps UCX then connects the ranks by TCP.
    """
    on_host, cores = _processes_on_host(), os.cpu_count()
    if on_host is None or cores is None or on_host <= cores:
        return
    if on_host == _read_number(_SIZE) and on_host > CROWD * cores:
        os.environ.setdefault("OMPI_MCA_coll_basic_priority", "90")
    os.environ.setdefault("MPIR_CVAR_POLLS_BEFORE_YIELD", "1")
    os.environ.setdefault("MPIR_CVAR_POSIX_POLL_FREQUENCY", "1")
    os.environ.setdefault("MPIR_CVAR_ENABLE_HEAVY_YIELD", "1")
    os.environ.setdefault("MPIR_CVAR_CH4_SHM_POSIX_IQUEUE_NUM_CELLS", "16")
    if "PMI_SIZE" in os.environ:
        os.environ.setdefault("UCX_TLS", "^sysv")
        os.environ.setdefault("UCX_POSIX_RX_BUFS_GROW", "32")
        os.environ.setdefault("UCX_POSIX_FIFO_SIZE", "64")
    with suppress(OSError):
        slack = SLACK_PER_RANK * on_host // cores
        Path("/proc/self/timerslack_ns").write_text(f"{max(slack, 50_000)}\n")


def on_terminal() -> bool:
    """Return whether this process's stderr reaches a terminal, directly or through mpirun.

    A rank's stderr is a pipe to its launcher, so the launcher's stderr decides.
    """
    if name() == "none":
        return os.isatty(2)
    try:
        target = os.readlink(f"/proc/{_launcher_process()}/fd/2")
    except OSError:
        return False
    return target.startswith(("/dev/pts/", "/dev/tty"))


def wait_until_read() -> None:
    """Wait until the launcher has read this process's stderr, but at most one second.

    When a job aborts, MPICH's mpirun ends it without reading the rest of the pipe.
    """
    deadline = time.monotonic() + 1
    with suppress(OSError):
        while stat.S_ISFIFO(os.fstat(2).st_mode) and time.monotonic() < deadline:
            unread = fcntl.ioctl(2, termios.FIONREAD, bytes(4))
            if not int.from_bytes(unread, sys.byteorder):
                return
            time.sleep(0.001)


def _launcher_process() -> int | None:
    """Return the process id of this process's mpirun, or None if it is not on this host."""
    process = os.getpid()
    try:
        for _ in range(4):  # rank, proxy or daemon, mpirun
            process = int(_stat_fields(process)[1])
            command = Path(f"/proc/{process}/comm").read_text().strip()
            if command in ("mpirun", "mpiexec", "mpiexec.hydra", "prterun", "orterun"):
                return process
    except (OSError, ValueError, IndexError):
        pass
    return None


def _stat_fields(process: int | None) -> list[str]:
    """Return the fields of /proc/PROCESS/stat after the command's name: state, parent, ..."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
