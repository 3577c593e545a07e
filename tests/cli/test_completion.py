"""`gtcbmuf --print-completion`: what a shell offers after a word has begun."""

from pathlib import Path

import pytest
from support.launch import gtcbmuf, run

#: Offers to complete the last of its words, one a line.
COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_shtab_gtcbmuf 2>/dev/null  # compopt complains outside a real completion
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "gtcbmuf.bash"
    done = gtcbmuf("--print-completion", "bash")
    assert done.returncode == 0, done.stderr
    path.write_text(done.stdout)
    return path


def complete(script: Path, folder: Path, *words: str) -> list[str]:
    done = run("bash", "-c", COMPLETE, "bash", script, "gtcbmuf", *words, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        ("tr", ["train"]),
        ("train --resume-w", ["--resume-weights"]),
        ("train sg", ["sgd"]),
        ("train my", ["my.toml"]),
        ("train sgd --scratch d", ["disk"]),
        ("score m", ["model.h5", "my.toml"]),
        ("corpus import-k", ["import-kaldi"]),
        ("corpus synth --se", ["--seed"]),
        ("reproduce err", ["error-table"]),
        ("--print-completion z", ["zsh"]),
    ],
)
def test_bash_completes(words: str, offers: list[str], script: Path, tmp_path: Path) -> None:
    for name in ("model.h5", "my.toml"):
        (tmp_path / name).touch()
    (tmp_path / "disk").mkdir()
    assert sorted(complete(script, tmp_path, *words.split())) == offers


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_a_script(shell: str) -> None:
    done = gtcbmuf("--print-completion", shell)
    assert done.returncode == 0, done.stderr
    for word in ("resume-weights", "gtc-bmuf", "import-kaldi"):
        assert word in done.stdout


def test_an_unknown_shell_is_a_user_error() -> None:
    done = gtcbmuf("--print-completion", "ksh")
    assert done.returncode == 2
    assert "'bash', 'zsh', 'tcsh'" in done.stderr
