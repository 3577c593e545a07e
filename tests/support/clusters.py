"""Profile of a cluster, and methods, for tests of the cost model."""

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
    dense_parameter=3e-10,
    encode_parameter=4e-10,
    encode_update=2e-9,
    decode_message=5e-6,
    decode_update=3e-9,
    decode_bits=3e-10,
    filter_parameter=2e-9,
    sum_parameter=5e-10,
    deviation=0.1,
)
NETWORK = Network(1e-6, 2e-5, 5e9, 1e9, workers_per_host=4, cores_per_host=4)


def method(
    workers: int,
    group_size: int,
    density: float | None = None,
    period: int | None = None,
    *,
    sharded: bool = False,
    overlap: bool = False,
) -> Method:
    """Build a method: GTC with a density or else dense sums, and BMUF with a period."""
    exchange: ExchangeSpec = NoExchangeSpec()
    if density is not None:
        exchange = GTCSpec(density=density, overlap=overlap)
    elif group_size > 1:
        exchange = DenseSpec(overlap=overlap)
    block_filter: FilterSpec = NoFilterSpec()
    if period is not None:
        block_filter = BMUFSpec(period=period, sharded=sharded)
    return Method(workers, group_size, exchange, block_filter)
