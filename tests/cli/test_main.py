"""The command line: what it loads before it knows the command, and the help of every command."""

import argparse
import re
import shlex
import sys
from collections.abc import Iterator

import pytest
from support.launch import run

from gtcbmuf.cli.main import GROUPS, parser

CODE = """
import sys
from gtcbmuf.cli.main import main, parser
parser()
print(*(name for name in ("numpy", "numba", "mpi4py", "msgspec", "shtab") if name in sys.modules))
"""


def test_numpy_is_loaded_after_its_number_of_threads_is_set() -> None:
    """With a thread for each core and rank, a step is a hundred times slower."""
    done = run(sys.executable, "-c", CODE)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def commands(of: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands, also of those below a command."""
    for action in of._actions:
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield command
                yield from commands(command)


ALL = {command.prog: command for command in commands(parser())}


def examples(of: argparse.ArgumentParser) -> list[str]:
    """The command lines below `Examples:`, each without its launcher."""
    _, _, rest = (of.epilog or "").partition("Examples:\n")
    lines = rest.partition("\n\n")[0].replace("\\\n", " ").splitlines()
    return [line[line.index("gtcbmuf ") :] for line in lines]


def test_the_help_lists_every_command_in_its_group() -> None:
    text = parser().format_help()
    for group, modules in GROUPS.items():
        [section] = re.findall(rf"^  {group}:\n((?:    .*\n)+)", text, re.MULTILINE)
        names = re.findall(r"^    (\S+)", section, re.MULTILINE)
        assert names == [module.__name__.rpartition(".")[2] for module in modules]
    assert len(examples(parser())) == len(GROUPS)


@pytest.mark.parametrize("name", ALL)
def test_a_command_describes_itself_and_its_options(name: str) -> None:
    command = ALL[name]
    assert re.fullmatch(r"[A-Z][^.]*\.", command.description or "")
    assert examples(command)
    for action in command._actions:
        assert action.help or isinstance(action.choices, dict), action.dest


@pytest.mark.parametrize("name", ["gtcbmuf", *ALL])
def test_the_examples_are_valid(name: str) -> None:
    main_parser = parser()
    for line in examples(ALL.get(name, main_parser)):
        program, *words = shlex.split(line)
        assert program == "gtcbmuf"
        assert line.startswith(name)  # an example of this command
        main_parser.parse_args(words)
