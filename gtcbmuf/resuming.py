"""Whether a job asks for the run that is there: to go on with its checkpoint, or to leave it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gtcbmuf import config, corpus, runlog
from gtcbmuf.checkpoint import Checkpoint
from gtcbmuf.config import Config
from gtcbmuf.errors import UserError

#: What may differ of a run that goes on, or is finished. (A checkpoint knows its corpus's digest.)
_HOW = ("verify", "patience", "checkpoint_every", "checkpoints", "path")
_FREE = (*_HOW, "epochs")


def _plain(chosen: Config) -> dict[str, dict[str, Any]]:
    """As a checkpoint has it: lists for tuples."""
    plain: dict[str, dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(chosen))
    return plain


def _difference(
    before: Mapping[str, Any], chosen: Config, free: Sequence[str]
) -> tuple[str, Any, Any] | None:
    """The first key whose value another configuration has not, and both; but for free ones."""
    for section, keys in _plain(chosen).items():
        for key, value in keys.items():
            was = before.get(section, {}).get(key)
            if was != value and key not in free:
                return f"{section}.{key}", was, value
    return None


def is_finished(out: Path, workers: int, chosen: Config) -> bool:
    """Whether there is a finished run of this configuration.

    Raises:
        UserError: there is one of another.
    """
    if not (out / "summary.json").exists():
        return False
    before, summary = config.load(str(out / "config.toml"), []), runlog.read(out).summary
    differs = _difference(_plain(before), chosen, _HOW)
    was, now = (Path(one.corpus.path).name for one in (before, chosen))
    if was != now:
        differs = "corpus.path", was, now
    if summary["workers"] != workers:
        differs = "workers", summary["workers"], workers
    if differs:
        key, was, now = differs
        raise UserError(
            f"--out {out}: there is a finished run with {key} = {was}, and this job has {now}; "
            "choose another, or leave out --resume"
        )
    return True


def check_same(begun: Checkpoint, chosen: Config, frames: corpus.Corpus) -> None:
    """Refuse to go on with another configuration or corpus.

    Raises:
        UserError: it names the key, or the file.
    """
    if differs := _difference(begun.shared["config"], chosen, _FREE):
        key, was, value = differs
        raise UserError(
            f"{begun.path} was written with {key} = {was}, and this job has {value}; resume with "
            "the same, or take its weights alone: --resume-weights RUN/model.h5"
        )
    if begun.shared["epoch"] >= chosen.train.epochs:
        raise UserError(
            f"{begun.path} was written in epoch {begun.shared['epoch'] + 1}; "
            f"train.epochs = {chosen.train.epochs} is less"
        )
    if begun.shared["corpus"] != frames.digest:
        raise UserError(f"{begun.path} was written with another corpus than {frames.path}")
