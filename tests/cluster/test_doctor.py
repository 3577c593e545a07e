"""What `gtcbmuf doctor` finds on one host; tests/cluster/test_slurm.py has it on several."""

import os
import re
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.launch import gtcbmuf


def findings(text: str) -> dict[str, tuple[str, str]]:
    """By what was looked at: the verdict, and the rest of the line with the hint."""
    lines = re.findall(r"^(ok|look) +(\S.*?)  +(.*(?:\n +-> .*)?)", text, re.MULTILINE)
    return {what: (verdict, rest) for verdict, what, rest in lines}


def doctor(*arguments: str | Path, ranks: int = 0, **env: str) -> dict[str, tuple[str, str]]:
    done = gtcbmuf("doctor", *arguments, ranks=ranks, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return findings(done.stdout)


def test_alone_there_is_a_library_and_no_launcher() -> None:
    found = doctor()
    assert found["library"][0] == "ok"
    assert "mpi4py" in found["library"][1]
    assert found["launcher"][0] == "look"
    assert found["Numba cache"][0] == "ok"
    assert "within a host" not in found
    assert "corpus" not in found


def test_ranks_see_each_other_and_the_corpus(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus.h5")
    found = doctor("--corpus", tmp_path / "corpus.h5", ranks=2)
    assert found["launcher"][0] == "ok"
    assert "2 ranks, which see each other" in found["launcher"][1]
    assert found["corpus"][0] == "ok"
    assert re.match(r"[\d.e+]+ us, [\d,]+ MB/s", found["within a host"][1])
    assert "across hosts" not in found


CORES = len(os.sched_getaffinity(0))


def test_a_corpus_that_is_not_there_gets_a_hint(tmp_path: Path) -> None:
    verdict, told = doctor("--corpus", tmp_path / "none.h5")["corpus"]
    assert verdict == "look"
    assert "no such file" in told
    assert "->" in told


@pytest.mark.skipif(CORES < 2, reason="one core has no place for two ranks")
def test_more_threads_than_cores_get_a_hint() -> None:
    # Open MPI 4 binds each rank to a core, where it could not have more threads.
    unbound = {"OMPI_MCA_hwloc_base_binding_policy": "none"}
    found = doctor(ranks=2, OMP_NUM_THREADS=str(CORES), **unbound)
    [host] = [one for what, one in found.items() if what.startswith("host ")]
    assert host[0] == "look"
    assert f"OMP_NUM_THREADS={CORES // 2}" in host[1]


def test_a_cache_that_cannot_be_written_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # root may write everywhere but below a file
    found = doctor(NUMBA_CACHE_DIR=str(tmp_path / "file/numba"))
    assert found["Numba cache"][0] == "look"
    assert "NUMBA_CACHE_DIR" in found["Numba cache"][1]


def test_more_ranks_than_cores_get_a_hint() -> None:
    found = doctor(ranks=CORES + 1)
    [host] = [one for what, one in found.items() if what.startswith("host ")]
    assert "more ranks than cores" in host[1]
