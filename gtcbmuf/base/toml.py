"""Typed TOML: bounded numbers, files that ship with a package, errors that name the key."""

from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1, lt=2**31)]
#: The lower bound keeps it above 0 in float32.
Positive = Annotated[float, Meta(ge=1e-30, lt=1e9)]
#: Float32 would round a number closer to 1 to 1.
Share = Annotated[float, Meta(ge=0, le=0.999999)]
#: Maximum number of characters of a value in a message.
_LONGEST = 200


def shipped_names(package: str, folder: str) -> list[str]:
    """List the TOML files that ship in a folder of a package, by name without suffix.

    Examples:
        >>> "gtc-bmuf" in shipped_names("gtcbmuf.config", "recipes")
        True
    """
    files = resources.files(package).joinpath(folder).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def read_shipped(package: str, folder: str, name: str) -> str:
    """Read a TOML file that ships with a package."""
    return resources.files(package).joinpath(folder, f"{name}.toml").read_text(encoding="utf-8")


def explain(error: msgspec.ValidationError, tree: Mapping[str, Any]) -> tuple[str, str]:
    """Describe an error in a tree of tables.

    Args:
        error: error of `msgspec.convert`.
        tree: the tables.

    Returns:
        The key, and a text with the key, its value and the fault. The key may be empty.
    """
    words = str(error).replace("`object`", "a table").replace("| object`", "| table`")
    what, _, path = words.partition(" - at `$.")
    path = path.rstrip("`")
    if not path:
        return "", what
    value: Any = tree
    for key in path.partition("[")[0].split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return path, f"{path} = {_shown(value)}: {what[0].lower()}{what[1:]}"


def _shown(value: Any) -> str:
    try:
        shown = repr(value)
        return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    except (ValueError, RecursionError):  # thousands of digits or nested tables
        return "..."
