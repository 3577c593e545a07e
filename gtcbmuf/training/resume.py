"""Whether a job asks for the run that is there: to go on with its checkpoint, or to leave it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gtcbmuf.base.errors import UserError
from gtcbmuf.config.loading import load_config
from gtcbmuf.config.schema import Config
from gtcbmuf.data.corpus import Corpus
from gtcbmuf.training.checkpoint_files import Checkpoint
from gtcbmuf.training.run_directory import read_run

#: Keys that may differ in a run that goes on or is finished. (A checkpoint knows its corpus.)
_FREE = ("verify", "patience", "checkpoint_every", "checkpoints", "path")


def _tables(config: Config) -> dict[str, dict[str, Any]]:
    """As a checkpoint has it: lists for tuples."""
    tables: dict[str, dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(config))
    return tables


def _difference(
    before: Mapping[str, Any], config: Config, free: Sequence[str]
) -> tuple[str, Any, Any] | None:
    """The first key with another value before, and both values; but for free keys."""
    for section, keys in _tables(config).items():
        for key, value in keys.items():
            earlier = before.get(section, {}).get(key)
            if earlier != value and key not in free:
                return f"{section}.{key}", earlier, value
    return None


def is_finished(out: Path, workers: int, config: Config) -> bool:
    """Whether there is a finished run of this configuration.

    Raises:
        UserError: there is one of another.
    """
    if not (out / "summary.json").exists():
        return False
    before, summary = load_config(str(out / "config.toml"), []), read_run(out).summary
    difference = _difference(_tables(before), config, _FREE)
    earlier, now = (Path(one.corpus.path).name for one in (before, config))
    if earlier != now:
        difference = "corpus.path", earlier, now
    if summary["workers"] != workers:
        difference = "workers", summary["workers"], workers
    if difference:
        key, earlier, now = difference
        raise UserError(
            f"--out {out}: there is a finished run with {key} = {earlier}, and this job has {now}; "
            "choose another, or leave out --resume"
        )
    return True


def check_same(checkpoint: Checkpoint, config: Config, corpus: Corpus, network: str) -> None:
    """Refuse to go on with another configuration, network or corpus.

    Args:
        checkpoint: to go on from.
        config, corpus: of this job.
        network: name of its class; empty for the MLP.

    Raises:
        UserError: it names the key, or the file.
    """
    shared = checkpoint.shared
    difference = _difference(shared["config"], config, (*_FREE, "epochs"))
    if (earlier := shared.get("network", "")) != network:
        difference = "network", earlier or "the MLP", network or "the MLP"
    if difference:
        key, earlier, value = difference
        raise UserError(
            f"{checkpoint.path} was written with {key} = {earlier}, and this job has {value}; "
            "resume with the same, or take its weights alone: --resume-weights RUN/model.h5"
        )
    if shared["epoch"] >= config.train.epochs:
        raise UserError(
            f"{checkpoint.path} was written in epoch {shared['epoch'] + 1}; "
            f"train.epochs = {config.train.epochs} is less"
        )
    if shared["corpus"] != corpus.digest:
        raise UserError(f"{checkpoint.path} was written with another corpus than {corpus.path}")
