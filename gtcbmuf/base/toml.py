"""Typed TOML: bounded numbers, the files that ship with a package, and errors that name the key."""

from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1, lt=2**31)]
#: Float32 must hold it as more than 0.
Positive = Annotated[float, Meta(ge=1e-30, lt=1e9)]
Share = Annotated[float, Meta(ge=0, lt=1)]


def shipped_names(package: str, folder: str) -> list[str]:
    """Names of the TOML files that ship in a folder of a package, without their suffix.

    Example:
        >>> "gtc-bmuf" in shipped_names("gtcbmuf.config", "recipes")
        True
    """
    files = resources.files(package).joinpath(folder).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def read_shipped(package: str, folder: str, name: str) -> str:
    """The text of a TOML file that ships with a package."""
    return resources.files(package).joinpath(folder, f"{name}.toml").read_text(encoding="utf-8")


def explain(error: msgspec.ValidationError, tree: Mapping[str, Any]) -> tuple[str, str]:
    """What is wrong in a tree of tables: the key; and a text with the key, its value and why."""
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
        return repr(value)
    except (ValueError, RecursionError):  # 5,000 digits, 5,000 tables in one another
        return "..."
