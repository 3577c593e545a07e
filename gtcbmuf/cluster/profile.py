"""The profile of a cluster: a TOML file, written by `gtcbmuf calibrate` or by hand.

All times are in seconds, bandwidths in bytes per second.
"""

import math
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
VERSION = 2

#: Numbers of parameters, n, at which the cost of a pass is given. The vectors of the smaller model
#: fit into a processor's cache.
SIZES = (250_000, 4_000_000)

#: Largest valid number of workers per host.
MOST_PER_HOST = 10_000

# The bounds are far beyond any real cluster. They keep sums finite and the time of a step above 0.
Seconds = Annotated[float, Meta(ge=0, le=1e3)]
PositiveSeconds = Annotated[float, Meta(ge=1e-18, le=1e3)]
Bandwidth = Annotated[float, Meta(ge=1, le=1e18)]
#: Seconds of a pass over a vector per number, for models of the two SIZES.
Pass = tuple[Seconds, Seconds]


class Compute(Struct, frozen=True, forbid_unknown_fields=True):
    """Compute costs in seconds, for a worker with a core of its own.

    Passes over vectors have two costs each, for models of the two SIZES. `cost` interpolates.

    Attributes:
        step: per step, independent of its size.
        frame: per frame, independent of the model's size.
        frame_parameter: per frame and parameter.
        parameter: per step and parameter, to read the weight and to write the gradient.
        exchange: per exchange of integers, independent of the model's size.
        filter: per block's end, independent of the model's size.
        message: per message of a sum between hosts, independent of its length, at either end.
        encode_integer: per integer of a message, to find those other than 0.
        encode_code: per code in a message: one for an integer other than 0, two for a larger one.
        decode_code: per code in a message.
        encode_field, decode_field: per integer of a message in fields.
        dense_parameter: pass that adds a gradient to the model.
        threshold_parameter: pass of GTC over gradient and residual.
        add_parameter: pass that adds a sum of integers to the model.
        check_parameter: pass that looks for numbers that are not finite.
        quantise_parameter: passes that quantise a change and sum its squares.
        restart_parameter: pass that replaces the start in a model.
        sum_sign: per sign of a row that is added to a sum.
        sum_integer: per integer of a row that is added to a sum.
        sum_parameter: per parameter of a sum that a worker computes, for any number of rows.
        sum_float: per float that is added to a sum.
        filter_parameter: per parameter that a worker filters at a block's end.
        deviation: standard deviation of a step's time, as a share of the mean. Steps and workers
            vary independently.
    """

    step: Seconds
    frame: Seconds
    frame_parameter: PositiveSeconds
    parameter: Seconds
    exchange: Seconds
    filter: Seconds
    message: Seconds
    encode_integer: Seconds
    encode_code: Seconds
    decode_code: Seconds
    encode_field: Seconds
    decode_field: Seconds
    dense_parameter: Pass
    threshold_parameter: Pass
    add_parameter: Pass
    check_parameter: Pass
    quantise_parameter: Pass
    restart_parameter: Pass
    sum_sign: Pass
    sum_integer: Pass
    sum_parameter: Pass
    sum_float: Pass
    filter_parameter: Pass
    deviation: Annotated[float, Meta(ge=0, le=100)] = 0.0

    def cost(self, name: str, n: int) -> float:
        """Look up a cost for a model of n parameters.

        The costs of a pass are interpolated between the SIZES, over the logarithm of n.

        Args:
            name: one of the costs.
            n: parameters of the model.
        """
        value: float | Pass = getattr(self, name)
        if isinstance(value, float | int):
            return value
        (small, large), (low, high) = SIZES, value
        share = math.log(n / small) / math.log(large / small)
        return low + min(max(share, 0.0), 1.0) * (high - low)


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
