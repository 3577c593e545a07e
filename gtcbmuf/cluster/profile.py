"""The profile of a cluster: a TOML file, written by `gtcbmuf calibrate` or by hand.

All times are in seconds, bandwidths in bytes per second.
"""

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
import tomli_w
from msgspec import Meta, Struct

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_text, writing
from gtcbmuf.base.text import read_text
from gtcbmuf.base.toml import explain

#: Version of the file's format.
VERSION = 1

#: Largest valid number of workers per host.
MOST_PER_HOST = 10_000

# The bounds are far beyond any real cluster. They keep sums finite and the time of a step above 0.
Seconds = Annotated[float, Meta(ge=0, le=1e3)]
PositiveSeconds = Annotated[float, Meta(ge=1e-18, le=1e3)]
Bandwidth = Annotated[float, Meta(ge=1, le=1e18)]


class Compute(Struct, frozen=True, forbid_unknown_fields=True):
    """Compute costs in seconds, for a worker with a core of its own.

    Attributes:
        step: per step, independent of its size.
        frame: per frame, independent of the model's size.
        frame_parameter: per frame and parameter.
        parameter: per step and parameter, to read the weight and to write the gradient.
        dense_parameter: per parameter, to add a dense gradient to the model.
        encode_parameter: per parameter, to compare it with the threshold.
        encode_update: per update, to write it into a message.
        decode_message: per message, independent of its length.
        decode_update: per update in a message.
        decode_bits: per parameter of a dense message, which has two bits per parameter.
        filter_parameter: per parameter that a leader filters at a block's end.
        sum_parameter: per float that is added to a sum.
        deviation: standard deviation of a step's time, as a share of the mean. Steps and workers
            vary independently.
    """

    step: Seconds
    frame: Seconds
    frame_parameter: PositiveSeconds
    parameter: Seconds
    dense_parameter: Seconds
    encode_parameter: Seconds
    encode_update: Seconds
    decode_message: Seconds
    decode_update: Seconds
    decode_bits: Seconds
    filter_parameter: Seconds
    sum_parameter: Seconds
    deviation: Annotated[float, Meta(ge=0, le=100)] = 0.0


class Network(Struct, frozen=True, forbid_unknown_fields=True):
    """Latencies and bandwidths of a network, and the size of its hosts.

    Attributes:
        latency_within: seconds of a short message within a host.
        latency_across: seconds of a short message between two hosts.
        bandwidth_within: bytes per second of a copy from one rank to another within a host.
        bandwidth_across: bytes per second of a host's link, in each direction.
        workers_per_host: workers on a full host.
        cores_per_host: cores that the workers of a host share; 0.5 for two emulated hosts on one
            core.
    """

    latency_within: Seconds
    latency_across: Seconds
    bandwidth_within: Bandwidth
    bandwidth_across: Bandwidth
    workers_per_host: Annotated[int, Meta(ge=1, le=MOST_PER_HOST)]
    cores_per_host: Annotated[float, Meta(ge=1e-3, le=1e6)]


class ClusterProfile(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a profile's file.

    Attributes:
        version: version of the format.
        source: origin of the figures: "measured ..." with command and commit, or "given".
        processor: model name of the processor that `compute` describes.
        compute: compute costs; None if the file has no table [compute].
        network: the network; None if the file has no table [network].
    """

    version: int
    source: str
    processor: str = ""
    compute: Compute | None = None
    network: Network | None = None


def read_profile(path: Path) -> ClusterProfile:
    """Read a profile.

    Args:
        path: the TOML file.

    Returns:
        The profile.

    Raises:
        UserError: the file cannot be read, or a value is invalid. The line names file and key.
    """
    try:
        content = tomllib.loads(read_text(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a TOML file: {error}") from None
    if content.get("version") != VERSION:
        raise UserError(
            f"{path}: version = {content.get('version')}: expected {VERSION}; calibrate again with "
            "this version of gtcbmuf"
        )
    try:
        return msgspec.convert(content, ClusterProfile)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {explain(error, content)[1]}") from None


def write_profile(path: Path, cluster: ClusterProfile) -> None:
    """Write a profile atomically.

    Args:
        path: the TOML file.
        cluster: the profile.

    Raises:
        UserError: the file cannot be written.
    """
    items = msgspec.to_builtins(cluster).items()
    content = {key: value for key, value in items if value is not None}
    with writing(path):
        write_text(path, tomli_w.dumps(content))
