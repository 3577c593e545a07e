"""Assigns speakers to the splits of a corpus, by lists or at random."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.exclusions import EXAMPLES
from gtcbmuf.data.importing.names import compose_name
from gtcbmuf.data.importing.text_lines import read_lines

_SEED = 0  # for the random order of the speakers
_FEW_SPEAKERS = (
    "; without a table of speakers, or with --speakers 'pattern:(.+)', each utterance is its own "
    "speaker"
)


def split_speakers(
    speakers: Mapping[str, Sequence[str]],
    known_names: set[str],
    choices: Mapping[str, str],
    *,
    speaker_rule: str,
) -> dict[str, str]:
    """Assign each speaker to a split.

    Args:
        speakers: names of each speaker's utterances.
        known_names: names of all utterances and speakers, including excluded ones.
        choices: for "valid" and "test", a share of the speakers or the path of a list. Each line of
            a list names an utterance or a speaker.
        speaker_rule: rule that found the speakers, in words.

    Returns:
        The split of each speaker.

    Raises:
        UserError: a share is out of range, or no speaker remains for train. A list has an unknown
            name, or only some utterances of a speaker. Two lists share a speaker.
    """
    split_of: dict[str, str] = {}
    counts: dict[str, int] = {}
    for split, choice in choices.items():
        try:
            share = float(choice)
        except ValueError:
            for speaker in _read_speakers(Path(choice), speakers, known_names):
                if split_of.setdefault(speaker, split) != split:
                    raise UserError(
                        f"{choice}: speaker {speaker} is in both lists; expected one"
                    ) from None
            continue
        if not 0 < share < 1:
            raise UserError(f"--{split} {choice}: expected a share above 0 and below 1, or a file")
        counts[split] = max(1, round(share * len(speakers)))
    unlisted_speakers = sorted(speakers.keys() - split_of.keys(), key=compose_name)
    if sum(counts.values()) >= len(unlisted_speakers):
        advice = _FEW_SPEAKERS if len(speakers) < 3 else ""
        raise UserError(
            f"--valid {choices['valid']} and --test {choices['test']} leave no speaker for train: "
            f"of {len(speakers)} speakers, {len(unlisted_speakers)} are in no list (speakers by "
            f"{speaker_rule}){advice}"
        )
    stream = np.random.default_rng(_SEED)
    order = iter([unlisted_speakers[i] for i in stream.permutation(len(unlisted_speakers))])
    for split, count in counts.items():
        split_of |= {next(order): split for _ in range(count)}
    return split_of | dict.fromkeys(order, "train")


def _read_speakers(
    path: Path, speakers: Mapping[str, Sequence[str]], known_names: set[str]
) -> list[str]:
    """Read a list of utterances or speakers. Return the speakers."""
    names = {compose_name(words[0]) for line in read_lines(path) if (words := line.split())}
    unknown_names = sorted(names - {compose_name(name) for name in known_names})
    if unknown_names:
        raise UserError(
            f"{path}: unknown names {', '.join(unknown_names[:EXAMPLES])}; expected names of "
            "utterances or speakers"
        )
    members = []
    for speaker, utterances in speakers.items():
        missing_names = [name for name in utterances if compose_name(name) not in names]
        if compose_name(speaker) in names or not missing_names:
            members.append(speaker)
        elif len(missing_names) < len(utterances):
            raise UserError(
                f"{path}: speaker {speaker}: only some utterances are listed, not "
                f"{missing_names[0]}; expected all or none, because no speaker may be in two splits"
            )
    if not members:
        raise UserError(f"{path}: lists no usable utterance; expected at least one")
    return members
