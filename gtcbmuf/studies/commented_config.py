"""A configuration as commented TOML, generated from the declarations of its keys."""

import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec
from msgspec import Struct

from gtcbmuf.config.comments import key_comments
from gtcbmuf.config.schema import KINDS, Config

_WIDTH = 100


def format_config(config: Config) -> str:
    """Format a configuration as TOML that `gtcbmuf.config.loading.load_config` reads.

    The comment of a key has its meaning, its valid words, and its default if the value differs.

    Examples:
        >>> print(format_config(Config()).partition("[model]")[2].splitlines()[2])
        hidden = [256, 256]
    """
    comments = key_comments(Config)
    sections = []
    for field in msgspec.structs.fields(Config):
        section = getattr(config, field.name)
        title = comments[field.name][0] or (inspect.getdoc(section) or "").partition("\n")[0]
        lines = [*_comment(title), f"[{field.name}]"]
        if field.name in KINDS:
            lines += _key("kind", section.kind, field.default.kind, "", KINDS[field.name])
        sections.append("\n".join([*lines, *_keys(section)]))
    return "\n\n".join(sections) + "\n"


def _keys(section: Struct) -> Iterator[str]:
    """The keys of a section with their comments."""
    comments = key_comments(type(section))
    for field in msgspec.structs.fields(section):
        args = get_args(field.type)
        words = args if all(isinstance(arg, str) for arg in args) else ()
        yield from _key(
            field.name, getattr(section, field.name), field.default, comments[field.name][0], words
        )


def _key(name: str, value: Any, default: Any, meaning: str, words: Iterable[str]) -> list[str]:
    """A key with its comment."""
    choices = ", ".join(map(_toml, words))
    parts = (
        meaning,
        f"One of {choices}." if choices else "",
        f"Default: {_toml(default)}." if value != default else "",
    )
    return [*_comment(" ".join(filter(None, parts))), f"{name} = {_toml(value)}"]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    """Format a value as TOML, which agrees with JSON for numbers, words and lists."""
    return json.dumps(value, ensure_ascii=False)
