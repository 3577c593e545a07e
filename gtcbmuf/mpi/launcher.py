"""Starting under a launcher (mpirun, srun): what it says of this process, and whether MPI agrees.

All but `start` only looks at the environment, /proc and the pipe to it, and needs no MPI.
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

if TYPE_CHECKING:
    from mpi4py import MPI

#: Of each launcher: the variables that hold the world's size, this process's rank in it, and the
#: number of processes on this host. The innermost launcher comes first: mpirun in a Slurm job.
_LAUNCHERS = {
    "Open MPI's mpirun": (
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "a PMI launcher (MPICH's mpirun, srun)": ("PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS"),
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_TASKS_PER_NODE"),
}


#: Nanoseconds of timer slack for every rank that shares a core.
SLACK_PER_RANK = 32_000
#: Ranks a core above which a collective of few rounds is faster than one of few bytes.
CROWD = 16


def _value(kind: int) -> int | None:
    for variables in _LAUNCHERS.values():
        if variables[0] in os.environ:
            return _number(variables[kind])
    return None


def _number(variable: str) -> int | None:
    number = re.match(r"\d+", os.environ.get(variable, ""))  # Slurm: "4(x2)"
    return int(number[0]) if number else None


def _on_host() -> int | None:
    """Processes on this host; srun is asked last, as with --mpi=pmi2 PMI does not tell."""
    told = (_number(variables[2]) for variables in _LAUNCHERS.values())
    return next((number for number in told if number is not None), None)


def name() -> str:
    """What started this process."""
    found = (name for name, variables in _LAUNCHERS.items() if variables[0] in os.environ)
    launcher = next(found, "none")
    inner = any(variable in os.environ for variable in ("OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS"))
    if inner or "SLURM_STEP_NUM_TASKS" not in os.environ:
        return launcher
    told = {"PMI_SIZE": "pmi2", "PMIX_RANK": "pmix"}  # where srun was given no --mpi
    default = next((kind for variable, kind in told.items() if variable in os.environ), "none")
    return f"srun --mpi={os.environ.get('SLURM_MPI_TYPE', default)}"


def rank() -> int:
    """This process's rank according to the launcher; 0 without one."""
    return _value(1) or 0


def mpirun(workers: int) -> list[str]:
    """What starts so many workers on this machine, or in this Slurm allocation.

    Raises:
        UserError: there is no mpirun.
    """
    beside = Path(sys.executable).with_name("mpirun")
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        raise UserError(
            "there is no mpirun beside this Python nor on PATH; install one with scripts/setup, or "
            "load your site's module"
        )
    return [found, "-n", str(workers)]


def program() -> str:
    """The `gtcbmuf` of this Python."""
    return str(Path(sys.executable).with_name("gtcbmuf"))


def settings() -> dict[str, str]:
    """What Open MPI 5 and 4 need in their environment for more ranks than cores, and for root."""
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # In a Slurm job this would put all ranks on the first node.
    crowded = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    return {
        **({} if "SLURM_JOB_ID" in os.environ else crowded),
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        **({} if os.getuid() else root),
    }


def prepare() -> None:
    """Before MPI is loaded: set what suits this number of ranks; nothing once it is loaded."""
    if "mpi4py.MPI" not in sys.modules:
        _ease_oversubscription()


def start() -> "MPI.Comm":
    """Start MPI; return its world.

    Raises:
        UserError: there is no MPI library, or it is another one than the launcher's.
    """
    prepare()
    # mpi4py would suspect on every rank what is reported once here.
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
    """Before MPI starts: make sure that the library can work under the launcher.

    Args:
        version: what MPI_Get_library_version says.

    Raises:
        UserError: a library that Open MPI's mpirun cannot start.
    """
    family = " ".join(version.partition("\n")[0].split())
    foreign = any(name in version for name in ("MPICH", "Intel(R) MPI", "MVAPICH"))
    if name() == "Open MPI's mpirun" and foreign:
        raise UserError(f"Open MPI's mpirun cannot start {family}, which is loaded; {_ADVICE}")


def check_size(world_size: int) -> None:
    """Make sure that MPI's world is the launcher's.

    Raises:
        UserError: MPI knows of fewer ranks, because its library is another one than the
            launcher's: N jobs of one worker would run instead of one job of N.
    """
    started = _value(0)
    if started is not None and started != world_size:
        raise UserError(
            f"{name()} started {started} processes, but MPI sees a world of {world_size}: the "
            f"launcher and the MPI library do not belong together; {_ADVICE}"
        )


def _ease_oversubscription() -> None:
    """Before MPI starts: if ranks exceed cores, have those that wait leave the cores to others.

    MPICH looks for messages once, then sleeps for a nanosecond, which Linux lengthens by the
    process's timer slack. By default that is 50 us: 64 ranks a core that wait leave little of it
    to those that compute. So the slack grows with their number. Open MPI yields by itself where its
    mpirun knows that it oversubscribes; but its collectives for long messages have about as many
    rounds as there are ranks, and in every round each rank waits for its turn on the core. Those of
    its component "basic" go by way of one rank. All ranks must choose alike, so only those do that
    know of all: on a single host.

    MPICH also takes 5 MB a rank for messages under way. 4 of them are UCX's for messages within a
    host, which MPICH does not need (Open MPI may). Not all of them are turned off: without posix
    too, MPI_Init with 128 ranks took 28 s instead of 8 (one run each), perhaps because UCX then
    connects them by TCP.
    """
    on_host, cores = _on_host(), os.cpu_count()
    if on_host is None or cores is None or on_host <= cores:
        return
    if on_host == _value(0) and on_host > CROWD * cores:
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
    """Whether what this process writes to stderr reaches a terminal, also by way of mpirun.

    A rank's stderr is a pipe to its launcher, so the launcher's own is looked at.
    """
    if name() == "none":
        return os.isatty(2)
    try:
        target = os.readlink(f"/proc/{_launcher_process()}/fd/2")
    except OSError:
        return False
    return target.startswith(("/dev/pts/", "/dev/tty"))


def wait_until_read() -> None:
    """Wait until the launcher has read what this process wrote to stderr; a second at most.

    MPICH's mpirun ends a job that aborts without looking, and what was not read is lost.
    """
    end = time.monotonic() + 1
    with suppress(OSError):
        while stat.S_ISFIFO(os.fstat(2).st_mode) and time.monotonic() < end:
            unread = fcntl.ioctl(2, termios.FIONREAD, bytes(4))
            if not int.from_bytes(unread, sys.byteorder):
                return
            time.sleep(0.001)


def age() -> float | None:
    """Seconds since the launcher started, or this process without one; None if it is elsewhere."""
    process = os.getpid() if name() == "none" else _launcher_process()
    try:
        ticks = int(_state(process)[19])  # since the machine started, as CLOCK_BOOTTIME
    except (OSError, ValueError, IndexError):
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _launcher_process() -> int | None:
    """The mpirun that this process descends from, if it runs on this host."""
    process = os.getpid()
    try:
        for _ in range(4):  # rank, proxy or daemon, mpirun
            process = int(_state(process)[1])
            command = Path(f"/proc/{process}/comm").read_text().strip()
            if command in ("mpirun", "mpiexec", "mpiexec.hydra", "prterun", "orterun"):
                return process
    except (OSError, ValueError, IndexError):
        pass
    return None


def _state(process: int | None) -> list[str]:
    """The fields of /proc/PROCESS/stat after the command's name: state, parent, ..."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
