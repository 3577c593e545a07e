"""Foreign bytes never get further than a typed error, to a shell, or into pickle."""

import ast
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support import hostile

ROOT = Path(__file__).parents[1]


def test_a_coverage_guided_run_of_a_few_inputs_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/fuzz", "messages", "wire", "config", "--runs", "200"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        *("messages", "wire", "config")
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", [part for part in hostile.TARGETS if part != "wire"])
def test_changed_bytes_give_a_value_or_one_line(tmp_path: Path, part: str) -> None:
    dice = random.Random(0)

    def generic(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            begin = dice.randrange(len(changed) + 1)
            end = begin + dice.choice([0, 0, 1, 1, 8])
            changed[begin:end] = dice.choice(
                [b"", b"\xff", dice.randbytes(1), changed[:begin][-9:]]
            )
        return bytes(changed)

    target = hostile.TARGETS[part](tmp_path)
    for seed in target.seeds:
        target.check(seed)
    for _ in range(100):
        target.check(target.change(dice.choice(target.seeds), generic, dice))


def test_a_reader_that_raises_something_else_is_found(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        hostile.value_unless_refused(lambda: 1 // 0)


def calls_and_imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            names.add(ast.unparse(node.func))
            names |= {f"{k.arg}={ast.unparse(k.value)}" for k in node.keywords if k.arg}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_no_text_reaches_a_shell_and_no_file_is_unpickled() -> None:
    scripts = [
        path
        for path in (ROOT / "scripts").iterdir()
        if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env python")
    ]
    assert scripts
    python = [*(ROOT / "gtcbmuf").rglob("*.py"), *scripts]
    forbidden = {
        *("eval", "exec", "compile", "os.system", "os.popen", "shell=True", "allow_pickle=True"),
        *("subprocess.getoutput", "subprocess.getstatusoutput", "numpy.load", "np.load"),
        *("marshal", "shelve", "dill", "yaml", "pickle"),
    }
    users = {
        path.relative_to(ROOT).as_posix(): found
        for path in python
        if (found := calls_and_imports(path) & forbidden)
    }
    assert users == {
        # Synthesis talks to its own child process, through pipes that nobody else has.
        "gtcbmuf/data/synth/speaker_process.py": {"pickle"},
        # Numba's own format, in a folder whose code this user runs anyway.
        "gtcbmuf/base/kernel_cache.py": {"pickle"},
    }
