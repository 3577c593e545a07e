"""The folder of a new study: each file works with the command that it is for."""

import shutil
from pathlib import Path

import pytest
from support.launch import ROOT, gtcbmuf

from gtcbmuf.base.errors import UserError
from gtcbmuf.cluster import sbatch
from gtcbmuf.config.loading import load_config, recipe_names
from gtcbmuf.config.schema import Config
from gtcbmuf.studies.commented_config import format_config
from gtcbmuf.studies.preset_files import read_preset
from gtcbmuf.studies.study_folder import write_study_folder

FILES = [
    *("README.md", "jobs/array.sbatch", "jobs/chain", "jobs/corpus.sbatch", "jobs/report.sbatch"),
    *("jobs/train.sbatch", "run.toml", "study.toml"),
]


@pytest.mark.parametrize("recipe", [*recipe_names(), None])
def test_a_formatted_configuration_is_read_as_it_was(tmp_path: Path, recipe: str | None) -> None:
    config = load_config(recipe) if recipe else Config()
    path = tmp_path / "run.toml"
    path.write_text(format_config(config))
    assert load_config(str(path)) == config


def test_the_comment_of_a_key_has_meaning_words_and_default() -> None:
    text = format_config(load_config("gtc-bmuf"))
    assert "residual reaches tau. Default: 1.0.\ntau = 4.0\n" in text
    assert "Default: 50.\nperiod = 20\n" in text
    assert 'One of "reset", "keep".\nlocal_momentum = "reset"\n' in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_folder_has_the_files_of_a_study(tmp_path: Path) -> None:
    assert write_study_folder(tmp_path / "a/b") == FILES
    written = [path for path in (tmp_path / "a/b").rglob("*") if path.is_file()]
    assert sorted(str(path.relative_to(tmp_path / "a/b")) for path in written) == FILES
    for path in sbatch.JOB_FILES:
        copy = tmp_path / "a/b/jobs" / path.name
        assert copy.read_bytes() == (ROOT / "jobs" / path.name).read_bytes()
        assert copy.stat().st_mode == path.stat().st_mode
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == tmp_path.joinpath(
        "a"
    ).stat().st_mode & 0o777


def test_its_configuration_and_preset_can_start(tmp_path: Path) -> None:
    write_study_folder(tmp_path)
    config = load_config(str(tmp_path / "run.toml"))
    assert config == load_config("gtc-bmuf", ["corpus.path=corpus/study.h5"])
    preset = read_preset(str(tmp_path / "study.toml"))
    assert str(preset.corpus) == config.corpus.path
    assert len({len(cell.tried) for cell in preset.cells}) == 1
    # The README's corpus is that of the preset.
    assert preset.synthesis
    command = f"gtcbmuf corpus {' '.join(preset.synthesis.arguments(preset.corpus))}"
    readme = (tmp_path / "README.md").read_text()
    assert command.replace(" --seed 0", "") in readme


def test_submit_takes_the_folders_own_job_file(tmp_path: Path) -> None:
    write_study_folder(tmp_path)
    job = tmp_path / "jobs/train.sbatch"
    job.write_text(job.read_text().replace("# module load openmpi", "module load mine"))
    done = gtcbmuf("submit", "run.toml", "--dry-run", cwd=tmp_path, env={"PATH": "/nowhere"})
    assert done.returncode == 0, done.stderr
    assert "\nmodule load mine\n" in done.stdout
    assert "\n# job file: jobs/train.sbatch\n" in done.stdout


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(UserError, match="is not empty; expected a new or empty folder"):
        write_study_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    with pytest.raises(UserError, match=r"notes: cannot be written: .*notes is not a folder"):
        write_study_folder(tmp_path / "notes")


@pytest.mark.parametrize("is_new", [True, False])
def test_nothing_is_left_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    def copy(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    folder = tmp_path / "study"
    if not is_new:
        folder.mkdir()
    monkeypatch.setattr(shutil, "copy", copy)
    with pytest.raises(UserError, match="study: cannot be written: No space left on device"):
        write_study_folder(folder)
    assert folder.exists() is not is_new
    assert is_new or not list(folder.iterdir())
