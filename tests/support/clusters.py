"""Profile of a cluster, and methods, for tests of the cost model."""

from typing import Literal

from gtcbmuf.cluster.costs import Method
from gtcbmuf.cluster.profile import Compute, Network
from gtcbmuf.methods.bmuf import BMUFSpec
from gtcbmuf.methods.declaration import ExchangeSpec, FilterSpec
from gtcbmuf.methods.dense import DenseSpec
from gtcbmuf.methods.gtc import GTCSpec
from gtcbmuf.methods.none import NoExchangeSpec, NoFilterSpec

COMPUTE = Compute(
    step=1e-4,
    frame=1e-6,
    frame_parameter=1e-10,
    parameter=1e-9,
    exchange=8e-6,
    filter=1.5e-5,
    message=5e-6,
    encode_integer=4e-10,
    encode_code=4e-9,
    decode_code=3e-9,
    encode_field=2e-9,
    decode_field=1.5e-9,
    dense_parameter=(2e-10, 3e-10),
    threshold_parameter=(3e-10, 5e-10),
    add_parameter=(1e-10, 2e-10),
    check_parameter=(5e-11, 6e-11),
    quantise_parameter=(2e-10, 4e-10),
    restart_parameter=(1e-10, 3e-10),
    sum_sign=(1e-11, 5e-11),
    sum_integer=(5e-11, 1e-10),
    sum_parameter=(2e-10, 3e-10),
    sum_float=(4e-10, 5e-10),
    filter_parameter=(1e-9, 2e-9),
    deviation=0.1,
)
NETWORK = Network(1e-6, 2e-5, 5e9, 1e9, workers_per_host=4, cores_per_host=4)


def method(
    workers: int,
    group_size: int,
    density: float | None = None,
    period: int | None = None,
    *,
    bits: Literal[8, 16, 32] = 32,
    overlap: bool = False,
    delay: int = 0,
) -> Method:
    """Build a method: GTC with a density or else dense sums, and BMUF with a period."""
    exchange: ExchangeSpec = NoExchangeSpec()
    if density is not None:
        exchange = GTCSpec(density=density)
    elif group_size > 1:
        exchange = DenseSpec(bits=bits, overlap=overlap)
    block_filter: FilterSpec = NoFilterSpec()
    if period is not None:
        block_filter = BMUFSpec(period=period, delay=delay)
    return Method(workers, group_size, exchange, block_filter)
