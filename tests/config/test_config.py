"""Configurations: what is accepted, and what a user hears about the rest."""

import datetime
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gtcbmuf.base.errors import UserError
from gtcbmuf.config.loading import load_config, recipe_names, valid_keys
from gtcbmuf.config.schema import (
    Config,
    CorpusConfig,
    ModelConfig,
    TopologyConfig,
    TrainConfig,
    fingerprint,
    method_name,
    resolve_group_size,
    to_tables,
)
from gtcbmuf.methods import EXCHANGES, FILTERS
from gtcbmuf.methods.bmuf import BMUFSpec
from gtcbmuf.methods.none import NoFilterSpec

METHODS = recipe_names()
PAPER = {"sgd", "sync-sgd", "gtc", "averaging", "bmuf", "gtc-bmuf"}
TREE = to_tables(Config())
PATHS = list(valid_keys())

# One file for all examples: a function-scoped fixture is right here.
FILE_PER_TEST = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(folder: Path, text: str) -> str:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(source: str, *assignments: str) -> str:
    """What `load` says of a configuration that it refuses."""
    with pytest.raises(UserError) as caught:
        load_config(source, assignments)
    return str(caught.value)


def test_the_papers_methods_have_recipes() -> None:
    assert set(METHODS) >= PAPER


@pytest.mark.parametrize("name", METHODS)
def test_a_recipe_makes_the_method_of_its_name(name: str) -> None:
    assert method_name(load_config(name)) == name


@pytest.mark.parametrize(
    ("exchange", "block_filter", "method"),
    [
        ("dense", {"kind": "bmuf"}, "sync-sgd-bmuf"),
        ("gtc", {"kind": "bmuf", "momentum": 0.0}, "gtc-averaging"),
        ("none", {"kind": "bmuf", "momentum": 0.0, "learning_rate": 0.5}, "bmuf"),
        ("none", {"kind": "none"}, "sgd"),
        ("top-k", {"kind": "bmuf"}, "top-k-bmuf"),
    ],
)
def test_method_name_is_made_of_the_two_tiers(
    exchange: Any, block_filter: dict[str, Any], method: str
) -> None:
    tiers = {"exchange": {"kind": exchange}, "block_filter": block_filter}
    assert method_name(msgspec.convert(tiers, Config)) == method


@pytest.mark.parametrize("name", METHODS)
def test_keys_of_another_kind_are_checked_and_have_no_effect(name: str) -> None:
    """So the same settings can be given to every method."""
    recipe = load_config(name)
    for key, value, wrong in (
        ("exchange.tau", "3.0", "-3"),
        ("exchange.density", "0.5", "2"),
        ("block_filter.momentum", "0.5", "1.5"),
        ("block_filter.step", "1.5", "-3"),
    ):
        section, _, field = key.partition(".")
        owned = field in getattr(recipe, section).__struct_fields__
        assert (load_config(name, [f"{key}={value}"]) != recipe) is owned
        assert refusal(name, f"{key}={wrong}").startswith(f"{name}: {key} = {wrong}: ")


@pytest.mark.parametrize(
    ("text", "path", "advice"),
    [
        ("[train]\nepoch = 3", "train.epoch", "did you mean train.epochs?"),
        ("[trainn]\nepochs = 3", "trainn.epochs", "did you mean train.epochs?"),
        ("[blockfilter]\nperiod = 3", "blockfilter.period", "did you mean block_filter.period?"),
        ("[train]\ntau = 3", "train.tau", "did you mean exchange.tau?"),
        ("[exchange]\nkind = 'gtc'\nthreshold = 1", "exchange.threshold", "the valid keys are"),
        (
            "[block_filte]\nmomentum = 0.5",
            "block_filte.momentum",
            "did you mean block_filter.momentum?",
        ),
        ("minibatch = 3", "minibatch", "did you mean train.minibatch?"),
        ("[zzz]", "zzz", "the valid keys are"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_valid_one(
    tmp_path: Path, text: str, path: str, advice: str
) -> None:
    source = write(tmp_path, text)
    assert refusal(source).startswith(f"{source}: unknown key {path}; {advice}")


def test_an_assignment_to_an_unknown_key_is_refused_likewise() -> None:
    assert (
        refusal("sgd", "train.learning_rat=1")
        == "--set: unknown key train.learning_rat; did you mean train.learning_rate?"
    )
    assert "unknown key train.epochs.x" in refusal("sgd", "train.epochs.x=1")


def test_valid_words_are_those_of_the_kind() -> None:
    """Block filters have keys of the same name and of another type."""
    assert "valid words: auto" in refusal("bmuf", "block_filter.momentum=aut")
    text = refusal("slowmo", "block_filter.momentum=auto")
    assert text.endswith("block_filter.momentum = 'auto': expected `float`, got `str`")


@pytest.mark.parametrize(
    ("path", "value", "shown", "expected"),
    [
        ("train.epochs", "0", "0", ">= 1"),
        ("train.epochs", "2.0", "2.0", "`int`"),
        ("train.epochs", "99999999999999999999", "99999999999999999999", "<= 2147483647"),
        ("train.epochs", "three", "'three'", "`int`"),
        ("train.minibatch", "true", "True", "`int`"),
        ("train.learning_rate", "0", "0", ">= 1e-30"),
        ("train.learning_rate", "nan", "nan", ">= 1e-30"),
        ("train.learning_rate", "inf", "inf", "< 1000000000"),
        ("train.learning_rate", "2024-01-01", "datetime.date(2024, 1, 1)", "`float`"),
        ("train.schedule", "cosine", "'cosine'", "constant, exponential, newbob"),
        ("train.decay", "1.5", "1.5", "<= 1"),
        ("train.warmup", "inf", "inf", "< 1000000000"),
        ("train.optimizer", "adam", "'adam'", "valid words: sgd, nesterov, adamw"),
        ("train.momentum", "1", "1", "<= 0.999999"),
        ("train.beta2", "1", "1", "<= 0.999999"),
        ("train.epsilon", "0", "0", ">= 1e-30"),
        ("train.weight_decay", "-1", "-1", ">= 0"),
        ("train.seed", "-1", "-1", ">= 0"),
        ("train.verify", "1", "1", "`bool`"),
        ("topology.group_size", "0", "0", "all"),
        ("topology.group_size", "some", "'some'", "all"),
        ("exchange.kind", "[1]", "[1]", f"valid words: {', '.join(EXCHANGES)}"),
        ("exchange.tau", "1e-46", "1e-46", ">= 1e-30"),
        ("exchange.density", "1", "1", "< 1"),
        ("block_filter.momentum", "1.0", "1.0", "auto"),
        ("block_filter.period", "0", "0", ">= 1"),
        ("model.hidden", "256", "256", "`array`"),
        ("model.activation", "tanh", "'tanh'", "relu, sigmoid"),
        ("model.context", "101", "101", "<= 100"),
        ("corpus.path", "3", "3", "`str`"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_would_be_right(
    path: str, value: str, shown: str, expected: str
) -> None:
    message = refusal("sgd", f"{path}={value}")
    assert message.startswith(f"sgd: {path} = {shown}: ")
    assert expected in message


def test_a_number_that_is_no_choice_is_refused_with_the_choices() -> None:
    message = refusal("sync-sgd", "exchange.bits=12")
    assert message.startswith("sync-sgd: exchange.bits = 12: ")
    assert message.endswith("; valid numbers: 8, 16, 32")


def test_overlap_of_integers_is_refused() -> None:
    message = refusal("sync-sgd", "exchange.bits=16", "exchange.overlap=true")
    assert message.startswith("sync-sgd: exchange.bits = 16: expected 32 with exchange.overlap")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["train.optimizer=nesterov"],
            'train.momentum = 0: expected above 0 with train.optimizer = "nesterov"',
        ),
        (
            ["train.optimizer=adamw", "train.momentum=0.5"],
            'train.momentum = 0.5: expected 0 with train.optimizer = "adamw", '
            "whose momentum is train.beta1",
        ),
        (
            ["train.weight_decay=0.1"],
            'train.weight_decay = 0.1: expected 0 with train.optimizer = "sgd"; '
            'only "adamw" decays weights',
        ),
        (
            ["train.optimizer=nesterov", "train.momentum=0.5", "train.weight_decay=0.1"],
            'train.weight_decay = 0.1: expected 0 with train.optimizer = "nesterov"; '
            'only "adamw" decays weights',
        ),
    ],
)
def test_settings_that_an_optimiser_cannot_use_are_refused(
    settings: list[str], message: str
) -> None:
    assert refusal("sgd", *settings) == f"sgd: {message}"


def test_each_optimiser_takes_its_settings() -> None:
    adamw = ["train.beta1=0.5", "train.beta2=0", "train.epsilon=1", "train.weight_decay=0.1"]
    assert load_config("sgd", ["train.optimizer=adamw", *adamw]).train.beta1 == 0.5
    assert load_config("sgd", ["train.optimizer=nesterov", "train.momentum=0.5"])
    assert load_config("sgd", ["train.optimizer=sgd", "train.momentum=0.5"])


def test_keys_with_defaults_do_not_change_a_fingerprint() -> None:
    """Those of version 0.2."""
    assert fingerprint(load_config("sgd")) == "27d6fe3dcebb7641"
    assert fingerprint(load_config("gtc-bmuf")) == "12c449213363bad4"
    assert fingerprint(load_config("sgd", ["train.optimizer=adamw"])) != "27d6fe3dcebb7641"


def test_a_wrong_element_is_named_with_its_place(tmp_path: Path) -> None:
    source = write(tmp_path, "[model]\nhidden = [64, 0]")
    assert refusal(source).startswith(f"{source}: model.hidden[1] = [64, 0]: ")


def test_something_else_than_a_table_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path, "train = 3")
    assert refusal(source) == f"{source}: train = 3: expected a table, got `int`"
    assert refusal(source, "train.epochs=2").startswith(f"{source}: train = 3: expected a table")


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "gtc-bmuf" in refusal("no-such-recipe")  # the recipes that there are
    assert "not a TOML file" in refusal(write(tmp_path, "train.epochs = = 3"))
    assert "not a TOML file" in refusal(write(tmp_path, "x = " + 5000 * "[" + 5000 * "]"))
    assert "cannot be read" in refusal(str(tmp_path))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "cannot be read" in refusal(str(tmp_path / "binary.toml"))


def test_a_value_that_python_cannot_show_is_refused(tmp_path: Path) -> None:
    digits = "0x" + 5000 * "f"
    source = write(tmp_path, f"[train]\nepochs = {digits}")
    assert refusal(source) == f"{source}: train.epochs = ...: expected `int` <= 2147483647"
    assert refusal("sgd", f"train.epochs={digits}").startswith("sgd: train.epochs = ...: ")
    source = write(tmp_path, "train.epochs" + 4000 * ".x" + "= 1")  # tables in one another
    assert refusal(source).startswith(f"{source}: train.epochs = ")


def test_no_more_is_read_than_a_configuration_has(tmp_path: Path) -> None:
    long = "train.epochs" + 20_000 * ".x" + "= 1"  # tomllib would take seconds
    assert "not a TOML file: more than 16384 characters" in refusal(write(tmp_path, long))
    assert "not a TOML file: more than 16384 characters" in refusal("/dev/zero")
    assert "train.epochs = 'x" in refusal("sgd", "train.epochs=" + 20_000 * "x")


@pytest.mark.parametrize(
    "assignment", ["train.schedule=\udc80", "corpus.path=\udc80", "\udc80.x=1"]
)
def test_an_assignment_of_bytes_that_are_no_text_is_refused(assignment: str) -> None:
    assert refusal("sgd", assignment) == f"--set {assignment!r}: expected UTF-8"


def test_assignments_take_toml_values_and_bare_words() -> None:
    chosen = load_config(
        "gtc-bmuf",
        [
            "train.epochs=7",
            "train.learning_rate = 1e-3",
            "train.verify=true",
            "train.schedule=constant",
            'model.activation="sigmoid"',
            "model.hidden=[32, 16]",
            "block_filter.momentum=auto",
            "corpus.path=some/place with blanks.h5",
        ],
    )
    assert chosen.train.epochs == 7
    assert chosen.train.learning_rate == 1e-3
    assert chosen.train.verify is True
    assert chosen.train.schedule == "constant"
    assert chosen.model == ModelConfig(hidden=(32, 16), activation="sigmoid")
    assert chosen.block_filter.momentum == "auto"
    assert chosen.corpus.path == "some/place with blanks.h5"
    assert chosen.exchange.kind == "gtc"  # of the recipe


def test_a_corpus_may_be_below_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for path, expected in (("~/a.h5", "/home/me/a.h5"), ("~nobody-at-all/a.h5",) * 2, ("a~",) * 2):
        assert load_config("sgd", [f"corpus.path={path}"]).corpus.path == expected


def test_the_last_assignment_of_a_key_counts(tmp_path: Path) -> None:
    source = write(tmp_path, "[train]\nepochs = 1")
    assert load_config(source, ["train.epochs=2", "train.epochs=3"]).train.epochs == 3


@pytest.mark.parametrize("assignment", ["train.epochs", "epochs=3", "", "=", "=3"])
def test_an_assignment_of_another_form_is_refused(assignment: str) -> None:
    assert refusal("sgd", assignment) == f"--set {assignment}: expected section.key=value"


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == Config()


def two_tiers(exchange: Any, block_filter: Any, size: int | str) -> Config:
    return Config(
        topology=TopologyConfig(group_size=size),  # type: ignore[arg-type]
        exchange=EXCHANGES[exchange](),
        block_filter=FILTERS[block_filter](),
    )


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("block_filter", FILTERS)
@pytest.mark.parametrize("workers", [1, 2, 6, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, "all"])
def test_group_size_divides_the_workers_and_leaves_none_unconnected(
    exchange: str, block_filter: str, workers: int, size: int | str
) -> None:
    chosen = two_tiers(exchange, block_filter, size)
    m = workers if size == "all" else size
    assert isinstance(m, int)
    possible = workers % m == 0
    group_connected = m == 1 or exchange != "none"
    world_connected = m == workers or block_filter != "none"
    if possible and group_connected and world_connected:
        assert resolve_group_size(chosen, workers) == m
    else:
        with pytest.raises(UserError):
            resolve_group_size(chosen, workers)


def test_group_size_lists_the_divisors() -> None:
    with pytest.raises(UserError) as caught:
        resolve_group_size(two_tiers("gtc", "bmuf", 8), 12)
    assert "topology.group_size = 8 does not divide the 12 workers" in str(caught.value)
    assert str(caught.value).endswith("possible here: 1, 2, 3, 4, 6, 12")


def test_a_node_is_a_group() -> None:
    chosen = two_tiers("gtc", "bmuf", "node")
    assert resolve_group_size(chosen, 12, [4, 4, 4]) == 4
    assert resolve_group_size(chosen, 12, [12]) == 12
    assert resolve_group_size(chosen, 3, [1, 1, 1]) == 1
    assert resolve_group_size(chosen, 12) == 12
    with pytest.raises(UserError, match="there are 3 and 5; start them evenly"):
        resolve_group_size(chosen, 11, [5, 3, 3])


# Near misses are likelier than noise to reach the code behind the first check.
SECTIONS = st.one_of(st.sampled_from(list(TREE)), st.text(max_size=8))
KEYS = st.one_of(st.sampled_from([path.partition(".")[2] for path in PATHS]), st.text(max_size=8))
SCALARS = st.one_of(
    st.integers(-(10**25), 10**25),
    st.floats(),
    st.booleans(),
    st.text(max_size=8),
    st.sampled_from(["gtc", "auto", "all", "newbob", "relu", "bmuf"]),
    st.dates(datetime.date(1, 1, 1)),
)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3), max_leaves=5
)
TREES = st.dictionaries(SECTIONS, st.dictionaries(KEYS, VALUES, max_size=4) | VALUES, max_size=4)
ASSIGNMENTS = st.one_of(
    st.text(max_size=20),
    st.builds("{}={}".format, st.sampled_from(PATHS), SCALARS | st.text(max_size=8)),
)


def load_or_refuse(source: str, assignments: list[str]) -> None:
    """Check that a configuration comes, or a line; anything else escapes and fails."""
    try:
        load_config(source, assignments)
        lines = 1
    except UserError as error:
        lines = len(str(error).splitlines())
    assert lines == 1


@FILE_PER_TEST
@given(tree=TREES, assignments=st.lists(ASSIGNMENTS, max_size=3))
def test_any_tree_gives_a_config_or_one_line(
    tmp_path: Path, tree: dict[str, Any], assignments: list[str]
) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(tomli_w.dumps(tree).encode("utf-8", "replace"))
    load_or_refuse(str(path), assignments)


@FILE_PER_TEST
@given(st.binary(max_size=60) | st.text(alphabet="[]{}.=\"'\n\\ux0train#,", max_size=40))
def test_any_bytes_give_a_config_or_one_line(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    load_or_refuse(str(path), [])


@FILE_PER_TEST
@given(st.text(max_size=12))
def test_any_source_gives_a_config_or_one_line(tmp_path: Path, name: str) -> None:
    load_or_refuse(f"{tmp_path}/{name}", [])


COUNTS = st.integers(1, 2**31 - 1)
POSITIVES = st.floats(1e-30, 1e9, exclude_max=True)
SHARES = st.floats(0, 0.999999)
CONFIGS = st.builds(
    Config,
    train=st.builds(
        TrainConfig,
        epochs=COUNTS,
        learning_rate=POSITIVES,
        decay=st.floats(0, 1, exclude_min=True),
        momentum=SHARES,
        seed=st.integers(0, 2**62 - 1),
        verify=st.booleans(),
    ),
    topology=st.builds(TopologyConfig, group_size=COUNTS | st.just("all")),
    exchange=st.sampled_from([spec() for spec in EXCHANGES.values()]),
    block_filter=st.just(NoFilterSpec())
    | st.builds(BMUFSpec, period=COUNTS, momentum=SHARES | st.just("auto")),
    model=st.builds(ModelConfig, hidden=st.lists(COUNTS, max_size=3).map(tuple)),
    corpus=st.builds(
        CorpusConfig,
        path=st.text(st.characters(exclude_categories=["Cs"]), max_size=10).filter(
            lambda path: not path.startswith("~")  # it would be a home
        ),
    ),
)


@FILE_PER_TEST
@given(CONFIGS)
def test_a_config_comes_back_from_the_file_that_it_is_written_to(
    tmp_path: Path, chosen: Config
) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(tomli_w.dumps(to_tables(chosen)).encode())
    assert load_config(str(path)) == chosen


def test_to_dict_writes_every_default_out() -> None:
    assert set(TREE) == {"train", "topology", "exchange", "block_filter", "model", "corpus"}
    assert TREE["exchange"] == {"kind": "none"}
    tables = to_tables(load_config("gtc-bmuf"))
    assert tables["exchange"] == {"kind": "gtc", "tau": 4.0, "density": "any"}
    assert tables["block_filter"]["residual"] == "keep"
    assert math.isfinite(TREE["train"]["learning_rate"])


@pytest.mark.parametrize(
    "every", ["often", "0 steps", "5", "5 steps ", "-1 minutes", "5 hours", ""]
)
def test_how_often_is_a_number_of_steps_or_minutes(every: str) -> None:
    with pytest.raises(UserError, match=r"train.checkpoint_every = .*: expected 'never', or"):
        load_config("gtc", [f"train.checkpoint_every={every!r}"])
    for right in ("never", "1 steps", "30 minutes"):
        loaded = load_config("gtc", [f"train.checkpoint_every={right!r}"])
        assert loaded.train.checkpoint_every == right
