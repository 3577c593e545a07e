"""The generated reference pages: current, complete, and with the bounds that are enforced."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from support.launch import ROOT, run
from support.scripts import load_script

from gtcbmuf.base.errors import UserError
from gtcbmuf.cli.commands import parser
from gtcbmuf.config.loading import load_config, recipe_names, valid_keys
from gtcbmuf.config.schema import Config, to_tables
from gtcbmuf.methods import EXCHANGES, FILTERS

SCRIPT = ROOT / "scripts/write-reference"
PAGE = (ROOT / "docs/reference/configuration.md").read_text()
#: Text of each key, with a line for each paragraph.
ENTRIES = {
    key: re.sub(r"(?<=[^\n|])\n(?=[^\n|])", " ", text)
    for key, text in re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
KINDS = [*(("exchange", kind) for kind in EXCHANGES), *(("block_filter", kind) for kind in FILTERS)]


def test_the_pages_are_current_in_a_terminal_of_any_width() -> None:
    done = run(SCRIPT, "--check", env={"COLUMNS": "20"})
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_key_without_advice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("write-reference")
    monkeypatch.setattr(script, "key_comments", lambda _: defaultdict(lambda: ["Meaning."]))
    with pytest.raises(SystemExit, match=r"epochs: expected a comment of two"):
        script.configuration()


def test_every_key_has_an_entry_with_advice() -> None:
    assert set(ENTRIES) == set(valid_keys())
    assert [key for key, text in ENTRIES.items() if "**When to change it.** " not in text] == []


@pytest.mark.parametrize(
    ("recipe", "assignments"),
    [
        *((name, []) for name in recipe_names()),
        *(("sgd", [f"{section}.kind={kind}"]) for section, kind in KINDS),
    ],
)
def test_every_key_of_a_resolved_configuration_has_an_entry(
    recipe: str, assignments: list[str]
) -> None:
    for section, keys in to_tables(load_config(recipe, assignments)).items():
        for key in keys:
            entry = ENTRIES[f"{section}.{key}"]
            kind = keys.get("kind")
            assert kind is None or key == "kind" or re.search(rf"^Kinds? .*`{kind}`", entry, re.M)


def numeric_lines() -> Iterator[tuple[str, str, str]]:
    """The kind (may be empty), the key and the bounds of each line about a number."""
    line = r"^(?:Kinds? (.*): |(?:List, each element: )?)([Ii]nteger|[Nn]umber), ([^;`]+?)[,;] "
    for path, text in ENTRIES.items():
        for kinds, word, bounds in re.findall(line, text, re.MULTILINE):
            for kind in re.findall(r"`([\w-]+)`", kinds) or [""]:
                yield kind, path, f"{word.lower()}, {bounds}"


def bound(text: str) -> float:
    """2^31 - 1, 1,048,576 or 1e-9."""
    power = re.fullmatch(r"2\^(\d+) - 1", text)
    if power:
        return 2 ** int(power[1]) - 1
    plain = text.replace(",", "")
    return int(plain) if plain.isdigit() else float(plain)


def values(line: str) -> tuple[list[float], list[float]]:
    """The outermost values within the bounds of a line, and their neighbours outside."""
    if match := re.fullmatch(r"integer, (\S+) to (.+)", line):
        least, most = bound(match[1]), bound(match[2])
        return [least, most], [least - 1, most + 1]
    match = re.fullmatch(r"number, (at least|above) (\S+) and (at most|below) (\S+)", line)
    assert match, line
    least, most = bound(match[2]), bound(match[4])
    below, above = math.nextafter(least, -math.inf), math.nextafter(most, math.inf)
    lower = (least, below) if match[1] == "at least" else (math.nextafter(least, math.inf), least)
    upper = (most, above) if match[3] == "at most" else (math.nextafter(most, -math.inf), most)
    return [lower[0], upper[0]], [lower[1], upper[1]]


@pytest.mark.parametrize(("kind", "path", "line"), list(numeric_lines()))
def test_the_bounds_on_the_page_are_enforced(kind: str, path: str, line: str) -> None:
    section, _, key = path.partition(".")
    kinds = [f"{section}.kind={kind}"] if kind else []
    if path == "block_filter.delay":
        kinds += [f"block_filter.period={2**31 - 1}", "block_filter.nesterov=true"]
    if path == "train.weight_decay":
        kinds.append("train.optimizer=adamw")
    shape = "[{!r}]" if path == "model.hidden" else "{!r}"
    inside, outside = values(line)
    for value in inside:
        config = load_config("sgd", [*kinds, f"{path}={shape.format(value)}"])
        assert getattr(getattr(config, section), key) in (value, (value,))
    for value in outside:
        with pytest.raises(UserError, match=re.escape(path)):
            load_config("sgd", [*kinds, f"{path}={shape.format(value)}"])


def test_every_number_was_tried() -> None:
    tried = {path for _, path, _ in numeric_lines()}
    numbers = {
        path for path, kind in valid_keys().items() if re.search(r"\b(int|float)\b", str(kind))
    }
    assert tried == numbers


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("block_filter", FILTERS)
def test_the_defaults_on_the_page_are_the_defaults(exchange: str, block_filter: str) -> None:
    config = Config(exchange=EXCHANGES[exchange](), block_filter=FILTERS[block_filter]())
    for section, keys in to_tables(config).items():
        for key in keys.keys() - {"kind"}:
            start = rf"Kinds? .*`{keys['kind']}`.*: " if "kind" in keys else ""
            line = rf"^{start}.*; default `(.*)`$"
            defaults = re.findall(line, ENTRIES[f"{section}.{key}"], re.MULTILINE)
            assert defaults == [json.dumps(keys[key])]


def test_every_command_and_option_is_on_its_page() -> None:
    page = (ROOT / "docs/reference/commands.md").read_text()
    commands: list[tuple[str, Any]] = [("gtcbmuf", parser())]
    for name, command in commands:
        assert f"\n## {name}\n" in page
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        for action in command._actions:
            if isinstance(action.choices, dict):
                commands += [(f"{name} {word}", one) for word, one in action.choices.items()]
            for option in action.option_strings:
                assert option in section or option in ("-h", "--help")
