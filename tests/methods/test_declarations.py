"""Every declared exchange and block filter: whole, documented, built and priced."""

import math
import sys

import msgspec
import numpy as np
import pytest
from mpi4py import MPI
from support.clusters import COMPUTE, NETWORK
from support.launch import run

from gtcbmuf.base.shapes import Shapes, count_parameters
from gtcbmuf.cluster.costs import Method, link_bytes, step_time
from gtcbmuf.cluster.plan import Plan
from gtcbmuf.config.loading import load_config, recipe_names
from gtcbmuf.config.schema import Config, fingerprint, to_tables
from gtcbmuf.methods import EXCHANGES, FILTERS
from gtcbmuf.methods.declaration import Collectives, ExchangeSpec, FilterSpec, Sent
from gtcbmuf.methods.dense import DenseSpec
from gtcbmuf.methods.gtc import GTCSpec
from gtcbmuf.methods.none import NoFilterSpec
from gtcbmuf.methods.signsgd import SignSGDSpec
from gtcbmuf.mpi.topology import Topology

N = 50
SHAPES = [(6, 5), (5,), (5, 3)]
MODEL = [(1000, 999), (1000,)]


def exchanges() -> list[ExchangeSpec]:
    specs = [spec().with_keys(density=0.1) for spec in EXCHANGES.values()]
    return [*specs, DenseSpec(bits=16), DenseSpec(bits=8), SignSGDSpec(error_feedback=True)]


@pytest.mark.parametrize("spec", exchanges(), ids=lambda spec: spec.kind)
def test_an_exchange_is_built_and_loses_nothing_of_one_workers_gradient(spec: ExchangeSpec) -> None:
    exchange = spec.build(MPI.COMM_SELF, SHAPES, None)
    gradient, update = np.arange(N, dtype=np.float32), np.zeros(N, np.float32)
    exchange(gradient).add_to(update, 1.0)
    state = exchange.state()
    if spec == SignSGDSpec():  # the majority's signs have no residual
        np.testing.assert_array_equal(update, 1)
    else:
        unsent = state.get("residual", 0) + state.get("of_sum", 0)
        np.testing.assert_allclose(update + unsent, gradient, atol=1e-5)
    exchange.restore({name: array.copy() for name, array in state.items()})


COMPILED = """
import numpy as np
from mpi4py import MPI
from gtcbmuf.base.jit import has_pending
from gtcbmuf.config.loading import load_config, recipe_names
from gtcbmuf.mpi.topology import Topology
from gtcbmuf.training.construction import build_worker

topology = Topology(MPI.COMM_SELF, 1)
for name in recipe_names():
    worker = build_worker(load_config(name), topology, np.ones(35, np.float32), [(6, 5), (5,)])
    for _ in range(2):
        assert not has_pending(), name
        worker.run(1, lambda step: np.ones(35, np.float32), lambda step: 0.1)
"""


def test_all_kernels_are_compiled_before_the_first_step() -> None:
    done = run(sys.executable, "-c", COMPILED)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("spec", [spec() for spec in FILTERS.values()], ids=lambda spec: spec.kind)
def test_a_filter_is_built_and_follows_one_workers_model(spec: FilterSpec) -> None:
    topology, model = Topology(MPI.COMM_SELF, 1), np.zeros(N, np.float32)
    block_filter = spec.build(topology, model, None)
    block_filter(model)
    assert not block_filter.anchor(model).any()
    model += 1
    block_filter(model)
    anchor = block_filter.anchor(model)
    assert ((anchor == 0) | (anchor >= 0.5) & (anchor < 2)).all()
    assert anchor.any()
    block_filter.restore({name: array.copy() for name, array in block_filter.state().items()})
    assert block_filter.anchor(model).tobytes() == anchor.tobytes()
    topology.free()


@pytest.mark.parametrize("exchange", exchanges(), ids=lambda spec: spec.kind)
@pytest.mark.parametrize("block_filter", [spec() for spec in FILTERS.values()])
def test_a_method_has_a_price(exchange: ExchangeSpec, block_filter: FilterSpec) -> None:
    for workers, group_size in ((1, 1), (8, 8), (8, 2), (48, 6)):
        method = Method(workers, group_size, exchange, block_filter)
        time = step_time(COMPUTE, NETWORK, method, shapes=MODEL, minibatch=64)
        assert 0 < time.sum < math.inf
        assert (time.exchange > 0) >= (exchange.connects and group_size > 1)
        assert (time.filter > 0) is block_filter.connects
        assert 0 <= link_bytes(method, MODEL, 4) < math.inf


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_in_the_plan(name: str) -> None:
    recipe = load_config(name)
    plan = Plan(COMPUTE, NETWORK, parameters=1_000_000, minibatch=64, density=0.01, period=10)
    tiers = {(one.exchange.kind, one.block_filter.kind) for one in plan.methods(8).values()}
    ours = recipe.exchange.kind, recipe.block_filter.kind
    assert ours in tiers or ours == ("none", "none")


@pytest.mark.parametrize("kind", EXCHANGES)
@pytest.mark.parametrize("filter_kind", FILTERS)
def test_a_configuration_comes_back_from_its_tables(kind: str, filter_kind: str) -> None:
    config = Config(exchange=EXCHANGES[kind](), block_filter=FILTERS[filter_kind]())
    again = msgspec.convert(to_tables(config), Config)
    assert again == config
    assert fingerprint(again) == fingerprint(config)


def test_a_declaration_that_lacks_a_part_does_not_import() -> None:
    with pytest.raises(TypeError, match=r"Halved in .* lacks label, build, encoding, adding"):

        class Halved(ExchangeSpec, frozen=True, tag="halved"):
            def sent(self, shapes: Shapes) -> Collectives:
                return (Sent("allreduce", 2 * count_parameters(shapes)),)

    assert "halved" not in EXCHANGES

    with pytest.raises(TypeError, match=r"Idle in .* lacks label, build, sent, encoding, filter"):

        class Idle(FilterSpec, frozen=True, tag="idle"):
            pass


def test_what_gtc_costs_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="depends on its density"):
        GTCSpec().sent(SHAPES)


def test_a_block_filter_without_a_part_of_its_own_keeps_everything() -> None:
    spec = NoFilterSpec()
    assert not spec.clears_residuals
    assert not spec.resets_momentum
    assert spec.resolve(4) is spec
