"""Shell completion: `gtcbmuf --print-completion SHELL`."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")

#: What completes CONFIG: recipes and files. tcsh has no functions, and completes recipes alone.
_BASH = """\
_gtcbmuf_recipe_or_file() {{
  compgen -W "{recipes}" -- "$1"
  compgen -f -- "$1"
}}
"""
_ZSH = """\
_gtcbmuf_recipe_or_file() {{
  _alternative "recipes:recipe:({recipes})" "files:file:_files"
}}
"""


class PrintCompletion(argparse.Action):
    """The option that prints the completion script of a shell, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any) -> None:
        _, shell, *_ = arguments
        print(completion_script(parser, shell))
        parser.exit()


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Make the script that completes a command line.

    Args:
        parser: parser of the command line.
        shell: one of `SHELLS`.
    """
    import shtab

    from gtcbmuf.config.loading import recipe_names

    recipes = " ".join(recipe_names())
    config = {
        **dict.fromkeys(("bash", "zsh"), "_gtcbmuf_recipe_or_file"),
        "tcsh": f"({recipes})",
        "preamble": {"bash": _BASH.format(recipes=recipes), "zsh": _ZSH.format(recipes=recipes)},
    }
    for action in _actions(parser):
        if action.dest == "config":
            action.complete = config  # type: ignore[attr-defined]
        elif action.type is Path:
            kind = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
            action.complete = kind  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of all its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from _actions(command)
