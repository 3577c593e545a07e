"""What the cost model says of steps on emulated hosts (scripts/hosts), which share one machine."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gtcbmuf.cluster.costs import Method, StepTime, step_time
from gtcbmuf.cluster.profile import ClusterProfile, read_profile, write_profile

HOSTS = Path(__file__).resolve().parent / "hosts"


def calibrate(out: Path, *launcher: str) -> ClusterProfile:
    """Run `gtcbmuf calibrate` under a launcher, and read its profile."""
    command = [*launcher, "gtcbmuf", "calibrate", "--out", out.name]
    subprocess.run(command, check=True, cwd=out.parent)  # profiles name their command
    return read_profile(out)


def calibrate_link(out: Path, rate: str, alone: ClusterProfile) -> ClusterProfile:
    """Calibrate a network of two hosts with two workers each.

    Args:
        out: file of the profile.
        rate: rate of the links, as scripts/hosts takes it.
        alone: profile of one worker, which gives the times of computation.
    """
    profile = calibrate(out, str(HOSTS), "2", rate, "2")
    profile = msgspec.structs.replace(profile, compute=alone.compute)
    write_profile(out, profile)
    return profile


def predict_step(
    profile: ClusterProfile,
    method: Method,
    hosts: int,
    shapes: Sequence[tuple[int, ...]],
    minibatch: int,
) -> StepTime:
    """Predict the parts of a step, in seconds.

    Args:
        profile: of `calibrate_link`.
        method: the method, with its number of workers.
        hosts: number of hosts.
        shapes: shapes of the model's arrays.
        minibatch: frames of a worker and step.
    """
    assert profile.compute
    assert profile.network
    # The emulated hosts share this machine's cores. Each of them reported all of these cores.
    network = msgspec.structs.replace(
        profile.network,
        workers_per_host=method.workers // hosts,
        cores_per_host=profile.network.cores_per_host / hosts,
    )
    return step_time(profile.compute, network, method, shapes=shapes, minibatch=minibatch)
