"""`scripts/hosts`: ranks on emulated hosts, without leftovers."""

import subprocess
from pathlib import Path

import pytest
from support.launch import ROOT, run

from gtcbmuf.cluster.profile import read_profile

pytestmark = pytest.mark.needs("root", "ip", "tc", "nsenter", "unshare", "network namespaces")


def namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout


def test_ranks_run_on_emulated_hosts() -> None:
    before = namespaces()
    script = "import os; from mpi4py import MPI; w = MPI.COMM_WORLD; print(w.gather(os.uname()[1]))"
    done = run(ROOT / "scripts/hosts", "2", "1gbit", "2", "python", "-c", script)
    assert "['h1', 'h1', 'h2', 'h2']" in done.stdout, done.stderr
    assert namespaces() == before


def test_a_failure_leaves_nothing_behind() -> None:
    before = namespaces()
    assert run(ROOT / "scripts/hosts", "2", "none", "1", "false").returncode != 0
    for rate in ("1parsec", "100Mbit", "0.1gbit", "08mbit", "0mbit"):
        done = run(ROOT / "scripts/hosts", "2", rate, "1", "true")
        assert done.returncode == 2
        assert f"RATE {rate}: expected none, or an integer" in done.stderr
    assert run(ROOT / "scripts/hosts", "0", "none", "1", "true").returncode == 2
    assert namespaces() == before


def test_a_calibration_measures_the_rate_of_the_links(tmp_path: Path) -> None:
    words = ("gtcbmuf", "calibrate", "--rounds", "2", "--out", tmp_path / "cluster.toml")
    done = run(ROOT / "scripts/hosts", "2", "100mbit", "2", *words)
    assert done.returncode == 0, done.stderr
    network = read_profile(tmp_path / "cluster.toml").network
    assert network is not None
    assert network.workers_per_host == 2
    assert 8e6 < network.bandwidth_across < 14e6  # 12.5 MB/s; a burst is not limited
    assert network.bandwidth_within > 10 * network.bandwidth_across
