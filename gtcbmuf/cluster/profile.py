"""What a cluster can do: a TOML file that `gtcbmuf calibrate` measures, or that somebody writes."""

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
import tomli_w
from msgspec import Meta, Struct

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_text, writing
from gtcbmuf.base.toml import explain

#: Of the file's format: what its keys mean.
VERSION = 1

#: Workers that a host may have.
MOST_PER_HOST = 10_000

# Far beyond what there is, but so that no sum of them is infinite, and no step takes no time.
Seconds = Annotated[float, Meta(ge=0, le=1e3)]
SomeSeconds = Annotated[float, Meta(ge=1e-18, le=1e3)]
Bandwidth = Annotated[float, Meta(ge=1, le=1e18)]


class Compute(Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker needs on a core of its own.

    Attributes:
        step: of every step, whatever its size.
        frame: of a frame, whatever the model's size.
        frame_parameter: of a frame, for each parameter.
        parameter: of a step, for each parameter: read the weights, write the gradient.
        dense_parameter: add a whole gradient to the model, for each parameter.
        encode_parameter, encode_update: look at a parameter; put an update into the message.
        decode_message, decode_update: of each message; of each update in it.
        decode_bits: of each parameter of a message that has two bits for each.
        filter_parameter: of a block's end, for each parameter that a leader filters.
        sum_parameter: add one float of another leader to a sum.
        deviation: of the time of a step from the mean, as a share of the mean; the standard
            deviation, with every step and worker by itself.
    """

    step: Seconds
    frame: Seconds
    frame_parameter: SomeSeconds
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
    """What carries the messages.

    Attributes:
        latency_within, latency_across: of a message within a host, and between two.
        bandwidth_within: of a copy from one rank to another within a host.
        bandwidth_across: of a host's link, each way.
        workers_per_host: of a full host.
        cores_per_host: workers beyond that share them; 0.5 is a core for two hosts (emulated ones).
    """

    latency_within: Seconds
    latency_across: Seconds
    bandwidth_within: Bandwidth
    bandwidth_across: Bandwidth
    workers_per_host: Annotated[int, Meta(ge=1, le=MOST_PER_HOST)]
    cores_per_host: Annotated[float, Meta(ge=1e-3, le=1e6)]


class ClusterProfile(Struct, frozen=True, forbid_unknown_fields=True):
    """A file's content.

    Attributes:
        version: of the format.
        source: where the figures come from: "measured ..." with command and commit, or "given".
        processor: that `compute` was measured on, or is given for.
        compute, network: its parts; a file may have one of them.
    """

    version: int
    source: str
    processor: str = ""
    compute: Compute | None = None
    network: Network | None = None


def read_profile(path: Path) -> ClusterProfile:
    """Read what a cluster can do.

    Raises:
        UserError: the file cannot be read, or a value cannot be; names the file and the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not TOML: {error}") from None
    if content.get("version") != VERSION:
        raise UserError(
            f"{path}: version = {content.get('version')}; expected {VERSION}: calibrate again with "
            "this gtcbmuf"
        )
    try:
        return msgspec.convert(content, ClusterProfile)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {explain(error, content)[1]}") from None


def write_profile(path: Path, cluster: ClusterProfile) -> None:
    """Write what a cluster can do, whole or not at all.

    Raises:
        UserError: the place cannot be written to.
    """
    plain = msgspec.to_builtins(cluster).items()
    content = {key: value for key, value in plain if value is not None}
    with writing(path):
        write_text(path, tomli_w.dumps(content))
