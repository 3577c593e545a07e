"""Damaged run directories: a report is written, or one line names the file and the key."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.runs import FILES, write_run

from gtcbmuf.base.errors import UserError
from gtcbmuf.studies.report import format_report, plot_report, read_runs
from gtcbmuf.studies.report_page import write_page

NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(2**63), 1e308, 5e-324, 0, 1])
TEXTS = st.text() | st.sampled_from(["\ud800", "\udcff", "$x^$", "\0", "a\nb", "_"])
#: Any JSON, and the numbers that Python's JSON adds.
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=5,
)


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a tree."""
    below = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(place for key, child in below for place in places(child, (*path, key)))]


@st.composite
def damaged_values(draw: st.DrawFn, original: Any) -> Any:
    """Draw a copy of a value in which some part is replaced or deleted."""
    *above, last = ("root", *draw(st.sampled_from(places(original))))
    tree = {"root": json.loads(json.dumps(original))}
    parent: Any = tree
    for key in above:
        parent = parent[key]
    if draw(st.booleans()) or not above:
        parent[last] = draw(VALUES)
    else:
        del parent[last]
    return tree["root"]


@st.composite
def damaged_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw the name and the content of a damaged file of a run."""
    name = draw(st.sampled_from(sorted(FILES)))
    if draw(st.integers(0, 9)) == 0:
        return name, draw(st.binary())
    original = FILES[name]
    if name != "metrics.jsonl":
        return name, encode(draw(damaged_values(original)))
    line = draw(st.integers(0, len(original) - 1))
    lines = [*original[:line], draw(damaged_values(original[line])), *original[line + 1 :]]
    return name, b"\n".join(map(encode, lines))


def refusal(act: Callable[[], object]) -> str:
    """Return the line of a user error; empty if there is none. Any other error is raised."""
    try:
        act()
    except UserError as error:
        line = str(error)
        assert len(line.splitlines()) == 1
        assert len(line) < 1000
        return line
    return ""


def report(run: Path) -> str:
    """Make every report on a run; return the line that refuses the run, or an empty one."""

    def act() -> None:
        runs = read_runs([run])
        format_report(runs).encode(errors="backslashreplace")
        plot_report(runs, run / "plot.png")
        write_page(runs, run / "page.html")

    return refusal(act)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(damaged_files())
def test_any_content_gives_a_report_or_one_line(tmp_path: Path, file: tuple[str, bytes]) -> None:
    name, content = file
    write_run(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    line = report(tmp_path / "run")
    assert not line or f"run/{name}: " in line


def test_the_undamaged_run_is_accepted(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    assert not report(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "keys", "value", "message"),
    [
        ("summary.json", ("workers",), "8", "workers = '8': expected `int`, got `str`"),
        ("summary.json", ("workers",), 10**30, "workers = "),
        ("summary.json", ("fer_test",), [40.0], "fer_test = [40.0]: expected `float | null`"),
        ("summary.json", ("density",), math.nan, "density = nan: expected `float` >= 0"),
        ("summary.json", ("density",), math.inf, "density = inf: expected `float` <= 1e+100"),
        ("summary.json", (), [1], "expected a JSON object"),
        ("summary.json", (), None, "expected a JSON object"),
        ("environment.json", ("hosts",), ["node1"], "hosts = ['node1']: expected a table"),
        ("environment.json", ("hosts", "node1", "cores"), "4", "hosts[...].cores = "),
        ("environment.json", ("host_of_rank",), {}, "host_of_rank = {}: expected `array`"),
        ("environment.json", ("command", 0), None, "command[0] = "),
        ("metrics.jsonl", (1, "epoch"), 2.5, "line 2: epoch = 2.5: expected `int`"),
        ("metrics.jsonl", (0, "tau", 1), "5", "line 1: tau[1] = "),
        ("metrics.jsonl", (1,), "epoch", "line 2: expected a JSON object"),
    ],
)
def test_the_line_names_file_and_key(
    tmp_path: Path, name: str, keys: tuple[Any, ...], value: Any, message: str
) -> None:
    tree: Any = {"root": json.loads(json.dumps(FILES[name]))}
    parent, last = tree, "root"
    for key in keys:
        parent, last = parent[last], key
    parent[last] = value
    write_run(tmp_path / "run", **{name: tree["root"]})
    assert report(tmp_path / "run").startswith(f"{tmp_path}/run/{name}: damaged: {message}")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    for name, key in (
        ("summary.json", "fer_test"),
        ("environment.json", "corpus"),
        ("environment.json", "hosts"),
    ):
        content = {k: value for k, value in FILES[name].items() if k != key}
        write_run(tmp_path / key, **{name: content})
        assert report(tmp_path / key) == f"{tmp_path / key}/{name}: damaged: no key {key}"
    write_run(tmp_path / "epoch", **{"metrics.jsonl": [{"fer_valid": 50.0}]})
    line = report(tmp_path / "epoch")
    assert line == f"{tmp_path}/epoch/metrics.jsonl: damaged: no key epoch"


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_cannot_be_read_is_told_from_a_damaged_one(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / name).mkdir()
    expected = f"{tmp_path}/run/{name}: cannot be read: Is a directory"
    assert report(tmp_path / "run") == expected


def test_a_path_that_is_too_long_is_refused_in_one_line(tmp_path: Path) -> None:
    run = tmp_path / ("x" * 300)
    assert report(run) == f"{run}: cannot be read: File name too long"


def test_the_number_of_cores_may_be_unknown(tmp_path: Path) -> None:
    environment = FILES["environment.json"] | {"hosts": {"node1": {"cores": None}}}
    write_run(tmp_path / "run", **{"environment.json": environment})
    assert not report(tmp_path / "run")
