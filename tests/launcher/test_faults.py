"""Jobs with a fault in one rank."""

import os
import sys
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.launch import ROOT, mpirun

FAULTY = ROOT / "tests/support/faulty.py"
RANKS = 4


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("faults") / "corpus.h5"
    write_corpus(path, train_frames=12000)
    return path


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raises", "rank {rank} of 4 failed:"),
        ("is killed", ""),
        ("exits", ""),
        (
            "flips a bit",
            "end of a block: the replicas of ranks [{differs}] of 4 differ from that of the first",
        ),
        ("sends a message out of bounds", "a damaged message from rank {rank}: "),
    ],
)
def test_a_fault_in_one_rank_ends_the_job(
    fault: str, message: str, rank: int, corpus: Path, tmp_path: Path
) -> None:
    settings = [f"corpus.path={corpus}", "model.hidden=[30]", "train.epochs=1000"]
    settings += ["topology.group_size=2", "train.verify=true", "block_filter.period=5"]
    done = mpirun(
        RANKS,
        *(sys.executable, FAULTY, fault, str(rank)),
        *("train", "gtc-bmuf", "--out", tmp_path / "run"),
        *(word for setting in settings for word in ("--set", setting)),
        timeout=60,
    )
    # After a rank exits with 0, MPICH's mpirun returned 0 in 1 of 14 runs on a busy machine.
    mpich = os.environ.get("GTCBMUF_MPI", "mpich") == "mpich"
    assert done.returncode != 0 or (mpich and fault == "exits")
    # The message names the second of two different replicas.
    assert message.format(rank=rank, differs=rank | 1) in done.stderr
    assert not (tmp_path / "run/summary.json").exists()


def test_a_signal_during_the_final_test_lets_the_run_finish(corpus: Path, tmp_path: Path) -> None:
    settings = [f"corpus.path={corpus}", "model.hidden=[30]", "train.epochs=1"]
    done = mpirun(
        RANKS,
        *(sys.executable, FAULTY, "is told to stop in the last test", "3"),
        *("train", "gtc", "--out", tmp_path / "run"),
        *(word for setting in settings for word in ("--set", setting)),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/summary.json").exists()
