"""The job files on a real Slurm, whose nodes `scripts/slurm` emulates."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.corpora import write_corpus
from support.launch import ROOT, clean_environment, gtcbmuf, program, run

from gtcbmuf.studies.results import read_results
from gtcbmuf.training.checkpoint_files import read_checkpoint

pytestmark = pytest.mark.needs(
    *("slurmctld", "slurmd", "sbatch", "munged", "unshare", "setpriv", "namespaces")
)

SCRIPT = ROOT / "scripts/slurm"
#: srun starts the MPICH wheel's ranks; those of the Open MPI wheel its own mpirun.
LAUNCHERS, RANK_3, SAYS_KILLED = (["srun", "mpirun"], b"\0SLURM_PROCID=3\0", "task 3: Killed")
#: Of what starts jobs, where it is not what jobs/train.sbatch does by itself.
CHOSEN: dict[str, str] = {}
if os.environ.get("GTCBMUF_MPI") == "openmpi":
    LAUNCHERS, RANK_3, SAYS_KILLED = ["mpirun"], b"\0OMPI_COMM_WORLD_RANK=3\0", "prterun"
    CHOSEN = {"LAUNCHER": "mpirun"}


def until(condition: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.1)


def processes(word: str) -> list[int]:
    """Of those that have a word in their command or environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (
                os.fsencode(word)
                in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            ):
                found.append(int(entry.name))
        except OSError:
            pass  # it has ended meanwhile
    return [process for process in found if process != os.getpid()]


def start(*words: str) -> tuple[subprocess.Popen[str], Path]:
    """A cluster that stays until its script ends, and its folder."""
    process = subprocess.Popen(
        [str(SCRIPT), *words, "sh", "-c", "echo $SLURM_CONF; exec sleep 1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=clean_environment(),
        text=True,
        start_new_session=True,
        # What starts the tests in the background may have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    conf = process.stdout.readline().strip()
    assert conf, "no cluster"
    return process, Path(conf).parent


def test_a_cluster_has_nodes_with_names_and_disks_of_their_own() -> None:
    script = "srun -N2 --ntasks-per-node=1 sh -c 'hostname; touch $TMPDIR/$(hostname); ls $TMPDIR'"
    done = run(SCRIPT, "2", "4", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["n1", "n1", "n2", "n2"]


def test_the_commands_status_is_the_scripts() -> None:
    assert run(SCRIPT, "1", "1", "sh", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_nothing_is_left_behind(how: signal.Signals) -> None:
    process, folder = start("2", "2")
    assert len(processes(str(folder))) > 4  # a daemon for each node, and more
    process.send_signal(how)
    process.wait(timeout=60)
    until(lambda: not processes(str(folder)))
    assert folder.exists() is (how == signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


class Cluster:
    """An emulated cluster, and a checkout in which the jobs' heads are edited for it."""

    def __init__(self, conf: Path, tmpdir: Path, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "SLURM_CONF": str(conf),
            "TMPDIR": str(tmpdir),
            "GTCBMUF_VENV": sys.prefix,
            "NUMBA_CACHE_DIR": str(folder / "numba"),
            **CHOSEN,
        }
        (folder / "scripts").symlink_to(ROOT / "scripts")
        shutil.copytree(ROOT / "jobs", folder / "jobs")
        small = {"--ntasks-per-node=16": "--ntasks-per-node=2", "task=16": "task=2"}
        for file in (folder / "jobs").iterdir():
            edit(file, small)

    def command(self, *words: str | Path, cwd: Path | None = None, **env: str) -> str:
        done = run(*words, env={**self.env, **env}, cwd=cwd or self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def sbatch(self, *words: str | Path, cwd: Path | None = None, **env: str) -> str:
        """Submit; return the job's number."""
        return self.command("sbatch", "--parsable", *words, cwd=cwd, **env)

    def show(self, job: str) -> dict[str, str]:
        words = self.command("scontrol", "--oneliner", "show", "job", job).split()
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    def end(self, job: str) -> dict[str, str]:
        """Wait for a job's end; what Slurm tells of it."""
        until(lambda: self.show(job)["JobState"] not in ("PENDING", "RUNNING", "COMPLETING"))
        return self.show(job)

    def log(self, job: str) -> str:
        return "".join(path.read_text() for path in self.folder.glob(f"*-{job}.log"))


def edit(file: Path, changes: dict[str, str]) -> None:
    """As a user does."""
    text = file.read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    file.write_text(text)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("checkout")
    write_corpus(folder / "corpus.h5", train_frames=4000)
    process, own = start("2", "8")
    try:
        cluster = Cluster(own / "slurm.conf", own / "tmp", folder)
        compile_all = (
            "import gtcbmuf.training.run; from gtcbmuf.base import jit; jit.compile_kernels()"
        )
        cluster.command(sys.executable, "-c", compile_all)
        yield cluster
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert not processes(str(own))


def train(cluster: Cluster, out: Path, *settings: str) -> list[str]:
    """Arguments of a run of 4 workers in 2 groups."""
    chosen = ("topology.group_size=2", "exchange.tau=1", "block_filter.period=7", *settings)
    return ["gtc-bmuf", *small(cluster, *chosen), "--out", str(out)]


def small(cluster: Cluster, *settings: str) -> list[str]:
    """What makes a run short."""
    first = (f"corpus.path={cluster.folder}/corpus.h5", "model.hidden=[40]", "model.context=1")
    return [word for one in (*first, *settings) for word in ("--set", one)]


JOB = "jobs/train.sbatch"


def weights(out: Path) -> str:
    return str(json.loads((out / "summary.json").read_text())["weights_sha256"])


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_run_ends_with_the_bits_that_it_has_under_mpirun(
    cluster: Cluster, tmp_path: Path, launcher: str
) -> None:
    words = train(cluster, tmp_path / "run")
    job = cluster.sbatch(JOB, *words, LAUNCHER=launcher)
    assert cluster.end(job)["JobState"] == "COMPLETED", cluster.log(job)
    told = json.loads((tmp_path / "run/environment.json").read_text())
    assert told["host_of_rank"] == ["n1", "n1", "n2", "n2"]
    disks = [Path(f"{cluster.env['TMPDIR']}.{node}") for node in ("n1", "n2")]
    assert not [file for disk in disks for file in disk.iterdir()]

    done = gtcbmuf("train", *train(cluster, tmp_path / "alone"), ranks=4)
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "run") == weights(tmp_path / "alone")


def test_ranks_of_one_node_carry_several_workers(cluster: Cluster, tmp_path: Path) -> None:
    words = train(cluster, tmp_path / "run")
    job = cluster.sbatch("--nodes=1", JOB, *words, "--workers", "8")
    assert cluster.end(job)["JobState"] == "COMPLETED", cluster.log(job)
    assert json.loads((tmp_path / "run/environment.json").read_text())["ranks"] == 2

    done = gtcbmuf("train", *train(cluster, tmp_path / "alone"), "--workers", "8")
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "run") == weights(tmp_path / "alone")

    words = train(cluster, tmp_path / "apart")
    job = cluster.sbatch(JOB, *words, "--workers", "8")
    assert cluster.end(job)["ExitCode"] == "2:0"
    [line] = [line for line in cluster.log(job).splitlines() if line.startswith("gtcbmuf: ")]
    assert "--workers 8: this job has 2 hosts; expected one" in line
    assert not (tmp_path / "apart").exists()


def endless(cluster: Cluster, out: Path, config: Path) -> list[str]:
    """Arguments of a run that goes on until another number of epochs is written to `config`."""
    write_epochs(config, 1_000_000)
    settings = ("train.schedule=constant", "train.checkpoint_every=never")
    return [str(config), *train(cluster, out, *settings)[1:]]


def write_epochs(config: Path, number: int) -> None:
    recipe = (ROOT / "gtcbmuf/config/recipes/gtc-bmuf.toml").read_text()
    config.write_text(recipe.replace("epochs = 5", f"epochs = {number}"))


def epochs_done(out: Path) -> int:
    """Of the only checkpoint of a run."""
    [path] = (out / "checkpoints").iterdir()
    return int(read_checkpoint(path).shared["epoch"])


def test_a_run_is_requeued_before_its_time_is_up_and_ends_with_the_same_bits(
    cluster: Cluster, tmp_path: Path
) -> None:
    out, config = tmp_path / "run", tmp_path / "config.toml"
    words = endless(cluster, out, config)
    job = cluster.sbatch(JOB, *words)
    until(lambda: "epoch" in cluster.log(job))
    # Slurm does so when the time is nearly up, as the job file asks; but it looks at the time only
    # twice a minute.
    assert "\n#SBATCH --signal=B:USR1@" in (ROOT / "jobs/train.sbatch").read_text()
    cluster.command("scancel", "--batch", "--signal=USR1", job)
    until(lambda: cluster.show(job)["Restarts"] == "1")
    assert "stopped by SIGUSR1" in cluster.log(job)
    write_epochs(config, epochs_done(out) + 2)
    # Slurm waits for two minutes; not at all would be too short: the nodes would take the job for
    # the one that has just been killed, as they tell them apart by the second.
    until(lambda: cluster.show(job)["Reason"] == "BeginTime")
    cluster.command("scontrol", "update", f"JobId={job}", "StartTime=now+3")
    assert cluster.end(job)["JobState"] == "COMPLETED", cluster.log(job)
    assert "resumed from" in cluster.log(job)

    done = gtcbmuf("train", *words[:-1], tmp_path / "whole", ranks=4)
    assert done.returncode == 0, done.stderr
    assert weights(out) == weights(tmp_path / "whole")


def test_scancel_leaves_a_checkpoint(cluster: Cluster, tmp_path: Path) -> None:
    out = tmp_path / "run"
    job = cluster.sbatch(JOB, *endless(cluster, out, tmp_path / "config.toml"))
    until(lambda: "epoch" in cluster.log(job))
    cluster.command("scancel", job)
    told = cluster.end(job)
    assert (told["JobState"], told["Restarts"]) == ("CANCELLED", "0")
    assert "stopped by SIGTERM" in cluster.log(job)
    assert epochs_done(out) >= 1


def test_a_rank_that_is_killed_fails_the_job(cluster: Cluster, tmp_path: Path) -> None:
    out, script = tmp_path / "run", shutil.copy(cluster.folder / JOB, tmp_path)
    edit(Path(script), {"--wait=30": "--wait=3"})
    job = cluster.sbatch(script, *endless(cluster, out, tmp_path / "config.toml"))
    until(lambda: "epoch" in cluster.log(job))
    [rank] = [
        process
        for process in processes(str(out))
        if RANK_3 in Path(f"/proc/{process}/environ").read_bytes()
    ]
    os.kill(rank, signal.SIGKILL)
    assert cluster.end(job)["JobState"] == "FAILED"
    assert SAYS_KILLED in cluster.log(job)


def test_a_run_that_diverges_fails_the_job(cluster: Cluster, tmp_path: Path) -> None:
    shutil.copy(cluster.folder / "corpus.h5", tmp_path)
    with h5py.File(tmp_path / "corpus.h5", "r+") as file:
        file["train/features"][1234, 3] = np.nan
    words = train(cluster, tmp_path / "run", f"corpus.path={tmp_path}/corpus.h5")
    job = cluster.sbatch(JOB, *words)
    assert cluster.end(job)["JobState"] == "FAILED"
    assert "gtcbmuf: training diverged" in cluster.log(job)


def test_ranks_that_would_each_train_alone_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.sbatch(JOB, *train(cluster, tmp_path / "run"), SRUN_MPI="none")
    told = cluster.end(job)
    assert (told["JobState"], told["ExitCode"]) == ("FAILED", "2:0")
    [line] = [line for line in cluster.log(job).splitlines() if line.startswith("gtcbmuf: ")]
    assert "srun --mpi=none started 4 processes, but MPI sees a world of 1" in line
    assert not (tmp_path / "run").exists()


def test_what_is_submitted_runs_to_its_end(cluster: Cluster) -> None:
    out = cluster.folder / "a run's place"
    words = ("submit", *train(cluster, out), "--time", "5", "--job-name", "submitted")
    shown = cluster.command(program("gtcbmuf"), *words, "--dry-run")
    assert re.search(r"^# sbatch: Job \d+ to start at .* on nodes n\[1-2\]", shown, re.MULTILINE)
    told = cluster.command(program("gtcbmuf"), *words)
    found = re.match(rf"job (\d+): 2 x 2 workers -> {out}\njob file: jobs/train.sbatch\n", told)
    assert found
    assert f"tail -F submitted-{found[1]}.log" in told
    ended = cluster.end(found[1])
    assert (ended["JobState"], ended["TimeLimit"]) == ("COMPLETED", "00:05:00")
    assert weights(out)


def test_a_job_needs_no_checkout_and_no_active_environment(
    cluster: Cluster, tmp_path: Path
) -> None:
    path = os.environ["PATH"].split(os.pathsep)
    without = os.pathsep.join(one for one in path if one != str(Path(sys.executable).parent))
    words = (*train(cluster, tmp_path / "run"), "--nodes", "2", "--ntasks-per-node", "2")
    done = run(
        *(program("gtcbmuf"), "submit", *words, "--time", "5"),
        env={**cluster.env, "PATH": without},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = re.match(
        r"job (\d+): 2 x 2 workers -> .*\njob file: train.sbatch of the package", done.stdout
    )
    assert found
    log = tmp_path / f"gtcbmuf-{found[1]}.log"
    assert cluster.end(found[1])["JobState"] == "COMPLETED", log.read_text()
    assert weights(tmp_path / "run")


def test_what_slurm_would_not_take_is_refused_in_one_line(cluster: Cluster) -> None:
    for more in (["--nodes", "3"], ["--partition", "other"], ["--nodes", "3", "--dry-run"]):
        done = run(
            *(program("gtcbmuf"), "submit", "gtc", *more), env=cluster.env, cwd=cluster.folder
        )
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert line.startswith("gtcbmuf: Slurm does not take this job: ")


def test_nodes_are_groups_however_the_ranks_were_dealt_out(
    cluster: Cluster, tmp_path: Path
) -> None:
    node = "topology.group_size=node"
    cyclic = {"SLURM_DISTRIBUTION": "cyclic", "SRUN_MPI": "pmi2"}
    words = ("gtc-bmuf", *small(cluster), "--set", node, "--out", str(tmp_path / "run"))
    job = cluster.sbatch("--ntasks-per-node=4", JOB, *words, **cyclic)
    assert cluster.end(job)["JobState"] == "COMPLETED", cluster.log(job)
    told = json.loads((tmp_path / "run/environment.json").read_text())
    assert told["host_of_rank"] == 4 * ["n1"] + 4 * ["n2"]
    assert told["group_of_rank"] == 4 * [0] + 4 * [1]
    words = ("gtc-bmuf", *small(cluster), "--set", "topology.group_size=4")
    done = gtcbmuf("train", *words, "--out", tmp_path / "alone", ranks=8)
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "run") == weights(tmp_path / "alone")


def test_the_map_of_groups_is_drawn(cluster: Cluster) -> None:
    srun = ("srun", "--mpi=pmi2", "-N2", "--ntasks-per-node=2", "--distribution=cyclic")
    words = (*srun, program("gtcbmuf"), "topology", "gtc-bmuf", "--set")
    drawn = cluster.command(*words, "topology.group_size=node")
    assert "workers: 4; hosts: 2; groups: 2 of 2\n" in drawn
    assert "| 0     | n1: 0-1 |\n| 1     | n2: 2-3 |" in drawn
    drawn = cluster.command(*words, "topology.group_size=2")
    assert "| 1     | n1: 2, n2: 3 |" in drawn
    assert "2 of 2 groups span hosts" in drawn


def test_the_doctor_looks_at_every_node(cluster: Cluster) -> None:
    srun = ("srun", "--mpi=pmi2", "-N2", "--ntasks-per-node=2", program("gtcbmuf"))
    told = cluster.command(*srun, "doctor", "--corpus", "corpus.h5")
    assert "srun --mpi=pmi2: 4 ranks in one MPI world" in told
    for what in ("host n1", "host n2", "within a host", "across hosts"):
        assert re.search(rf"^(ok  |warn)  {what} ", told, re.MULTILINE)
    assert "corpus.h5: readable on every host" in told
    # A file on one node's disk.
    cluster.command("cp", "corpus.h5", f"{cluster.env['TMPDIR']}.n1/corpus.h5")
    told = cluster.command(*srun, "doctor", "--corpus", f"{cluster.env['TMPDIR']}/corpus.h5")
    Path(f"{cluster.env['TMPDIR']}.n1/corpus.h5").unlink()
    assert re.search("^warn  corpus .* on n2: .*no such file", told, re.MULTILINE)
    assert "on n1:" not in told


def test_uneven_nodes_are_refused_in_one_line(cluster: Cluster) -> None:
    srun = ("srun", "--mpi=pmi2", "-N2", "-n3", program("gtcbmuf"), "topology", "gtc-bmuf")
    words = (*srun, "--set", "topology.group_size=node")
    done = run(*words, env=cluster.env, cwd=cluster.folder)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("gtcbmuf: ")]
    assert "there are 1 and 2; start them evenly" in line


def test_an_array_makes_every_run_of_its_list(cluster: Cluster) -> None:
    edit(
        cluster.folder / "jobs/array.sbatch",
        {
            "--array=0-29": "--array=0-2%1",
            "methods=(gtc bmuf gtc-bmuf)": "methods=(gtc gtc-bmuf)",
            "workers=(8 16 32)": "workers=(4)",
            "seeds=(0 1 2)": "seeds=(5)",
        },
    )
    job = cluster.sbatch("jobs/array.sbatch", *small(cluster))
    runs = cluster.folder / "runs/table"
    names = ["sgd-1-seed5", "gtc-4-seed5", "gtc-bmuf-4-seed5"]
    for index, name in enumerate(names):
        assert cluster.end(f"{job}_{index}")["JobState"] == "COMPLETED"
        assert f"-> runs/table/{name}\n" in cluster.log(f"{job}_{index}")
        config = tomllib.loads((runs / name / "config.toml").read_text())
        assert config["train"]["seed"] == 5
    done = gtcbmuf("report", *(runs / name for name in names))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5


#: A run that stops when it is told to, and otherwise does not end.
ENDLESS = """#!/bin/bash
trap 'exit 75' USR1
trap 'exit 143' TERM
echo >>started-$SLURM_ARRAY_TASK_ID
while :; do sleep 0.1; done
"""


def test_a_task_of_an_array_is_queued_again_alone(cluster: Cluster, tmp_path: Path) -> None:
    for name in ("scripts", "jobs"):
        (tmp_path / name).symlink_to(cluster.folder / name)
    # --export=NONE leaves only what scripts/environment finds: .venv.
    fake = tmp_path / ".venv/bin/gtcbmuf"
    fake.parent.mkdir(parents=True)
    fake.write_text(ENDLESS)
    fake.chmod(0o755)
    options = ("--export=NONE", "--array=0-3", "--nodes=1", "--ntasks-per-node=1")
    job = cluster.sbatch(*options, JOB, "gtc", cwd=tmp_path)
    cancelled, *others, own = (f"{job}_{index}" for index in range(4))
    try:
        until(lambda: len(list(tmp_path.glob("started-*"))) == 4, 60)
        assert cluster.show(own)["JobId"] == job  # the last task has the number of the array
        cluster.command("scancel", cancelled)
        assert cluster.end(cancelled)["JobState"] == "CANCELLED"
        cluster.command("scancel", "--batch", "--signal=USR1", own)
        until(lambda: cluster.show(own)["Restarts"] == "1", 60)
        for task in others:
            told = cluster.show(task)
            assert (told["JobState"], told["Restarts"]) == ("RUNNING", "0")
        told = cluster.show(cancelled)
        assert (told["JobState"], told["Restarts"]) == ("CANCELLED", "0")
        assert len(list(tmp_path.glob("started-*"))) == 4
    finally:
        cluster.command("scancel", job)
    for task in (*others, own):
        assert cluster.end(task)["JobState"] == "CANCELLED"


def test_a_chain_makes_a_corpus_a_run_and_a_report(cluster: Cluster) -> None:
    edit(cluster.folder / "jobs/chain", {"preset=medium": "preset=tiny", "medium.h5": "tiny.h5"})
    settings = ("--set", "model.hidden=[40]", "--set", "topology.group_size=2")
    told = cluster.command("jobs/chain", "gtc-bmuf", *settings, "--set", "train.epochs=1")
    for job in re.findall(r"\b\d+\b", told.partition(":")[0]):
        assert cluster.end(job)["JobState"] == "COMPLETED", cluster.log(job)
    report = cluster.folder / told.partition(": ")[2].split()[0]
    assert "| gtc-bmuf" in report.read_text()
    assert (cluster.folder / "runs/chain-gtc-bmuf/fer.png").exists()


def test_slurm_is_given_a_study_once_and_its_results_are_taken_up(
    cluster: Cluster, tmp_path: Path
) -> None:
    words = (
        sys.executable,
        ROOT / "tests/support/studying.py",
        tmp_path / "made.h5",
        tmp_path,
        "1",
    )

    def jobs() -> list[str]:
        return cluster.command("squeue", "--noheader", "--array", "--name=a-study").splitlines()

    told = cluster.command(*words, "slurm")
    assert told.startswith("0 of 4 runs are finished\njob ")
    assert re.search(r"^4 pending runs; logs in", told, re.MULTILINE)
    assert len(jobs()) == 4  # which wait for the corpus
    assert "Slurm already has jobs " in cluster.command(*words, "slurm")
    assert len(jobs()) == 4
    until(lambda: not jobs())
    told = cluster.command(*words, "slurm")
    assert told.startswith(f"3 finished runs found in {tmp_path}/runs\n3 of 4 runs are finished\n")
    assert told.endswith("['sgd', 'sync-sgd', 'gtc']")
    assert len(jobs()) == 1  # the one that failed is tried again
    found = read_results(tmp_path / "results.csv")
    assert [math.isnan(row.fer_valid) for row in found] == [False, True, False]
    [alone] = [one for one in found if one.method == "sgd"]
    done = run("bash", "-c", f". scripts/environment && {alone.command} --out {tmp_path}/alone")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "alone/summary.json").read_text())
    assert round(summary["fer_test"], 4) == alone.fer_test
    cluster.command("scancel", "--name=a-study")
