"""Launchers: their environment variables, and checks against MPI's world."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.launch import ROOT

from gtcbmuf.base.errors import UserError
from gtcbmuf.mpi import launcher

OPEN_MPI = "Open MPI's mpirun"
PMI = "a PMI launcher (MPICH's mpirun, srun)"
SRUN = "srun --mpi=none"
# Variables of each launcher: size, rank and number of ranks on this host.
VARIABLES = {
    OPEN_MPI: ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    PMI: ("PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS"),
    SRUN: ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_TASKS_PER_NODE"),
}
every_launcher = pytest.mark.parametrize("name", VARIABLES)


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith(("OMPI_", "PMI_", "PMIX_", "MPI_", "SLURM_")):
            monkeypatch.delenv(variable)


def started_by(monkeypatch: pytest.MonkeyPatch, name: str, size: int, rank: int) -> None:
    for variable, value in zip(VARIABLES[name], (size, rank, size), strict=True):
        monkeypatch.setenv(variable, str(value))


def test_without_a_launcher_any_world_is_accepted() -> None:
    assert launcher.name() == "none"
    assert launcher.rank() == 0
    launcher.check_size(1)
    launcher.check_size(4)


@every_launcher
def test_a_launcher_is_recognised(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    started_by(monkeypatch, name, size=12, rank=11)
    assert launcher.name() == name
    assert launcher.rank() == 11
    launcher.check_size(12)


@every_launcher
def test_singletons_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The launcher started 4 processes, and each has a world of its own."""
    started_by(monkeypatch, name, size=4, rank=2)
    with pytest.raises(UserError) as error_info:
        launcher.check_size(1)
    message = str(error_info.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{name} started 4 processes, but MPI sees a world of 1: ")
    assert "mpirun" in message


def test_sruns_kind_of_mpi_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    started_by(monkeypatch, SRUN, size=4, rank=2)
    monkeypatch.setenv("PMI_SIZE", "4")
    assert launcher.name() == "srun --mpi=pmi2"
    monkeypatch.delenv("PMI_SIZE")
    monkeypatch.setenv("PMIX_RANK", "2")
    assert launcher.name() == "srun --mpi=pmix"
    monkeypatch.setenv("SLURM_MPI_TYPE", "pmix_v4")
    assert launcher.name() == "srun --mpi=pmix_v4"


@every_launcher
def test_one_process_under_a_launcher_is_accepted(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    started_by(monkeypatch, name, size=1, rank=0)
    launcher.check_size(1)


@pytest.mark.parametrize("name", [OPEN_MPI, PMI])
def test_mpirun_takes_precedence_over_srun(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    started_by(monkeypatch, SRUN, size=1, rank=0)
    started_by(monkeypatch, name, size=8, rank=5)
    assert launcher.name() == name
    assert launcher.rank() == 5
    launcher.check_size(8)


@pytest.mark.parametrize("size", ["", "many", "-3"])
def test_an_invalid_size_is_ignored(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("PMI_SIZE", size)
    assert launcher.rank() == 0
    launcher.check_size(3)


FOREIGN = [
    "MPICH Version:      5.0.1\nMPICH Release date: ...\n",
    "Intel(R) MPI Library 2021.11 for Linux* OS\n",
    "MVAPICH Version: 4.0\n",
]
OWN = "Open MPI v5.0.10, package: Open MPI conda@x Distribution\n"


@pytest.mark.parametrize("version", FOREIGN)
def test_a_library_of_another_launcher_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    launcher.check_library(version)  # without a launcher every library is accepted
    started_by(monkeypatch, PMI, size=2, rank=0)
    launcher.check_library(version)
    started_by(monkeypatch, OPEN_MPI, size=2, rank=0)
    with pytest.raises(UserError) as error_info:
        launcher.check_library(version)
    assert len(str(error_info.value).splitlines()) == 1
    assert " ".join(version.splitlines()[0].split()) in str(error_info.value)


@every_launcher
def test_open_mpi_passes_the_library_check(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    started_by(monkeypatch, name, size=2, rank=0)
    launcher.check_library(OWN)


EASED = ("MPIR_CVAR_ENABLE_HEAVY_YIELD", "UCX_TLS")


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """File of this process's timer slack, restored after the test. The environment is empty."""
    file = Path("/proc/self/timerslack_ns")
    before = file.read_text()
    monkeypatch.setattr(os, "environ", {})
    yield file
    file.write_text(before)


@pytest.mark.parametrize(
    ("tasks", "node", "number"),
    [("3", 0, 3), ("4(x2)", 1, 4), ("1,9", 0, 1), ("1,9", 1, 9), ("4(x2),3", 2, 3), ("", 0, None)],
)
@pytest.mark.usefixtures("slack")
def test_slurm_lists_the_tasks_of_all_nodes(
    monkeypatch: pytest.MonkeyPatch, tasks: str, node: int, number: int | None
) -> None:
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", tasks)
    monkeypatch.setenv("SLURM_NODEID", str(node))
    assert launcher._processes_on_host() == number


@pytest.mark.parametrize("variable", ["MPI_LOCALNRANKS", "SLURM_STEP_TASKS_PER_NODE"])
@pytest.mark.parametrize(("ranks", "eased"), [(1, False), (10_000, True)])
def test_only_ranks_that_share_cores_get_more_timer_slack(
    monkeypatch: pytest.MonkeyPatch, slack: Path, variable: str, ranks: int, eased: bool
) -> None:
    before = slack.read_text()
    started_by(monkeypatch, PMI, size=ranks, rank=0)
    monkeypatch.setenv(variable, os.environ.pop("MPI_LOCALNRANKS"))
    launcher._ease_oversubscription()
    assert (slack.read_text() != before) is eased
    assert all((variable in os.environ) is eased for variable in EASED)


@pytest.mark.parametrize(
    ("ranks", "on_host", "is_crowd"), [(9, 9, False), (9_999, 9_999, True), (9_999, 9_998, False)]
)
@pytest.mark.usefixtures("slack")
def test_only_a_crowd_on_one_host_uses_collectives_of_few_rounds(
    monkeypatch: pytest.MonkeyPatch, ranks: int, on_host: int, is_crowd: bool
) -> None:
    started_by(monkeypatch, OPEN_MPI, size=ranks, rank=0)
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", str(on_host))
    launcher._ease_oversubscription()
    assert ("OMPI_MCA_coll_basic_priority" in os.environ) is is_crowd


REPORT = """
import sys
from gtcbmuf.mpi import launcher
print("report", file=sys.stderr, flush=True)
launcher.wait_until_read()
print("end", flush=True)
"""


def test_a_rank_waits_until_its_stderr_is_read() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", REPORT], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        select.select([process.stderr], [], [])
        assert not select.select([process.stdout], [], [], 0.2)[0]
        assert process.stderr.read(7) == b"report\n"
        assert process.stdout.read() == b"end\n"
    assert process.returncode == 0


@pytest.mark.parametrize("place", ["/dev/null", "file"])
def test_a_rank_does_not_wait_for_a_file(tmp_path: Path, place: str) -> None:
    with (tmp_path / place).open("w") as file:
        done = subprocess.run([sys.executable, "-c", REPORT], stdout=subprocess.PIPE, stderr=file)
    assert (done.returncode, done.stdout) == (0, b"end\n")


def test_compilation_writes_nothing_to_a_terminal(tmp_path: Path) -> None:
    pytest.importorskip("colorama")  # with it, Numba colours its messages
    compile_all = "import gtcbmuf.core.kernels, gtcbmuf.base.jit as jit; jit.compile_kernels()"
    terminal, end = os.openpty()
    with open(terminal, "rb", buffering=0) as reader, open(end, "wb", buffering=0) as writer:
        subprocess.run(
            [sys.executable, "-c", compile_all + "; print('over')"],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            stdout=writer,
            check=True,
            timeout=100,
        )
        assert reader.read(100) == b"over\r\n"


@pytest.mark.parametrize("job", [False, True])
def test_studies_set_the_variables_of_scripts_environment(
    job: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if job:
        monkeypatch.setenv("SLURM_JOB_ID", "1")
    settings = launcher.settings()
    names = [name for name in os.environ if not name.startswith(("OMPI_", "PRTE_"))]
    script = f". {ROOT}/scripts/environment && env"
    done = subprocess.run(
        ["bash", "-c", script],
        env={name: os.environ[name] for name in names},
        capture_output=True,
        text=True,
    )
    exported = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert settings.items() <= exported.items()
    assert ("PRTE_MCA_rmaps_default_mapping_policy" in settings) is not job
    assert ("PRTE_MCA_rmaps_default_mapping_policy" in exported) is not job
