"""The command line: what it loads before it knows the command, and the help of every command."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.launch import ROOT, run

from gtcbmuf.cli.commands import GROUPS, parser
from gtcbmuf.cli.main import main

CODE = """
import sys
from gtcbmuf.cli.commands import parser
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


@pytest.mark.parametrize(
    "start", [["-m", "gtcbmuf"], ["-c", "from gtcbmuf.cli.main import main; main()"]]
)
def test_modules_of_the_working_folder_are_not_imported(start: list[str], tmp_path: Path) -> None:
    for name in ("random", "queue", "numbers", "tempfile"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the standard library')")
    python_path = f":{ROOT}"  # the empty entry is the working folder
    done = run(
        *(sys.executable, *start, "train", "sgd", "--out", "/dev/null/run"),
        env=os.environ | {"PYTHONPATH": python_path},
        cwd=tmp_path,
    )
    assert "not the standard library" not in done.stderr
    assert done.returncode == 2, done.stderr


def test_a_path_may_be_below_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell expands the tilde of --out=~/run."""
    monkeypatch.setenv("HOME", "/home/me")
    arguments = parser().parse_args(["train", "sgd", "--out=~/run", "--scratch", "~nobody-at-all"])
    assert (str(arguments.out), str(arguments.scratch)) == ("/home/me/run", "~nobody-at-all")


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


#: A command line of each command that is one process, and of parts of `bench` that are.
ONE_PROCESS = {
    "init": "init study",
    "submit": "submit gtc",
    "corpus": "corpus info c.h5",
    "compare": "compare a.json --baseline b.json",
    "forward": "forward m.h5 c.h5 --ark p.ark",
    "report": "report runs/a",
    "reproduce": "reproduce tuning",
    "plan": "plan --workers 8 --parameters 1e6",
    "bench kernels": "bench kernels",
    "bench wire": "bench wire",
    "bench step": "bench step",
}


@pytest.mark.parametrize(("name", "line"), ONE_PROCESS.items())
@pytest.mark.parametrize("rank", [0, 1])
def test_a_command_that_is_one_process_is_refused_on_ranks(
    name: str,
    line: str,
    rank: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(os, "environ", {"PMI_SIZE": "2", "PMI_RANK": str(rank)})
    with pytest.raises(SystemExit) as end:
        main(line.split())
    assert end.value.code == 2
    launcher = "a PMI launcher (MPICH's mpirun, srun)"
    message = f"gtcbmuf: {name}: {launcher} started 2 processes; expected 1, because "
    out, error = capsys.readouterr()
    assert out == ""
    assert (error.startswith(message) and error.count("\n") == 1) if rank == 0 else error == ""


def test_every_other_command_starts_mpi() -> None:
    single = {name.partition(" ")[0] for name in ONE_PROCESS} - {"bench"}
    for modules in GROUPS.values():
        for module in modules:
            name = module.__name__.rpartition(".")[2]
            assert hasattr(module, "job") is (name not in single), name
