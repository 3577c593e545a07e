"""What the README tells a newcomer to type works as it stands."""

import csv
import re
import shlex
import sys
from pathlib import Path

import pytest
from support.corpora import write_corpus
from support.launch import ROOT, gtcbmuf, mpirun, program, run

from gtcbmuf.studies.error_table import error_rows, format_error_table
from gtcbmuf.studies.preset_files import read_preset
from gtcbmuf.studies.results import read_results

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_example_runs(tmp_path: Path) -> None:
    [example] = blocks("python")
    script = tmp_path / "example.py"
    script.write_text(example)
    done = mpirun(4, sys.executable, script)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 0.2


def test_the_example_with_pytorch_learns(tmp_path: Path) -> None:
    page = (ROOT / "docs/own-model.md").read_text()
    [example, _] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    script = tmp_path / "lstm.py"
    script.write_text(example)
    done = mpirun(4, sys.executable, script)
    assert done.returncode == 0, done.stderr
    assert 5 < float(done.stdout.split()[-2]) < 15  # chance: 87.5


def test_the_commands_run(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus/quickstart.h5")
    [commands] = blocks("bash")
    for line in commands.splitlines():
        first, *rest = shlex.split(line)
        words = [program(first), *rest]
        if first == "mpirun":
            words = [program(word) if word == "gtcbmuf" else word for word in words]
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "runs/fer.png").exists()


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    targets = re.findall(r"\]\(([\w/.-]+)[)#]", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_key_of_the_configuration_is_explained() -> None:
    from gtcbmuf.config.loading import load_config
    from gtcbmuf.config.schema import to_tables

    for section, keys in to_tables(load_config("gtc-bmuf")).items():
        for key in keys:
            assert f"`{section}.{key}`" in README or f"`.{key}`" in README or key == "path"


def test_help_needs_no_mpi() -> None:
    done = gtcbmuf("train", "--help", env={"MPI4PY_LIBMPI": "/nowhere"})
    assert done.returncode == 0
    assert "--set" in done.stdout


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_the_error_table_is_that_of_the_results(preset: str) -> None:
    begin, end = (f"<!-- {which}error table {preset} -->" for which in ("", "end of "))
    [shown] = re.findall(f"{begin}\n(.*?)\n{end}", README, re.DOTALL)
    found = read_results(ROOT / f"results/{preset}/error_table.csv")
    assert shown == format_error_table(error_rows(found))


def test_the_full_preset_takes_as_long_as_it_says() -> None:
    table, tuning = (
        read_results(ROOT / f"results/full/{name}.csv") for name in ("error_table", "tuning")
    )
    minutes = round(sum(row.seconds for row in table if row.seed == 1) / 60)
    assert f"one seed of all cells takes {minutes // 60} h {minutes % 60} min on 2 cores" in README
    hours = sum(row.seconds for row in tuning) / 3600
    assert f"in {hours:.1f} hours ([results/full/tuning.md]" in README


def test_the_preset_on_the_page_of_studies_can_be_run(tmp_path: Path) -> None:
    [text] = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/studies.md").read_text(), re.DOTALL)
    write_corpus(tmp_path / "corpus.h5")
    assert '"corpus/kaldi.h5"' in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("corpus/kaldi.h5", str(tmp_path / "corpus.h5")))
    cells = [(cell.name, cell.seeds, len(cell.tried)) for cell in read_preset(str(path)).cells]
    assert cells == [("sgd 1", 3, 2), ("gtc-bmuf 32", 3, 2)]


def test_the_page_of_choices_shows_the_results() -> None:
    page = (ROOT / "docs/choices.md").read_text()
    [shown] = re.findall(
        r"<!-- choices quick -->\n(.*?)\n<!-- end of choices quick -->", page, re.DOTALL
    )
    assert shown == (ROOT / "results/quick/choices.md").read_text().strip()
    [lags] = re.findall(r"<!-- two lags -->\n(.*?)\n<!-- end of two lags -->", page, re.DOTALL)
    done = run(sys.executable, ROOT / "scripts/two-lags")
    assert done.stdout.strip() == lags


def test_the_page_of_plans_shows_the_speed_up_table() -> None:
    page = (ROOT / "docs/plan.md").read_text()
    [shown] = re.findall(
        r"<!-- speed-up table -->\n(.*?)\n<!-- end of speed-up table -->", page, re.DOTALL
    )
    assert shown == (ROOT / "results/quick/speedup_table.md").read_text().strip()


def test_the_pages_show_the_trade_off() -> None:
    page = (ROOT / "docs/plan.md").read_text()
    [shown] = re.findall(
        r"<!-- trade-off full -->\n(.*?)\n<!-- end of trade-off full -->", page, re.DOTALL
    )
    assert shown == (ROOT / "results/full/trade_off.md").read_text().strip()
    with (ROOT / "results/full/trade_off.csv").open() as file:
        rows = {(row["method"], row["workers"]): row for row in csv.DictReader(file)}
    hybrid, sync_sgd, gtc, bmuf = (
        f"{float(rows[method, '128']['speed_up']):.0f}"
        for method in ("gtc-bmuf", "sync-sgd", "gtc", "bmuf")
    )
    text = f"a speed-up of {hybrid}, sync-sgd's {sync_sgd}, gtc's {gtc} and bmuf's {bmuf}"
    assert text in README
