"""The text of a Slurm job: what is filled in, and what is refused before Slurm is asked."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.launch import ROOT, gtcbmuf, program, run

from gtcbmuf.base.errors import UserError
from gtcbmuf.cluster import sbatch, slurm

TEMPLATE = (ROOT / sbatch.TEMPLATE).read_text()
CLUSTER_SCRIPT = ROOT / "scripts/slurm"
HEAD = [line for line in TEMPLATE.splitlines() if line.startswith("#SBATCH")]


def options(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("#SBATCH")]


def test_a_job_with_no_options_of_its_own_is_the_file_with_its_arguments() -> None:
    text = sbatch.fill(TEMPLATE, {}, ["gtc", "--set", "train.seed=1"])
    assert text == TEMPLATE.replace('gtcbmuf train "$@"', "gtcbmuf train gtc --set train.seed=1")
    assert text != TEMPLATE


def test_options_take_the_place_of_the_files_own() -> None:
    text = sbatch.fill(TEMPLATE, {"nodes": "4", "account": "speech", "qos": "high"}, ["gtc"])
    expected = [line.replace("--nodes=2", "--nodes=4") for line in HEAD]
    assert sorted(options(text)) == sorted(
        [*expected, "#SBATCH --account=speech", "#SBATCH --qos=high"]
    )
    assert "##SBATCH --account" not in text
    assert "##SBATCH --partition" in text
    # sbatch reads no option behind the first command.
    commands = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert max(map(text.index, options(text))) < text.index(commands[0])
    assert sbatch.layout(text) == (4, 16)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_a_shell_gives_train_the_arguments_that_were_given(arguments: list[str]) -> None:
    text = sbatch.fill('#!/bin/bash\ngtcbmuf train "$@"\n', {}, arguments)
    command = text.replace("gtcbmuf train", "printf '%s\\0' -", 1)
    done = subprocess.run(["bash", "-c", os.fsencode(command)], capture_output=True, check=True)
    assert done.stdout.split(b"\0") == [b"-", *(word.encode() for word in arguments), b""]


@pytest.mark.parametrize("value", ["", "a b", "a\n#SBATCH --uid=0", "'a'", '"', "a\\", "a#b", "\t"])
def test_a_value_that_would_be_more_than_a_word_is_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"--account .*: expected a word"):
        sbatch.fill(TEMPLATE, {"account": value}, [])


@pytest.mark.parametrize(
    ("workers", "nodes", "per_node"), [(1, 1, 1), (8, 1, 8), (16, 1, 16), (17, 2, 9), (128, 8, 16)]
)
def test_an_array_has_place_for_its_workers(workers: int, nodes: int, per_node: int) -> None:
    runs = {Path(f"runs/a {number}.log"): ["gtc", "--set", f"{number}"] for number in range(3)}
    text = sbatch.fill_array(TEMPLATE, "table", workers, runs)
    assert sbatch.layout(text) == (nodes, per_node)
    assert sbatch.option(text, "array") == "0-2"
    assert sbatch.option(text, "output") == "runs/%x-%A_%a.log"


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["C"]))), min_size=1, max_size=5))
def test_each_job_of_an_array_runs_its_own(arguments: list[list[str]]) -> None:
    runs = dict(enumerate(arguments))
    logs = {Path(f"/dev/fd/1{number}"): words for number, words in runs.items()}
    tail = 'printf "%s\\0" "$SLURM_NTASKS" "$@" >&2'
    head = "#!/bin/bash\n#SBATCH --nodes=1\n#SBATCH --ntasks-per-node=4\n"
    text = sbatch.fill_array(f"{head}{tail}\n", "table", 3, logs)
    for number, words in runs.items():
        command = f"exec 1{number}>&1; SLURM_ARRAY_TASK_ID={number}\n{text}"
        done = subprocess.run(["bash", "-c", os.fsencode(command)], capture_output=True, check=True)
        assert done.stdout.split(b"\0") == [b"3", *(word.encode() for word in words), b""]


def test_a_file_without_a_place_for_arguments_is_refused() -> None:
    with pytest.raises(UserError, match="has no"):
        sbatch.fill("#!/bin/bash\ntrue\n", {}, [])


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("%x-%j.log", "run-12.log"), ("/logs/%A", "/logs/12"), ("x", "x"), ("%%j%j", "%j12")],
)
def test_the_log_is_where_slurm_will_write_it(pattern: str, name: str) -> None:
    text = sbatch.fill(TEMPLATE, {"output": pattern, "job-name": "run"}, [])
    assert sbatch.log_path(text, "12") == name


def test_variables_of_this_shell_change_no_option_of_the_job() -> None:
    text = sbatch.fill(TEMPLATE, {"time": "00:05:00", "mem": "1G"}, ["gtc"])
    shell = {"HOME": "/home/me", "SBATCH_ACCOUNT": "speech", "SLURM_CONF": "/etc/slurm.conf"}
    overriding = ("TIMELIMIT", "JOB_NAME", "NO_REQUEUE", "OPEN_MODE", "MEM_PER_CPU", "SIGNAL")
    variables = shell | {f"SBATCH_{name}": "1" for name in overriding}
    assert slurm.submission_environment(text, variables) == shell
    # What a site sets for srun stays, but what the job around this process has does not.
    site = shell | {"SLURM_MPI_TYPE": "pmix"}
    assert slurm.submission_environment(text, site) == site
    job = site | {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "100", "SLURM_NTASKS": "1"}
    assert slurm.submission_environment(text, job) == shell


NO_SLURM = {"PATH": "/nowhere"}


def test_a_dry_run_shows_the_text_and_submits_nothing(tmp_path: Path) -> None:
    words = ("gtc-bmuf", "--set", "corpus.path=my corpus.h5", "--nodes", "4", "--dry-run")
    done = gtcbmuf("submit", *words, env=NO_SLURM)
    assert done.returncode == 0, done.stderr
    out = re.search(r"--out '(.*?)'", done.stdout)
    assert out
    assert re.fullmatch("runs/gtc-bmuf-64-seed0-my corpus-[0-9a-f]{6}", out[1])
    expected = ["gtc-bmuf", "--set", "corpus.path=my corpus.h5", "--out", out[1]]
    text, job_file, verdict = done.stdout.rsplit("\n# ", 2)
    assert text == sbatch.fill(TEMPLATE, {"nodes": "4"}, expected)
    assert job_file == "job file: jobs/train.sbatch"
    assert verdict == "there is no sbatch here that could be asked about this job\n"


def test_a_dry_run_says_that_the_controller_cannot_be_reached(tmp_path: Path) -> None:
    programs = {"sbatch": "exit 9", "scontrol": "echo Slurmctld at head is DOWN; exit 1"}
    for name, command in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = gtcbmuf("submit", "gtc", "--nodes", "1", "--dry-run", env={"PATH": path})
    assert (done.returncode, done.stderr) == (0, "")
    text, verdict = done.stdout.rsplit("\n# ", 1)
    assert "gtcbmuf train gtc --out " in text
    assert verdict == (
        "not checked, because Slurm's controller cannot be reached: Slurmctld at head is DOWN\n"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gtc", "--nodse", "4"], "--nodse 4; the options are"),
        (["gtc", "--nodes", "four"], "--nodes four: expected a number"),
        (["gtc", "--time", "4 h"], "--time '4 h': expected a word without blanks"),
        (["gtc-bmuf", "--set", "topology.group_size=5"], "does not divide the 32 workers"),
        (["nope"], "nope: neither a file nor a recipe"),
        (["gtc"], "there is no sbatch on PATH"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: list[str], says: str) -> None:
    done = gtcbmuf("submit", *words, env=NO_SLURM)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("gtcbmuf: ")
    assert says in line


def test_jobs_with_other_settings_have_other_run_directories() -> None:
    def out(*assignments: str) -> Path:
        return slurm.make_job("gtc-bmuf", assignments, None, {}).out

    assert out("train.seed=1") == out("train.seed=1")
    assert len({out(), out("exchange.tau=2"), out("corpus.path=b.h5"), out("train.seed=1")}) == 4


def test_a_misspelt_option_lists_the_valid_ones() -> None:
    done = gtcbmuf("submit", "gtc", "--partitoin=main")
    for name in (*sbatch.OPTIONS, "set", "out", "dry-run"):
        assert f"--{name}" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "#SBATCH -N 2",
        "#SBATCH -N2",
        "#SBATCH --nodes 2",
        "#SBATCH --nodes=2 # of the large ones",
        "#SBATCH --exclusive --nodes=2 -t 4:00:00",
        "#SBATCH --nodes=2\n#SBATCH -N 3",
        "##SBATCH --nodes=2",
    ],
)
def test_an_option_counts_however_the_file_spells_it(line: str) -> None:
    template = f'#!/bin/bash\n{line}\n#SBATCH --ntasks-per-node=4\nset -e\ngtcbmuf train "$@"\n'
    text = sbatch.fill(template, {"nodes": "8"}, ["gtc"])
    assert sbatch.option(text, "nodes") == "8"
    assert sbatch.layout(text) == (8, 4)
    # sbatch takes the last, and reads none behind the first command.
    told = [line for line in text.partition("set -e")[0].splitlines() if line[:7] == "#SBATCH"]
    assert [one for one in told if "-N" in one or "--nodes" in one][-1] == "#SBATCH --nodes=8"


def test_a_file_that_does_not_say_how_many_workers_is_refused() -> None:
    text = "#!/bin/bash\n#SBATCH -n 32 -N 2\n"
    assert sbatch.option(text, "ntasks") == "32"
    with pytest.raises(UserError, match=r"--ntasks-per-node: is neither given nor in jobs/train"):
        sbatch.layout(text)


SRUN = """#!/bin/bash
case "$*" in *"rm -rf"*) exit 1 ;; esac  # the nodes are busy
trap 'exit 75' USR1
echo "$SLURM_EXPORT_ENV $*" >started
while [ -n "$FAKE_STEPS" ]; do sleep 0.05; done
"""


#: Starts a job with a script for srun and variables.
StartJob = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start_job(tmp_path: Path) -> Iterator[StartJob]:
    with ExitStack() as stack:

        def start(srun: str = SRUN, **variables: str) -> subprocess.Popen[bytes]:
            process = stack.enter_context(job_process(tmp_path, srun, variables))
            stack.callback(kill_group, process.pid)
            return process

        yield start


def kill_group(process: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)


def job_process(folder: Path, srun: str, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start jobs/train.sbatch as Slurm does. The programs of Slurm are scripts."""
    (folder / "bin").mkdir()
    for name, text in (("srun", srun), ("scontrol", '#!/bin/bash\necho "$@" >scontrol\n')):
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    if not (folder / "scripts").exists():
        (folder / "scripts").symlink_to(ROOT / "scripts")
    return subprocess.Popen(
        ["bash", ROOT / sbatch.TEMPLATE, "gtc"],
        env={
            "PATH": f"{folder}/bin:{os.environ['PATH']}",
            "SLURM_SUBMIT_DIR": str(folder),
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_NTASKS": "2",
            "TMPDIR": str(folder),
            **variables,
        },
        start_new_session=True,
    )


def requeued(folder: Path) -> str:
    """The arguments of scontrol, if the job called it."""
    file = folder / "scontrol"
    return file.read_text() if file.exists() else ""


TASK = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}


@pytest.mark.parametrize(
    ("stops", "variables", "requeue"),
    [(False, {}, ""), (True, {}, "requeue 7\n"), (True, TASK, "requeue 7_3\n")],
)
def test_what_comes_of_cleaning_up_does_not_decide_the_job(
    stops: bool, variables: dict[str, str], requeue: str, start_job: StartJob, tmp_path: Path
) -> None:
    process = start_job(FAKE_STEPS="1" if stops else "", **variables)
    if stops:
        deadline = time.monotonic() + 30
        while not (tmp_path / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=30) == (75 if stops else 0)
    assert requeued(tmp_path) == requeue


def test_variables_of_the_submitting_shell_do_not_reach_srun(
    start_job: StartJob, tmp_path: Path
) -> None:
    left = {"GTCBMUF_WORKERS": "3", "SLURM_EXPORT_ENV": "NONE"}
    assert start_job(FAKE_STEPS="", **left).wait(timeout=30) == 0
    export, *words = (tmp_path / "started").read_text().split()
    assert export == "ALL"
    assert "--ntasks=2" in words


@pytest.mark.parametrize("when", ["before srun", "before the ranks"])
def test_a_signal_before_the_ranks_have_started_requeues_the_job(
    when: str, start_job: StartJob, tmp_path: Path
) -> None:
    # scripts/environment stands for the modules of a site.
    (tmp_path / "scripts").mkdir()
    early = "kill -USR1 $$\n" if when == "before srun" else ""
    (tmp_path / "scripts/environment").write_text(f"{early}: GTCBMUF_VENV\n")
    srun = SRUN if early else SRUN.replace("trap 'exit 75' USR1", "kill -USR1 $PPID")
    status = start_job(srun=srun, FAKE_STEPS="1").wait(timeout=30)
    assert status in (75, 138)
    assert requeued(tmp_path) == "requeue 7\n"


def test_who_does_not_read_on_gets_no_traceback() -> None:
    plan = "plan --workers 8 --parameters 1e6 --cluster results/plan/1gbit.toml --elsewhere"
    done = run("bash", "-c", f"{program('gtcbmuf')} {plan} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_elsewhere_than_in_the_checkout_the_packaged_job_file_is_used(tmp_path: Path) -> None:
    done = gtcbmuf("submit", "gtc", "--dry-run", cwd=tmp_path, env=NO_SLURM)
    assert done.returncode == 0, done.stderr
    text, job_file, _ = done.stdout.rsplit("\n# ", 2)
    assert options(text) == HEAD
    assert job_file.startswith("job file: train.sbatch of the package; to edit it")


def test_the_job_file_of_the_working_directory_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sbatch.read_template() == TEMPLATE
    Path("jobs").mkdir()
    sbatch.TEMPLATE.write_text("mine")
    assert sbatch.read_template() == "mine"
    assert sbatch.find_job_file(sbatch.CORPUS).read_text() == (ROOT / sbatch.CORPUS).read_text()


@pytest.mark.parametrize(
    ("content", "says"), [(None, "Is a directory"), (b"\xff", "expected UTF-8")]
)
def test_an_unreadable_job_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jobs").mkdir()
    if content is None:
        sbatch.TEMPLATE.mkdir()
    else:
        sbatch.TEMPLATE.write_bytes(content)
    with pytest.raises(UserError, match=f"jobs/train.sbatch: .*{says}"):
        sbatch.read_template()


def test_the_array_is_as_long_as_the_list_of_its_runs() -> None:
    runs = run("bash", ROOT / "jobs/array.sbatch").stdout.splitlines()
    assert f"#SBATCH --array=0-{len(runs) - 1}\n" in (ROOT / "jobs/array.sbatch").read_text()
    assert len(set(runs)) == len(runs)
    assert {"sgd 1 0", "gtc 8 0", "gtc-bmuf 32 2"} < set(runs)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["2", "4"], "expected NODES CPUS COMMAND"),
        (["0", "4", "true"], "NODES 0, CPUS 4: expected integers from 1"),
        (["2", "four", "true"], "NODES 2, CPUS four: expected integers from 1"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused_in_one_line(words: list[str], says: str) -> None:
    done = run(CLUSTER_SCRIPT, *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"scripts/slurm: {says}")
    assert len(done.stderr.splitlines()) == 1


def test_without_slurm_its_packages_are_named(tmp_path: Path) -> None:
    script = CLUSTER_SCRIPT.read_text().replace(":/usr/sbin", "")
    (tmp_path / "slurm").write_text(script)
    done = run("/bin/bash", tmp_path / "slurm", "1", "1", "true", env={"PATH": str(tmp_path)})
    assert done.returncode == 2
    assert "apt-get install" in done.stderr
    assert len(done.stderr.splitlines()) == 1
