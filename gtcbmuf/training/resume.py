"""Compares a job with the run in its directory, to resume that run or to leave it as it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import reading
from gtcbmuf.config.loading import load_config
from gtcbmuf.config.schema import WITHOUT_EFFECT, Config
from gtcbmuf.data.corpus import Corpus
from gtcbmuf.training.checkpoint_files import Checkpoint
from gtcbmuf.training.run_files import read_summary, require

#: Keys that may differ in a resumed or finished run. (A checkpoint identifies its corpus.)
_FREE = (*WITHOUT_EFFECT, "path")


def _tables(config: Struct) -> dict[str, Any]:
    """Return a configuration as a checkpoint stores it, with lists in place of tuples."""
    tables: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config))
    return tables


def _difference(
    before: Mapping[str, Any], config: Config, free: Sequence[str]
) -> tuple[str, Any, Any] | None:
    """Return the first key whose value differs from `before`, and both values.

    Keys in `free` may differ. A key that `before` lacks is newer than it, and had its default.
    Return None if no other key differs.
    """
    for section, keys in _tables(config).items():
        table = _tables(type(getattr(config, section))()) | before.get(section, {})
        for key, value in keys.items():
            earlier = table[key]
            if earlier != value and key not in free:
                return f"{section}.{key}", earlier, value
    return None


def is_finished(out: Path, workers: int, config: Config) -> bool:
    """Return whether `out` holds a finished run of this configuration.

    Raises:
        UserError: `out` holds a finished run of another configuration or number of workers, or
            a damaged file, or it cannot be read.
    """
    with reading(out, "--out"):
        if not (out / "summary.json").exists():
            return False
    summary = require(out / "summary.json", read_summary(out), ("workers",))
    before = load_config(str(out / "config.toml"), [])
    difference = _difference(_tables(before), config, _FREE)
    earlier, now = (Path(c.corpus.path).name for c in (before, config))
    if earlier != now:
        difference = "corpus.path", earlier, now
    if summary["workers"] != workers:
        difference = "workers", summary["workers"], workers
    if difference:
        key, earlier, now = difference
        raise UserError(
            f"--out {out}: holds a finished run with {key} = {earlier}, but this job has {now}; "
            "choose another path, or omit --resume"
        )
    return True


def check_same(checkpoint: Checkpoint, config: Config, corpus: Corpus, network: str) -> None:
    """Require that a checkpoint has this job's configuration, network and corpus.

    Args:
        checkpoint: checkpoint to resume from.
        config, corpus: this job's configuration and corpus.
        network: class name of this job's network; empty for the MLP.

    Raises:
        UserError: the checkpoint does not fit this job. The message names the key or the file.
    """
    shared = checkpoint.shared
    difference = _difference(shared["config"], config, (*_FREE, "epochs"))
    if (earlier := shared.get("network", "")) != network:
        difference = "network", earlier or "the MLP", network or "the MLP"
    if difference:
        key, earlier, value = difference
        raise UserError(
            f"{checkpoint.path} was written with {key} = {earlier}, but this job has {value}; "
            "resume with the same value, or begin with the weights of a finished run: "
            "--resume-weights RUN/model.h5"
        )
    if shared["epoch"] >= config.train.epochs:
        raise UserError(
            f"train.epochs = {config.train.epochs}: expected {shared['epoch'] + 1} or more, "
            f"because {checkpoint.path} was written in that epoch"
        )
    if shared["corpus"] != corpus.digest:
        raise UserError(f"{checkpoint.path} was written with a corpus other than {corpus.path}")
