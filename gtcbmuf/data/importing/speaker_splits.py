"""Assigns speakers to the splits of a corpus, by lists or at random."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.exclusions import EXAMPLES
from gtcbmuf.data.importing.text_lines import read_lines

_SEED = 0  # of the random order of speakers


def split_speakers(
    speakers: Mapping[str, Sequence[str]], known_names: set[str], choices: Mapping[str, str]
) -> dict[str, str]:
    """Assign each speaker to a split.

    Args:
        speakers: the utterances of each speaker.
        known_names: names of all utterances and speakers, including excluded ones.
        choices: for "valid" and "test", a share of the speakers or the path of a list. The list
            has the name of an utterance or of a speaker in each line.

    Returns:
        The split of each speaker.

    Raises:
        UserError: a share is out of range, or no speaker is left for train. A list has an unknown
            name, or only some utterances of a speaker.
    """
    split_of: dict[str, str] = {}
    counts: dict[str, int] = {}
    for split, choice in choices.items():
        try:
            share = float(choice)
        except ValueError:
            for speaker in _read_speakers(Path(choice), speakers, known_names):
                if split_of.setdefault(speaker, split) != split:
                    raise UserError(f"{choice}: speaker {speaker} is in both lists") from None
            continue
        if not 0 < share < 1:
            raise UserError(f"--{split} {choice}: expected a share above 0 and below 1, or a file")
        counts[split] = max(1, round(share * len(speakers)))
    free = sorted(speakers.keys() - split_of.keys())
    if sum(counts.values()) >= len(free):
        raise UserError(
            f"{len(speakers)} speakers, {len(free)} of them in no list, are too few: "
            f"--valid {choices['valid']} and --test {choices['test']} leave none for train"
        )
    stream = np.random.default_rng(_SEED)
    order = iter([free[i] for i in stream.permutation(len(free))])
    for split, count in counts.items():
        split_of |= {next(order): split for _ in range(count)}
    return split_of | dict.fromkeys(order, "train")


def _read_speakers(
    path: Path, speakers: Mapping[str, Sequence[str]], known_names: set[str]
) -> list[str]:
    """Read a list of utterances or speakers, and return the speakers."""
    names = {words[0] for line in read_lines(path) if (words := line.split())}
    if unknown := sorted(names - known_names):
        raise UserError(
            f"{path}: {', '.join(unknown[:EXAMPLES])}: expected names of utterances or speakers"
        )
    members = []
    for speaker, utterances in speakers.items():
        missing = [utterance for utterance in utterances if utterance not in names]
        if speaker in names or not missing:
            members.append(speaker)
        elif len(missing) < len(utterances):
            raise UserError(
                f"{path}: speaker {speaker}: lists some of its utterances, but not {missing[0]}; "
                "expected all or none: no speaker is in two splits"
            )
    if not members:
        raise UserError(f"{path}: names no utterance that has features and an alignment")
    return members
