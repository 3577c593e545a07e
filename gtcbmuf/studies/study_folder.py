"""The folder of a new study: a configuration, a preset, job files for Slurm, and a README."""

import shutil
import tempfile
from importlib import resources
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import writing
from gtcbmuf.cluster.sbatch import JOB_FILES, TEMPLATE
from gtcbmuf.config.loading import load_config
from gtcbmuf.studies.commented_config import format_config

#: The method of the configuration, and the corpus of the preset.
_CONFIG = ("gtc-bmuf", ["corpus.path=corpus/study.h5"])


def write_study_folder(folder: Path) -> list[str]:
    """Write the folder of a new study. After an error, it is as it was.

    Args:
        folder: a new or empty folder.

    Returns:
        Paths of the files, relative to the folder.

    Raises:
        UserError: the folder is not empty, or cannot be written.

    Examples:
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     write_study_folder(Path(parent) / "my-study")[:3]
        ['README.md', 'jobs/array.sbatch', 'jobs/chain']
    """
    path = folder.resolve()  # "." has no name
    with writing(path):
        is_new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UserError(f"{folder}: the folder is not empty; expected a new or empty folder")
        staging = Path(tempfile.mkdtemp(prefix=".init-", dir=path))
        try:
            files = _write_files(staging)
            for entry in sorted(staging.iterdir()):
                entry.rename(path / entry.name)
        finally:
            shutil.rmtree(staging)
            if is_new and not any(path.iterdir()):
                path.rmdir()
    return files


def _write_files(folder: Path) -> list[str]:
    """Write the files of a study, and return their paths relative to the folder."""
    (folder / "run.toml").write_text(_format_run(), encoding="utf-8")
    shipped = resources.files("gtcbmuf.studies").joinpath("folder")
    for name in ("README.md", "study.toml"):
        (folder / name).write_text(shipped.joinpath(name).read_text("utf-8"), encoding="utf-8")
    jobs = folder / TEMPLATE.parent
    jobs.mkdir()
    for file in JOB_FILES:
        shutil.copy(file, jobs)
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def _format_run() -> str:
    header = (
        "# A configuration of one run, with every key of its method.\n"
        "#\n"
        "#   mpirun -n 8 gtcbmuf train run.toml --out runs/first\n"
        "#   mpirun -n 8 gtcbmuf train run.toml --set exchange.tau=8 --out runs/tau8\n\n"
    )
    return header + format_config(load_config(*_CONFIG))
