"""`gtcbmuf train` on real ranks: results, files and failures."""

import contextlib
import json
import os
import re
import shlex
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.corpora import write_corpus
from support.launch import ROOT, clean_environment, gtcbmuf, mpirun, program, run

from gtcbmuf.acoustic.model_file import load_model, sha256
from gtcbmuf.config.loading import recipe_names
from gtcbmuf.data.corpus import open_corpus

GOLDEN = Path(__file__).with_name("golden.json")
SMALL = ("train.minibatch=16", "model.hidden=[24, 24]", "model.context=2", "train.epochs=3")
RANKS = {name: 1 if name == "sgd" else 4 for name in recipe_names()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "tiny.h5"
    write_corpus(path)
    return path


def settings(corpus: Path, *more: str) -> list[str]:
    words = (*SMALL, f"corpus.path={json.dumps(str(corpus))}", *more)
    return [argument for word in words for argument in ("--set", word)]


def train(
    method: str, corpus: Path, out: Path, *more: str, ranks: int, **options: object
) -> dict[str, Any]:
    done = gtcbmuf(
        *("train", method, "--out", out, *settings(corpus, *more)), ranks=ranks, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def test_post_local_sgd_is_synchronous_in_its_first_epochs(corpus: Path, tmp_path: Path) -> None:
    """Those epochs are averaging after every step; the later ones are not."""
    lines = {}
    for method, more in {
        "post-local": ["block_filter.synchronous_epochs=2"],
        "averaging": ["block_filter.period=1", "block_filter.step=0.01"],
    }.items():
        out = tmp_path / method
        train(method, corpus, out, *more, "train.learning_rate=4e-3", ranks=4)
        lines[method] = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    assert len(lines["averaging"]) > 2
    post_local, averaging = ([line["loss"] for line in of_run] for of_run in lines.values())
    assert post_local[:2] == averaging[:2]
    assert post_local[2:] != averaging[2:]


@pytest.mark.parametrize("method", json.loads(GOLDEN.read_text()))
def test_golden_trajectory(
    method: str, corpus: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    more = ["train.learning_rate=4e-3", "train.schedule=constant", "train.verify=true"]
    more += ["exchange.tau=1", "block_filter.period=10"]
    if method == "gtc-bmuf":
        more.append("topology.group_size=2")
    summary = train(method, corpus, tmp_path / "run", *more, ranks=RANKS[method])
    assert summary["method"] == method
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    trajectory = {
        "loss": [line["loss"] for line in lines],
        "fer_valid": [line["fer_valid"] for line in lines],
        "density": [line["density"] for line in lines],
        "fer_test": summary["fer_test"],
    }
    golden = json.loads(GOLDEN.read_text())
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(json.dumps(golden | {method: trajectory}, indent=2) + "\n")
        return
    # Another processor's BLAS rounds differently, and a value may then cross the threshold.
    expected = golden[method]
    np.testing.assert_allclose(trajectory["loss"], expected["loss"], rtol=5e-3)
    np.testing.assert_allclose(trajectory["density"], expected["density"], rtol=2e-2)
    np.testing.assert_allclose(trajectory["fer_valid"], expected["fer_valid"], atol=1.0)
    assert trajectory["fer_test"] == pytest.approx(expected["fer_test"], abs=1.0)


def test_overlap_changes_no_bit(corpus: Path, tmp_path: Path) -> None:
    """The sum of two gradients has the same bits in any order."""
    more = ["train.epochs=1", "model.hidden=[600,400]"]
    plain, other = (
        train("sync-sgd", corpus, tmp_path / overlap, *more, f"exchange.overlap={overlap}", ranks=2)
        for overlap in ("false", "true")
    )
    assert other["weights_sha256"] == plain["weights_sha256"]


def test_a_density_out_of_reach_is_told_once(corpus: Path, tmp_path: Path) -> None:
    density = "exchange.density=0.99"
    done = gtcbmuf("train", "gtc", "--out", tmp_path / "run", *settings(corpus, density), ranks=2)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("gtcbmuf: exchange.density = 0.99 is out of reach: ") == 1
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert min(tau for line in lines for tau in line["tau"]) > 0.1
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_a_loss_above_that_of_guessing_is_told(corpus: Path, tmp_path: Path) -> None:
    more = ("train.learning_rate=0.03", "train.minibatch=256", "model.hidden=[16]")
    done = gtcbmuf("train", "sgd", "--out", tmp_path / "run", *settings(corpus, *more))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("gtcbmuf: the loss is far above that of guessing, 2.48; lower ") == 1


def test_a_run_directory_holds_all_files_and_facts(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    summary = train("gtc-bmuf", corpus, out, "topology.group_size=2", ranks=4)
    assert {path.name for path in out.iterdir()} == {
        ".lock",
        *("config.toml", "environment.json", "metrics.jsonl", "model.h5"),
        *("summary.json", "outcome.json"),
    }
    facts = ("method", "workers", "group_size", "groups", "seed", "epochs", "frames", "steps")
    assert [summary[fact] for fact in facts] == ["gtc-bmuf", 4, 2, 2, 0, 3, 3 * 3000, 3 * 47]
    assert 0 < summary["fer_test"] < 60  # chance is about 92
    assert 0 < summary["per_test"] < 100
    assert (
        summary["fer_valid"]
        == json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["fer_valid"]
    )
    assert 0 < summary["density"] < 1
    assert summary["bytes_sent_per_step"] == 0  # to other hosts
    assert summary["frames_per_second"] > 0
    assert summary["wall_seconds"] > 0

    model = load_model(out / "model.h5")
    assert sha256(model.vector) == summary["weights_sha256"]
    assert (model.architecture.widths, model.context) == ((5 * 8, 24, 24, 12), 2)
    targets = open_corpus(corpus).train.targets
    np.testing.assert_array_equal(model.target_counts, np.bincount(targets, minlength=12))

    environment = json.loads((out / "environment.json").read_text())
    assert len(environment["host_of_rank"]) == 4
    assert environment["corpus"] == open_corpus(corpus).digest
    assert environment["launcher"] != "none"
    assert {"numpy", "numba", "mpi4py"} <= set(environment["packages"])
    blas = [pool for pool in environment["threads"] if pool["internal_api"] == "openblas"]
    assert [pool["num_threads"] for pool in blas] == [1] * len(blas)

    config = tomllib.loads((out / "config.toml").read_text())
    assert config["block_filter"]["momentum"] == 0.5
    assert config["topology"]["group_size"] == 2

    for line in (out / "metrics.jsonl").read_text().splitlines():
        parts = json.loads(line)["seconds_by_part"]
        assert set(parts) == {"read", "compute", "encode", "communicate", "decode", "filter"}
        assert all(part["min"] <= part["mean"] <= part["max"] for part in parts.values())
        assert parts["compute"]["min"] > 0
        assert parts["filter"]["max"] > 0


def test_the_same_config_gives_the_same_bits_and_keeps_the_earlier_run(
    corpus: Path, tmp_path: Path
) -> None:
    more = ("topology.group_size=2", "exchange.tau=0.5")
    first = train("gtc-bmuf", corpus, tmp_path / "run", *more, ranks=4)
    second = train("gtc-bmuf", corpus, tmp_path / "run", *more, ranks=4)
    assert first["weights_sha256"] == second["weights_sha256"]
    earlier = json.loads((tmp_path / "run.1/summary.json").read_text())
    assert earlier == first
    again = train(str(tmp_path / "run/config.toml"), corpus, tmp_path / "again", ranks=4)
    assert again["weights_sha256"] == first["weights_sha256"]
    other = train("gtc-bmuf", corpus, tmp_path / "other", *more, "train.seed=1", ranks=4)
    assert other["weights_sha256"] != first["weights_sha256"]


TWICE = """
import gtcbmuf, sys
for _ in range(2):
    gtcbmuf.train("sgd", ["model.hidden=[8]", "train.epochs=1", sys.argv[1]], "run")
"""


def test_two_runs_in_one_process_may_have_one_directory(corpus: Path, tmp_path: Path) -> None:
    done = run(sys.executable, "-c", TWICE, f"corpus.path={corpus}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run.1"}


def test_one_rank_needs_no_launcher(corpus: Path, tmp_path: Path) -> None:
    alone = train("sgd", corpus, tmp_path / "alone", ranks=0)
    launched = train("sgd", corpus, tmp_path / "launched", ranks=1)
    assert alone["weights_sha256"] == launched["weights_sha256"]
    assert alone["bytes_sent_per_step"] == alone["density"] == 0


def test_a_closed_pipe_ends_a_run_of_one_rank_quietly(corpus: Path, tmp_path: Path) -> None:
    words = [program("gtcbmuf"), "train", "sgd", "--out", tmp_path / "run", *settings(corpus)]
    command = shlex.join(map(str, words))
    done = run("bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize("method", [name for name in RANKS if name not in ("sgd", "averaging")])
def test_every_method_runs_on_one_worker(method: str, corpus: Path, tmp_path: Path) -> None:
    summary = train(method, corpus, tmp_path / "run", "topology.group_size=1", ranks=0)
    assert (summary["method"], summary["groups"]) == (method, 1)
    assert summary["bytes_sent_per_step"] == 0


def test_a_corpus_smaller_than_a_global_batch(tmp_path: Path) -> None:
    """Workers may have no frame in the only step."""
    path = tmp_path / "tiny.h5"
    write_corpus(path, train_frames=30)
    summary = train(
        *("gtc-bmuf", path, tmp_path / "run"),
        *("train.minibatch=100", "topology.group_size=2", "train.verify=true"),
        ranks=4,
    )
    assert (summary["steps"], summary["frames"]) == (3, 90)


@pytest.mark.parametrize(
    ("ranks", "settings", "note"),
    [
        (2, [], "one group: the block filter has no other group"),
        (
            4,
            [],
            "12 steps are few for block momentum with 2 groups and blocks of 20 steps; expected "
            "1,200 ",
        ),
        (4, ["block_filter.period=2", "train.minibatch=7"], "108 steps are few "),
        (4, ["block_filter.period=2", "train.minibatch=6"], ""),
        (4, ["block_filter.momentum=0.9", "train.minibatch=6"], "expected 6,000 "),
        (4, ["block_filter.momentum=0"], ""),
    ],
)
def test_a_run_notes_a_hybrid_that_cannot_work_well(
    corpus: Path, tmp_path: Path, ranks: int, settings: list[str], note: str
) -> None:
    words = [f"corpus.path={corpus}", "train.epochs=1", "model.hidden=[8]", "topology.group_size=2"]
    pairs = [word for setting in words + settings for word in ("--set", setting)]
    done = gtcbmuf(
        *("train", "gtc-bmuf", *pairs, "--out", tmp_path / "run", "--workers", str(ranks))
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    [epoch] = [number for number, line in enumerate(lines) if line.startswith("epoch ")]
    notes = lines[1:epoch]
    assert len(notes) == bool(note)
    assert note in "".join(notes)


def test_a_corpus_with_unknown_phones_has_no_phone_error_rate(tmp_path: Path) -> None:
    path = tmp_path / "pdfs.h5"
    write_corpus(path)
    with h5py.File(path, "r+") as file:
        file.attrs["targets"] = np.bytes_("pdf")
    summary = train("sgd", path, tmp_path / "run", ranks=0)
    assert summary["per_test"] is None
    assert 0 < summary["fer_test"] < 60
    done = gtcbmuf("report", tmp_path / "run")
    assert done.returncode == 0
    assert f"| {summary['fer_test']:.2f} " in " ".join(done.stdout.split())
    done = gtcbmuf("score", tmp_path / "run/model.h5", path)
    assert f"FER {summary['fer_test']:.2f} %" in done.stdout


@pytest.mark.parametrize(("nesterov", "residual"), [("true", "keep"), ("false", "clear")])
def test_local_momentum_warmup_and_the_end_of_a_block(
    nesterov: str, residual: str, corpus: Path, tmp_path: Path
) -> None:
    more = ("train.momentum=0.5", "train.warmup=0.5", "train.verify=true")
    summary = train(
        *("gtc-bmuf", corpus, tmp_path / "run", "topology.group_size=2", *more),
        *(f"block_filter.nesterov={nesterov}", f"block_filter.residual={residual}"),
        "block_filter.averaged_blocks=3",
        *("block_filter.local_momentum=keep", "model.activation=sigmoid", "exchange.tau=0.5"),
        ranks=4,
    )
    assert summary["fer_test"] < 90


def fail(*arguments: str | Path, ranks: int, status: int = 2, **options: object) -> tuple[str, str]:
    """Run a command that must fail; return its error line and its whole output."""
    begin = time.monotonic()
    done = gtcbmuf("train", *arguments, ranks=ranks, **options)
    assert time.monotonic() - begin < 60
    assert done.returncode == status, done.stdout + done.stderr
    messages = [line for line in done.stderr.splitlines() if line.startswith("gtcbmuf: ")]
    assert len(messages) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return messages[0], done.stdout + done.stderr


@pytest.mark.parametrize(
    ("method", "more", "message"),
    [
        ("gtc-bmuf", "topology.group_size=3", "group_size = 3 does not divide the 4 workers"),
        ("sgd", "train.epochs=1", "sgd trains 1 worker, and this job has 4"),
        ("bmuf", "topology.group_size=2", 'exchange.kind = "none"'),
        ("gtc", "topology.group_size=2", "leaves 2 groups that never meet"),
        ("gtc", "exchange.tua=2", "unknown key exchange.tua; did you mean exchange.tau?"),
        ("gtc", "exchange.tau=-2", "exchange.tau = -2"),
        ("gtc", "train.epochs=many", "train.epochs = 'many'"),
        ("no-such-recipe", "train.epochs=1", "neither a file nor a recipe"),
    ],
)
def test_invalid_configurations_are_refused(
    method: str, more: str, message: str, corpus: Path, tmp_path: Path
) -> None:
    line, _ = fail(method, "--out", tmp_path / "run", *settings(corpus, more), ranks=4)
    assert message in line
    assert not (tmp_path / "run").exists()


def test_invalid_corpora_are_refused(tmp_path: Path) -> None:
    missing, foreign = tmp_path / "missing.h5", tmp_path / "foreign.h5"
    foreign.write_bytes(b"not HDF5")
    for path, message in ((missing, "no such file"), (foreign, "cannot be read as a corpus")):
        line, _ = fail("gtc", "--out", tmp_path / "run", *settings(path), ranks=2)
        assert str(path) in line
        assert message in line
        assert not (tmp_path / "run").exists()


def test_an_out_path_with_other_content_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("content")
    line, _ = fail("gtc", "--out", tmp_path, *settings(corpus), ranks=2)
    assert "not a run directory" in line
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_diverging_run_is_reported(corpus: Path, tmp_path: Path) -> None:
    more = ("train.learning_rate=1e6",)
    line, output = fail(
        "sync-sgd", "--out", tmp_path / "run", *settings(corpus, *more), ranks=2, status=1
    )
    assert "training diverged in epoch 1" in line
    assert "Warning" not in output
    assert not (tmp_path / "run/summary.json").exists()


def test_a_feature_of_nan_is_reported_in_its_step(corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "corpus.h5"
    path.write_bytes(corpus.read_bytes())
    with h5py.File(path, "r+") as file:
        file["train/features"][1234, 3] = np.nan
    line, _ = fail(
        *("gtc", "--out", tmp_path / "run"),
        *settings(path, "train.checkpoint_every=1 steps"),
        ranks=4,
        status=1,
    )
    assert re.search(r"diverged in epoch 1: the loss of step \d+ is nan on rank [0-3]", line)
    # No checkpoint contains NaN.
    for checkpoint in (tmp_path / "run/checkpoints").glob("step-*"):
        for rank in range(4):
            with h5py.File(checkpoint / f"rank-{rank:05}.h5") as file:
                assert all(np.isfinite(array[:]).all() for array in file.values())


@pytest.mark.parametrize("method", ["sgd", "sync-sgd", "gtc", "top-k", "bmuf", "gtc-bmuf"])
def test_a_gradient_of_nan_is_reported_despite_a_finite_loss(
    method: str, corpus: Path, tmp_path: Path
) -> None:
    """With sigmoid units an infinite feature gives a finite loss and a gradient of NaN."""
    path = tmp_path / "corpus.h5"
    path.write_bytes(corpus.read_bytes())
    with h5py.File(path, "r+") as file:
        file["train/features"][1234, 3] = np.inf
    out, more = tmp_path / "run", ["train.checkpoint_every=1 steps", "model.activation=sigmoid"]
    if method == "gtc-bmuf":
        more.append("topology.group_size=2")
    line, _ = fail(*(method, "--out", out), *settings(path, *more), ranks=RANKS[method], status=1)
    match = re.search(
        r"training diverged in epoch 1: rank (\d): the gradient of step (\d+) is not finite in "
        r"[\d,]+ of [\d,]+ parameters, between [\d,]+ and [\d,]+; lower train.learning_rate",
        line,
    )
    assert match, line
    outcome = json.loads((out / "outcome.json").read_text())
    assert outcome["state"] == "diverged"
    assert f"gtcbmuf: {outcome['reason']}" == line
    assert outcome["seconds"] > 0
    for checkpoint in (out / "checkpoints").glob("step-*"):
        assert int(checkpoint.name[5:]) < int(match[2])
        for rank in range(RANKS[method]):
            with h5py.File(checkpoint / f"rank-{rank:05}.h5") as file:
                assert all(np.isfinite(array[:]).all() for array in file.values())


def test_an_unusable_scratch_folder_is_reported_once(corpus: Path, tmp_path: Path) -> None:
    words = ("--scratch", corpus, "--out", tmp_path / "run")
    line, _ = fail("gtc", *words, *settings(corpus), ranks=2)
    assert f"--scratch {corpus}: {corpus} cannot be copied there on " in line


def test_invalid_arguments_are_reported_once() -> None:
    line, _ = fail("gtc", "--sett", "x", ranks=4)
    assert "unrecognized arguments" in line


def test_invalid_arguments_are_reported_if_rank_0_is_late() -> None:
    # Open MPI's mpirun ends all ranks with the first that fails.
    late = 'test ${OMPI_COMM_WORLD_RANK:-$PMI_RANK} != 0 || sleep 1; exec "$0" "$@"'
    done = mpirun(2, "sh", "-c", late, program("gtcbmuf"), "train", "gtc", "--sett", "x")
    assert done.returncode == 2
    assert "gtcbmuf: unrecognized arguments: --sett x" in done.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_singletons_are_refused(rank: int, corpus: Path, tmp_path: Path) -> None:
    # The variables of srun without --mpi, with a world of 1.
    claims = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": str(rank)}
    done = gtcbmuf("train", "gtc", "--out", tmp_path / "run", *settings(corpus), env=claims)
    assert done.returncode == 2
    if rank:
        assert not done.stderr
    else:
        assert "srun --mpi=none started 4 processes, but MPI sees a world of 1" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


FAILING = """
import sys, time
from mpi4py import MPI
from gtcbmuf.base.errors import UserError
from gtcbmuf.mpi.job import job
with job(MPI.COMM_WORLD):
    if MPI.COMM_WORLD.rank == 1:
        print("raised", time.time(), flush=True)
        raise {error}
    MPI.COMM_WORLD.Barrier()
"""


@pytest.mark.parametrize(
    ("error", "message"),
    [("ValueError('boom')", "rank 1 of 4 failed"), ("UserError('boom')", "gtcbmuf: boom")],
)
def test_an_exception_on_one_rank_ends_the_job_within_seconds(error: str, message: str) -> None:
    done = mpirun(4, sys.executable, "-c", FAILING.format(error=error), timeout=60)
    assert done.returncode != 0
    assert message in done.stderr
    raise_time = float(done.stdout.split()[1])
    while processes := processes_with("from gtcbmuf.mpi.job import job"):
        assert time.time() - raise_time < 5, processes
        time.sleep(0.05)
    assert time.time() - raise_time < 5


def processes_with(words: str) -> list[str]:
    """Return the command lines of the running processes that contain these words."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended
            lines.append(path.read_text(errors="replace"))
    return [line for line in lines if words in line]


def test_a_terminal_shows_a_progress_bar_and_a_pipe_plain_lines(
    corpus: Path, tmp_path: Path
) -> None:
    import pty

    done = gtcbmuf("train", "sgd", "--out", tmp_path / "plain", *settings(corpus), ranks=1)
    assert "\r" not in done.stdout + done.stderr
    assert done.stdout.count("valid FER") == 3

    command = [program("mpirun"), "-n", "2", program("gtcbmuf"), "train", "gtc"]
    command += ["--out", str(tmp_path / "terminal"), *settings(corpus)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(command[0], command, clean_environment())
    output = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        output += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, output
    assert b"frames/s" in output
    assert b"\r" in output
    assert b"%|" in output
