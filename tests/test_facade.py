"""`import gtcbmuf`: what it offers, what it refuses at its boundary, and what is not finite."""

import doctest
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from support.launch import ROOT, mpirun, run

import gtcbmuf

N = 1000
SELF = MPI.COMM_SELF
INFINITE, NAN = np.float32(np.inf), np.float32(np.nan)


def vector(size: int = N) -> Any:
    return np.ones(size, np.float32)


EXCHANGES: dict[str, Callable[[], Any]] = {
    "none": lambda: gtcbmuf.NoExchange(N),
    "dense": lambda: gtcbmuf.DenseExchange(SELF, N),
    "gtc": lambda: gtcbmuf.GTCExchange(SELF, N, tau=10.0),
    "gtc, dense messages": lambda: gtcbmuf.GTCExchange(SELF, N, tau=1e-3),
    "top-k": lambda: gtcbmuf.TopKExchange(SELF, N, density=0.01),
    "dgc": lambda: gtcbmuf.DGCExchange(SELF, N, density=0.01, momentum=0.5),
    "one-bit": lambda: gtcbmuf.OneBitExchange(SELF, [(10, 99), (10,)]),
    "ef-signsgd": lambda: gtcbmuf.EFSignExchange(SELF, [(10, 99), (10,)]),
    "signsgd": lambda: gtcbmuf.MajorityExchange(SELF, N, momentum=0.9),
    "qsgd": lambda: gtcbmuf.QSGDExchange(SELF, N, levels=7, bucket=512),
    "powersgd": lambda: gtcbmuf.PowerSGDExchange(SELF, [(10, 99), (10,)], rank=2),
}
FILTERS: dict[str, Callable[[], Any]] = {
    "none": lambda: gtcbmuf.NoFilter(N),
    "bmuf": lambda: gtcbmuf.BMUF(gtcbmuf.Topology(SELF, 1), vector()),
    "slowmo": lambda: gtcbmuf.SlowMo(gtcbmuf.Topology(SELF, 1), vector(), momentum=0.5),
    "diloco": lambda: gtcbmuf.DiLoCo(gtcbmuf.Topology(SELF, 1), vector()),
    "sparse": lambda: gtcbmuf.SparseLoCo(gtcbmuf.Topology(SELF, 1), vector(), density=0.1),
}


# What it offers


def test_it_loads_nothing_until_a_name_is_used() -> None:
    code = (
        "import sys, gtcbmuf; heavy = ('numpy', 'mpi4py', 'numba');"
        "print(*(module for module in heavy if module in sys.modules));"
        "gtcbmuf.UserError; print('numpy' in sys.modules); gtcbmuf.GTCExchange; print('ok')"
    )
    done = run(sys.executable, "-c", code)
    assert done.stdout.splitlines() == ["", "False", "ok"], done.stderr


def test_its_names_are_sorted_and_all_there() -> None:
    assert sorted(gtcbmuf.__all__) == gtcbmuf.__all__
    assert set(gtcbmuf.__all__) <= set(dir(gtcbmuf))
    for name in gtcbmuf.__all__:
        assert getattr(gtcbmuf, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Topolgy'"):
        gtcbmuf.Topolgy  # noqa: B018
    assert (ROOT / "gtcbmuf/py.typed").exists()


def test_type_checkers_see_the_same_names() -> None:
    text = (ROOT / "gtcbmuf/__init__.py").read_text()
    assert sorted(re.findall(r"import \w+ as (\w+)$", text, re.MULTILINE)) == gtcbmuf.__all__


#: Protocols and errors are not called.
WITHOUT_EXAMPLE = {"BlockFilter", "Exchange", "Model", "Update", "NotFiniteError", "UserError"}


@pytest.mark.parametrize("name", gtcbmuf.__all__)
def test_a_name_is_documented_with_an_example(name: str) -> None:
    thing = getattr(gtcbmuf, name)
    text = inspect.getdoc(thing) or ""
    assert len(text.split()) > 5
    assert (">>> " in text) or name in WITHOUT_EXAMPLE
    if not inspect.isclass(thing):
        return
    for method, function in inspect.getmembers(thing, inspect.isfunction):
        own = function.__module__.startswith("gtcbmuf.")
        if own and not method.startswith("_"):
            assert inspect.getdoc(function), f"{name}.{method}"


MODULES = sorted((ROOT / "gtcbmuf").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_in_docstrings_work(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if ">>> " not in path.read_text() or path.name == "__main__.py":
        return
    import importlib

    parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(p for p in parts if p != "__init__"))
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True), capsys.readouterr().out


# What it refuses


@pytest.mark.parametrize("make", EXCHANGES.values(), ids=EXCHANGES)
@pytest.mark.parametrize(
    ("gradient", "says"),
    [
        (vector(N - 1), "gradient: 999 parameters, but 1,000 are expected"),
        (vector(N + 1), "gradient: 1,001 parameters, but 1,000 are expected"),
        (
            np.ones(N),
            "gradient: expected a contiguous float32 vector, not float64 of shape (1000,)",
        ),
        (vector(2 * N)[::2], "gradient: expected a contiguous float32 vector"),
        (vector().reshape(10, 100), "float32 of shape (10, 100)"),
        ([0.0] * N, "gradient: expected a NumPy array, not list"),
    ],
)
def test_an_exchange_refuses_another_vector(make: Any, gradient: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        make()(gradient)


@pytest.mark.parametrize("make", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("size", [N - 1, N + 1])
def test_a_filter_refuses_another_vector(make: Any, size: int) -> None:
    with pytest.raises(ValueError, match=f"model: {size:,} parameters, but 1,000 are expected"):
        make()(vector(size))


@pytest.mark.parametrize("make", EXCHANGES.values(), ids=EXCHANGES)
def test_an_update_is_not_added_to_another_vector(make: Any) -> None:
    update = make()(vector())
    for target in (vector(N + 1), vector(N - 1)):
        before = target.copy()
        with pytest.raises((ValueError, IndexError)):
            update.add_to(target, 1.0)
        np.testing.assert_array_equal(target, before)


@pytest.mark.parametrize("make", EXCHANGES.values(), ids=EXCHANGES)
def test_a_gradient_may_be_read_only(make: Any) -> None:
    """As those of JAX are."""
    gradient = np.arange(N, dtype=np.float32)
    frozen = gradient.copy()
    frozen.flags.writeable = False
    updates = np.zeros((2, N), np.float32)
    for given, update in zip((gradient, frozen), updates, strict=True):
        make()(given).add_to(update, 1.0)
    np.testing.assert_array_equal(updates[0], updates[1])


@pytest.mark.parametrize("n", [0, -1, 2**31, 1.5, True, "9"])
def test_a_number_of_parameters_out_of_range_is_refused(n: Any) -> None:
    says = f"parameters = {n!r}: expected an integer from 1 to 2,147,483,647"
    for make in (gtcbmuf.NoExchange, gtcbmuf.NoFilter):
        with pytest.raises(ValueError, match=re.escape(says)):
            make(n)
    with pytest.raises(ValueError, match=re.escape(says)):
        gtcbmuf.GTCExchange(SELF, n, tau=1.0)


@pytest.mark.parametrize("tau", [0, -1, 1e-46, np.nan, np.inf, 1e31, "1", True])
def test_a_tau_out_of_range_is_refused(tau: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"tau = {tau!r}: expected a number from 1e-30")):
        gtcbmuf.GTCExchange(SELF, N, tau=tau)


@pytest.mark.parametrize("density", [0, 1, -0.1, 1.5, np.nan, "any"])
def test_a_density_out_of_range_is_refused(density: Any) -> None:
    says = re.escape(f"density = {density!r}: expected a number above 0 and below 1")
    with pytest.raises(ValueError, match=says):
        gtcbmuf.GTCExchange(SELF, N, tau=1.0, density=density)
    with pytest.raises(ValueError, match=says):
        gtcbmuf.TopKExchange(SELF, N, density)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"momentum": 1}, "momentum = 1: expected a number from 0 to below 1"),
        ({"momentum": 1 - 1e-12}, "momentum = 0.999999999999: expected"),  # 1 in float32
        ({"momentum": -0.5}, "momentum = -0.5: expected"),
        ({"momentum": np.nan}, "momentum = nan: expected"),
        ({"learning_rate": 0}, "learning_rate = 0: expected"),
        ({"learning_rate": np.inf}, "learning_rate = inf: expected"),
        ({"averaged": -1}, "averaged = -1: expected an integer from 0"),
        ({"averaged": 0.5}, "averaged = 0.5: expected an integer from 0"),
    ],
)
def test_bmuf_refuses_numbers_out_of_range(keys: Any, says: str) -> None:
    topology = gtcbmuf.Topology(SELF, 1)
    with pytest.raises(ValueError, match=re.escape(says)):
        gtcbmuf.BMUF(topology, vector(), **keys)
    topology.free()


def test_a_worker_refuses_a_period_and_a_model_that_cannot_be() -> None:
    tiers = gtcbmuf.NoExchange(N), gtcbmuf.NoFilter(N)
    for period in (0, -1, 0.5):
        with pytest.raises(ValueError, match=f"period = {period}: expected an integer from 1"):
            gtcbmuf.Worker(vector(), *tiers, period)
    with pytest.raises(ValueError, match="model: expected a contiguous float32 vector"):
        gtcbmuf.Worker(np.ones(N), *tiers, 10)
    frozen = vector()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="expected a vector that can be changed in place"):
        gtcbmuf.Worker(frozen, *tiers, 10)
    worker = gtcbmuf.Worker(vector(), *tiers, 10)
    with pytest.raises(ValueError, match="learning rate of step 0: nan"):
        worker.run(1, lambda step: vector(), lambda step: float("nan"))
    with pytest.raises(ValueError, match="momentum = 1"):
        gtcbmuf.Descent(N, momentum=1)


@pytest.mark.parametrize("size", [0, -2, 2, 0.5])
def test_a_topology_refuses_a_group_size_that_does_not_divide(size: Any) -> None:
    with pytest.raises(ValueError, match="group size"):
        gtcbmuf.Topology(SELF, size)


@pytest.mark.parametrize("make", FILTERS.values(), ids=FILTERS)
def test_an_anchor_is_the_callers_own(make: Any) -> None:
    block_filter, model = make(), vector()
    block_filter(model)
    before = block_filter.anchor(model)
    anchor = block_filter.anchor(model)
    anchor += 1
    np.testing.assert_array_equal(model, vector())
    np.testing.assert_array_equal(block_filter.anchor(model), before)


# What is not finite


@pytest.mark.parametrize("make", EXCHANGES.values(), ids=EXCHANGES)
@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE])
@pytest.mark.parametrize("places", [[0], [N - 1], [31, 32, 500], list(range(N))])
def test_a_gradient_that_is_not_finite_is_found_in_its_step(
    make: Any, value: Any, places: list[int]
) -> None:
    exchange, gradient = make(), vector()
    for _ in range(3):
        exchange(gradient)
    gradient[places] = value
    says = (
        f"rank 0: the gradient of step 4 is not finite in {len(places):,} of 1,000 parameters, "
        f"between {places[0]} and {places[-1]}"
    )
    with pytest.raises(gtcbmuf.NotFiniteError, match=re.escape(says)) as caught:
        exchange(gradient)
    assert (caught.value.first, caught.value.last) == (places[0], places[-1])


@pytest.mark.parametrize("kind", ["gtc", "gtc, dense messages", "top-k"])
def test_a_residual_that_overflows_is_found(kind: str) -> None:
    exchange, largest = EXCHANGES[kind](), np.full(N, np.finfo(np.float32).max)
    exchange(largest)
    with (
        np.errstate(over="ignore"),
        pytest.raises(gtcbmuf.NotFiniteError, match="gradient of step 2 is not finite"),
    ):
        exchange(largest)


def test_a_filter_refuses_a_model_that_it_cannot_change() -> None:
    frozen = vector()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="expected a vector that can be changed in place"):
        FILTERS["bmuf"]()(frozen)


@pytest.mark.parametrize("make", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("value", [NAN, INFINITE])
def test_a_model_that_is_not_finite_is_found_in_its_block(make: Any, value: Any) -> None:
    block_filter, model = make(), vector()
    block_filter(model)
    model[[7, 9]] = value
    says = "the model of block 2 is not finite in 2 of 1,000 parameters, between 7 and 9"
    with pytest.raises(gtcbmuf.NotFiniteError, match=says):
        block_filter(model)


def test_a_worker_names_the_step_of_the_epoch() -> None:
    def gradient(step: int) -> Any:
        return vector() if step < 12 else np.full(N, NAN)

    worker = gtcbmuf.Worker(vector(), gtcbmuf.NoExchange(N), gtcbmuf.NoFilter(N), 5)
    worker.run(10, gradient, lambda step: 0.1)
    with pytest.raises(gtcbmuf.NotFiniteError, match="gradient of step 13 "):
        worker.run(20, gradient, lambda step: 0.1)
    assert np.isfinite(worker.model).all()


SCRIPT = """
import sys
import numpy as np
import gtcbmuf

kind, n = sys.argv[1], 1000
with gtcbmuf.job() as world:
    topology = gtcbmuf.Topology(world, world.size)
    exchange = {
        "dense": lambda: gtcbmuf.DenseExchange(topology.group, n),
        "gtc": lambda: gtcbmuf.GTCExchange(topology.group, n, tau=2.0),
        "top-k": lambda: gtcbmuf.TopKExchange(topology.group, n, 0.1),
    }[kind]()
    model = np.zeros(n, np.float32)

    def gradient(step):
        mine = np.ones(n, np.float32)
        if (world.rank, step) == (1, 6):
            mine[[40, 70]] = np.nan
        return mine

    worker = gtcbmuf.Worker(model, exchange, gtcbmuf.NoFilter(n), period=5)
    worker.run(20, gradient, lambda step: 0.1)
"""


@pytest.mark.parametrize("kind", ["dense", "gtc", "top-k"])
def test_one_ranks_nan_ends_the_job_with_one_line(kind: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = mpirun(3, sys.executable, script, kind)
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("gtcbmuf: ")]
    assert ours == [
        "gtcbmuf: rank 1: the gradient of step 7 is not finite in 2 of 1,000 parameters, "
        "between 40 and 70"
    ]


LEAVES = """
import sys
import gtcbmuf
with gtcbmuf.job() as world:
    sys.exit({})
"""


@pytest.mark.parametrize(
    ("status", "expected", "stderr"),
    [
        ("0", 0, ""),
        ("None", 0, ""),
        ("3 if world.rank else 0", 3, ""),
        ("'a reason'", 1, "a reason"),
    ],
)
def test_a_job_that_exits_ends_with_its_status(
    status: str, expected: int, stderr: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(LEAVES.format(status))
    done = mpirun(2, sys.executable, script)
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr
    assert stderr in done.stderr


LATE = """
import gtcbmuf
from gtcbmuf.base import jit
exchanges = [getattr(gtcbmuf, name) for name in gtcbmuf.__all__ if name.endswith("Exchange")]
with gtcbmuf.job() as world:
    group = gtcbmuf.Topology(world, group_size=1).group
    gtcbmuf.QSGDExchange(group, 8, 7, 4), gtcbmuf.DGCExchange(group, 8, 0.5, 0.9, 4, 0)
    gtcbmuf.PowerSGDExchange(group, [(2, 4)], 1), gtcbmuf.OneBitExchange(group, [(2, 4)])
    print(jit.has_pending())
"""


def test_the_topology_compiles_the_kernels_of_all_exchanges() -> None:
    done = run(sys.executable, "-c", LATE)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


COLD = """
import gtcbmuf, numpy as np
with gtcbmuf.job() as world:
    topology = gtcbmuf.Topology(world, group_size=2)
    exchange = gtcbmuf.GTCExchange(topology.group, 100, tau=1.0)
    exchange(np.ones(100, np.float32)).add_to(np.zeros(100, np.float32), 1.0)
"""


def test_a_script_on_many_ranks_fills_an_empty_cache_safely(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(COLD)
    cache = tmp_path / "cache"
    done = mpirun(8, sys.executable, script, env={"NUMBA_CACHE_DIR": str(cache)}, timeout=100)
    assert done.returncode == 0, done.stderr
    kernels, machine_code = list(cache.rglob("*.nbi")), list(cache.rglob("*.nbc"))
    assert len(kernels) == len(machine_code) > 0
