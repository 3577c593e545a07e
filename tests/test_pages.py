"""README and docs/ do as they say: commands run, and links lead to files.

`scripts/docs` checks that the tables are of today.
"""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.launch import ROOT, gtcbmuf, mpirun, program, run

import gtcbmuf as face
from gtcbmuf.studies.preset_files import read_preset

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").glob("*.md"))]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def words_outside_tables_and_code(text: str) -> int:
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return len(
        [word for line in text.splitlines() if not line.startswith("|") for word in line.split()]
    )


def test_the_readme_is_short() -> None:
    assert words_outside_tables_and_code(README.read_text()) <= 900


def test_the_readmes_example_runs(tmp_path: Path) -> None:
    [example] = blocks("README.md", "python")
    (tmp_path / "example.py").write_text(example)
    done = mpirun(4, sys.executable, tmp_path / "example.py")
    assert done.returncode == 0, done.stderr
    [error] = re.findall(r"largest error ([\d.]+)", done.stdout)  # Open MPI adds escape codes
    assert float(error) < 0.2


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_commands_run(page: str, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    write_corpus(tmp_path / "corpus/quickstart.h5")
    for line in "".join(blocks(page, "bash")).splitlines():
        first, *rest = shlex.split(line, comments=True)
        words = [program(first), *rest]
        if first == "mpirun":
            words = [program(word) if word == "gtcbmuf" else word for word in words]
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert list((tmp_path / "runs").glob("*.html"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([\w/.-]+)[)#]", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_pictures_of_the_algorithm_are_of_their_script() -> None:
    done = run(ROOT / "scripts/draw-algorithm", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_results_table_is_on_a_page() -> None:
    script = (ROOT / "scripts/write-tables").read_text()
    names = re.findall(r'^    f?"([\w\' {}-]+)": ', script.partition("TABLES")[2], re.MULTILINE)
    shown = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in names if f"<!-- table {name.split('{')[0]}" not in shown] == []


def test_the_api_page_has_every_public_name() -> None:
    names = re.findall(r"^::: gtcbmuf\.(\w+)$", (ROOT / "docs/reference/api.md").read_text(), re.M)
    assert sorted(names) == face.__all__


def test_help_needs_no_mpi() -> None:
    done = gtcbmuf("train", "--help", env={"MPI4PY_LIBMPI": "/nowhere"})
    assert done.returncode == 0
    assert "--set" in done.stdout


def test_the_preset_on_the_page_of_studies_can_be_run(tmp_path: Path) -> None:
    [text] = blocks("docs/how-to/study.md", "toml")
    write_corpus(tmp_path / "corpus.h5")
    assert '"corpus/kaldi.h5"' in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("corpus/kaldi.h5", str(tmp_path / "corpus.h5")))
    cells = [(cell.name, cell.seeds, len(cell.tried)) for cell in read_preset(str(path)).cells]
    assert cells == [("sgd 1", 3, 2), ("gtc-bmuf 32", 3, 2)]


def test_claims_are_complete() -> None:
    claims = tomllib.loads((ROOT / "results/claims.toml").read_text())["claims"]
    for claim in claims:
        assert {"claim", "where", "level", "command", "seconds", "reason"} <= set(claim)
        assert ("expected" in claim) == ("pattern" in claim)
        for page in re.findall(r"[\w/-]+\.md", claim["where"]):
            assert (ROOT / page).exists()
    quick = [claim["seconds"] for claim in claims if claim["level"] in ("minute", "quick")]
    assert sum(quick) <= 900
    assert all(claim["seconds"] < 60 for claim in claims if claim["level"] == "minute")


def test_the_plan_that_is_shown_is_the_plan_that_is_computed() -> None:
    script = (ROOT / "scripts/write-tables").read_text()
    [plan] = re.findall(r'^PLAN = \(\n    "(.*?)"\n    "(.*?)"\n\)', script, re.MULTILINE)
    assert f"gtcbmuf {''.join(plan)}\n" in (ROOT / "docs/explanation/cost-model.md").read_text()
