"""The findings of `gtcbmuf doctor` on one host. test_slurm.py runs it on several hosts."""

import json
import os
import re
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.launch import gtcbmuf


def findings(text: str) -> dict[str, tuple[str, str]]:
    """Verdict, and state with hint, by subject."""
    lines = re.findall(r"^(ok|warn) +(\S.*?)  +(.*(?:\n +-> .*)?)", text, re.MULTILINE)
    return {subject: (verdict, state) for verdict, subject, state in lines}


def doctor(*arguments: str | Path, ranks: int = 0, **env: str) -> dict[str, tuple[str, str]]:
    process = gtcbmuf("doctor", *arguments, ranks=ranks, env=env)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return findings(process.stdout)


def test_without_a_launcher_the_launcher_gets_a_hint() -> None:
    report = doctor()
    assert report["library"][0] == "ok"
    assert "mpi4py" in report["library"][1]
    assert report["launcher"][0] == "warn"
    assert report["Numba cache"][0] == "ok"
    assert "within a host" not in report
    assert "corpus" not in report


def test_ranks_share_a_world_and_can_read_the_corpus(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5")
    report = doctor("--corpus", tmp_path / "corpus.h5", ranks=2)
    assert report["launcher"][0] == "ok"
    assert "2 ranks in one MPI world" in report["launcher"][1]
    assert report["corpus"][0] == "ok"
    assert re.match(r"[\d.e+]+ us, [\d,]+ MB/s", report["within a host"][1])
    assert "across hosts" not in report


CORES = len(os.sched_getaffinity(0))


def test_a_missing_corpus_gets_a_hint(tmp_path: Path) -> None:
    verdict, state = doctor("--corpus", tmp_path / "none.h5")["corpus"]
    assert verdict == "warn"
    assert "no such file" in state
    assert "->" in state


@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_more_threads_than_cores_get_a_hint() -> None:
    # Open MPI 4 binds each rank to one core, which would limit its threads to one.
    unbound = {"OMPI_MCA_hwloc_base_binding_policy": "none"}
    report = doctor(ranks=2, OMP_NUM_THREADS=str(CORES), **unbound)
    [host] = [finding for subject, finding in report.items() if subject.startswith("host ")]
    assert host[0] == "warn"
    assert f"OMP_NUM_THREADS={CORES // 2}" in host[1]


def test_a_read_only_cache_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # root can write everywhere except below a file
    report = doctor(NUMBA_CACHE_DIR=str(tmp_path / "file/numba"))
    assert report["Numba cache"][0] == "warn"
    assert "NUMBA_CACHE_DIR" in report["Numba cache"][1]


@pytest.mark.skipif(os.environ.get("GTCBMUF_MPI", "mpich") != "mpich", reason="needs MPICH")
def test_hosts_with_one_name_are_told_apart(tmp_path: Path) -> None:
    # Ranks 0 and 2 share memory, and ranks 1 and 3, as on two nodes that are called localhost.
    nodes = {"MPIR_CVAR_NUM_CLIQUES": "2"}
    name = os.uname().nodename
    report = doctor(ranks=4, **nodes)
    assert report["host names"][0] == "warn"
    assert report["host names"][1].startswith(f"2 hosts are called {name}\n")
    assert report[f"host {name}#1"][1].startswith("2 ranks, ")
    assert report[f"host {name}#2"][1].startswith("2 ranks, ")
    assert "across hosts" in report

    words = ("gtc-bmuf", "--set", "topology.group_size=node")
    done = gtcbmuf("topology", *words, ranks=4, env=nodes)
    assert "workers: 4; hosts: 2; groups: 2 of 2" in done.stdout
    assert f"{name}#1: 0-1" in done.stdout
    assert f"{name}#2: 2-3" in done.stdout

    write_corpus(tmp_path / "corpus.h5", train_frames=600)
    settings = (f"corpus.path={tmp_path / 'corpus.h5'}", "train.epochs=1", "model.hidden=[8]")
    words = ("bmuf", *(word for setting in settings for word in ("--set", setting)))
    done = gtcbmuf("train", *words, "--out", tmp_path / "run", ranks=2, env=nodes)
    assert done.returncode == 0, done.stderr
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["host_of_rank"] == [f"{name}#1", f"{name}#2"]
    assert list(environment["hosts"]) == [f"{name}#1", f"{name}#2"]


def test_more_ranks_than_cores_get_a_hint() -> None:
    report = doctor(ranks=CORES + 1)
    [host] = [finding for subject, finding in report.items() if subject.startswith("host ")]
    assert "more ranks than cores" in host[1]
