"""`gtcbmuf reproduce STUDY`: the runs of a study, or a table from a model of a cluster."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_text, writing
from gtcbmuf.cluster import sbatch
from gtcbmuf.studies.error_table import write_error_table
from gtcbmuf.studies.preset_files import read_preset
from gtcbmuf.studies.presets import (
    Preset,
    choices_runs,
    error_table_runs,
    tuning_runs,
)
from gtcbmuf.studies.results import Result
from gtcbmuf.studies.settings_tables import format_choices, format_tuning
from gtcbmuf.studies.study import Study

Launch = Literal["mpirun", "slurm", "dry-run"]


def reproduce_runs(
    study: str,
    preset_name: str,
    results_folder: Path,
    *,
    seeds: Sequence[int] | None = None,
    launch: Launch = "mpirun",
) -> None:
    """Execute the pending runs of a study, write its results, and print its table.

    Args:
        study: tuning, choices or error-table.
        preset_name: name or file of the preset.
        results_folder: the results go to its subfolder with the preset's name.
        seeds: seeds of an error table that replace the preset's.
        launch: "mpirun" executes one run after the other. "slurm" submits the pending runs, and
            collects the results of earlier jobs. "dry-run" prints the Slurm jobs.

    Raises:
        UserError: the preset is invalid, a run failed or was interrupted, or a file cannot be
            read or written.
    """
    preset = read_preset(preset_name)
    _check_study(study, preset, preset_name, seeds)
    folder = results_folder / preset.name
    runs = {
        "tuning": tuning_runs(preset),
        "choices": choices_runs(preset),
        "error-table": error_table_runs(preset, seeds),
    }[study]
    file, job_name = folder / f"{study.replace('-', '_')}.csv", f"{preset.name}-{study}"
    run_folder = Path("runs") / preset.name / study
    study_runs = Study(
        runs,
        preset.corpus,
        run_folder,
        file,
        synthesis=preset.synthesis,
        digest=preset.digest,
    )
    if not (preset.synthesis or preset.corpus.exists()) and study_runs.pending_runs():
        # Only presets of the package are read without their corpus: that of real speech.
        script = f"scripts/real-speech {preset.corpus.parent.name}"
        raise UserError(f"{preset.corpus}: no such file; {script} writes it")
    if launch == "dry-run":
        _print_jobs(preset, study_runs, job_name)
        return
    with writing(folder, "--results"):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        if launch == "mpirun":
            if preset.is_shipped and not study_runs.pending_runs():
                print("# the results are published; to repeat the runs here, use --results FOLDER")
            study_runs.run()
        else:
            study_runs.submit(job_name)
    finally:
        results = study_runs.results()
        table = _write_table(study, preset, results, file)
    print(f"\n{table}" if results else "no finished runs yet")


def _check_study(study: str, preset: Preset, preset_name: str, seeds: Sequence[int] | None) -> None:
    """Check that a preset suits a study, and print the cells that the study skips.

    Raises:
        UserError: the preset has no choices, sgd is not tuned, or a seed is invalid.
    """
    if study == "choices" and not preset.choices:
        raise UserError(f"{preset_name}: no table [[choices]]; expected at least one")
    untuned = [cell.name for cell in preset.cells if cell.chosen is None]
    if study == "error-table" and "sgd 1" in untuned:
        raise UserError(
            f"{preset_name}: sgd 1: no `chosen`; set it to the number of the best setting in the "
            f"table of `gtcbmuf reproduce tuning --preset {preset_name}`"
        )
    if seeds is not None and (
        not all(1 <= seed < 2**62 for seed in seeds) or len(set(seeds)) < len(seeds)
    ):
        raise UserError(
            f"--seeds {' '.join(map(str, seeds))}: expected different integers from 1 to 2^62 - 1; "
            "seed 0 chose the settings"
        )
    if study == "error-table" and untuned:
        print(f"# skipped, not tuned yet: {', '.join(untuned)}", flush=True)


def _print_jobs(preset: Preset, study_runs: Study, job_name: str) -> None:
    """Print the Slurm jobs of the pending runs, and the command that synthesises the corpus."""
    if preset.synthesis and not preset.corpus.exists():
        arguments = preset.synthesis.arguments(preset.corpus)
        job_file = sbatch.find_job_file(sbatch.CORPUS)
        print(f"# first: sbatch {job_file} {shlex.join(arguments)}\n")
    print("\n".join(study_runs.array_texts(job_name)) or "# all runs are finished\n", end="")


def _write_table(study: str, preset: Preset, results: Sequence[Result], file: Path) -> str:
    """Write the tables of a study beside its CSV file, and return the Markdown table."""
    if study == "error-table":
        return write_error_table(results, file.parent, with_paper=preset.is_shipped)
    table = (format_tuning if study == "tuning" else format_choices)(preset, results)
    if results:
        with writing(file.parent):
            write_text(file.with_suffix(".md"), table + "\n")
    return table


def reproduce_model(
    study: str,
    preset_name: str,
    results_folder: Path,
    *,
    cluster: Path | None,
    networks: Sequence[Path],
    elsewhere: bool,
) -> None:
    """Write and print a table whose speed-ups come from a model of a cluster.

    Args:
        study: speedup-table, trade-off or comparison.
        preset_name: name or file of the preset.
        results_folder: the table goes to its subfolder with the preset's name.
        cluster, elsewhere: as in `gtcbmuf.cluster.plan.read_cluster`.
        networks: files of other networks than the cluster's; one at most, except for comparison.

    Raises:
        UserError: the preset or a file of the cluster is invalid, a measurement failed, or a file
            cannot be read or written.
    """
    # The planner loads kernels, and the speed-up table MPI. The runs of a study need neither.
    from gtcbmuf.cluster.plan import read_cluster

    preset = read_preset(preset_name)
    if len(networks) > 1 and study != "comparison":
        raise UserError(f"--network: {len(networks)} files; expected one for {study}")
    stems = [file.stem for file in networks]
    if len(set(stems)) < len(stems):
        raise UserError(f"--network: {', '.join(stems)}: expected files with different names")
    files: list[Path | None] = [*networks] or [None]
    clusters = [read_cluster(cluster, network, elsewhere=elsewhere) for network in files]
    compute, link = clusters[0]
    names = " and ".join(map(str, networks))
    cluster_name = f"{cluster}{f' with the network of {names}' if names else ''}"
    folder = results_folder / preset.name
    if study == "speedup-table":
        from gtcbmuf.studies.speedup_table import reproduce_speedup_table

        reproduce_speedup_table(compute, link, cluster_name, folder)
    elif study == "comparison":
        from gtcbmuf.studies.comparison import reproduce_comparison

        stems = stems or [Path(cluster_name).stem]
        links = {stem: other for stem, (_, other) in zip(stems, clusters, strict=True)}
        reproduce_comparison(preset, compute, links, cluster_name, folder)
    else:
        from gtcbmuf.studies.trade_off import reproduce_trade_off

        reproduce_trade_off(preset, compute, link, cluster_name, folder)
