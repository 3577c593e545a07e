"""Assigns utterances to the splits of a corpus, by lists or by shares of the time."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.importing.exclusions import EXAMPLES
from gtcbmuf.data.importing.names import compose_name, name_splitter
from gtcbmuf.data.importing.text_lines import read_lines

#: What stays together in a split: all utterances of a speaker, or each utterance by itself.
UNITS = ("speaker", "utterance")

_SEED = 0  # for the random order
_FEW_SPEAKERS = (
    "; without a table of speakers, or with --speakers 'pattern:(.+)', each utterance is its own "
    "speaker; --split-by utterance divides the utterances of a speaker"
)


def split_utterances(
    utterances_of: Mapping[str, Sequence[str]],
    lengths: Mapping[str, float],
    known_names: set[str],
    choices: Mapping[str, str],
    *,
    unit: str = "speaker",
    speaker_rule: str,
) -> dict[str, str]:
    """Assign each utterance to a split.

    For a share, units are considered in a random order. One is taken if that brings the time of the
    split nearer to its share of all time. If none does, the shortest one is taken.

    Args:
        utterances_of: names of each speaker's utterances.
        lengths: length of each utterance, in any unit of time.
        known_names: names of all utterances and speakers, including excluded ones.
        choices: for "valid" and "test", a share of the time or the path of a list. Each line of a
            list names an utterance or a speaker.
        unit: "speaker": no speaker is in two splits. "utterance": speakers may be.
        speaker_rule: rule that found the speakers, in words.

    Returns:
        The split of each utterance.

    Raises:
        UserError: there is no such unit. A share is out of range, or nothing remains for train. A
            list has an unknown name, or only some utterances of a speaker. Two lists share a unit.
    """
    if unit not in UNITS:
        raise UserError(f"--split-by {unit}: expected {' or '.join(UNITS)}")
    units: Mapping[str, Sequence[str]] = utterances_of
    if unit == "utterance":
        units = {name: [name] for names in utterances_of.values() for name in names}
    split_of: dict[str, str] = {}  # by unit
    shares: dict[str, float] = {}
    for split, choice in choices.items():
        try:
            shares[split] = float(choice)
        except ValueError:
            for member in _read_list(Path(choice), utterances_of, known_names, unit):
                if split_of.setdefault(member, split) != split:
                    raise UserError(
                        f"{choice}: {unit} {member} is in both lists; expected one"
                    ) from None
            continue
        if not 0 < shares[split] < 1:
            raise UserError(f"--{split} {choice}: expected a share above 0 and below 1, or a file")

    length_of = {name: sum(lengths[member] for member in of) for name, of in units.items()}
    unlisted = sorted(units.keys() - split_of.keys(), key=compose_name)
    order = np.random.default_rng(_SEED).permutation(len(unlisted))
    left = {unlisted[i]: length_of[unlisted[i]] for i in order}
    for split, share in shares.items():
        for member in _choose(left, share * sum(length_of.values())):
            split_of[member] = split
            del left[member]
    if not left or sum(shares.values()) >= 1:
        advice = _FEW_SPEAKERS if unit == "speaker" and len(units) < 3 else ""
        raise UserError(
            f"--valid {choices['valid']} and --test {choices['test']} leave no {unit} for train: "
            f"of {len(units)} {unit}s, {len(unlisted)} are in no list (speakers by "
            f"{speaker_rule}){advice}"
        )
    split_of |= dict.fromkeys(left, "train")
    return {member: split_of[name] for name, of in units.items() for member in of}


def _choose(lengths: Mapping[str, float], target: float) -> list[str]:
    """Choose units whose lengths add up to nearly a target; one at least, if there are any."""
    chosen, total = [], 0.0
    for name, length in lengths.items():
        if abs(total + length - target) < abs(total - target):
            chosen.append(name)
            total += length
    if not chosen and lengths:
        chosen = [min(lengths, key=lambda name: lengths[name])]
    return chosen


def _read_list(
    path: Path, utterances_of: Mapping[str, Sequence[str]], known_names: set[str], unit: str
) -> list[str]:
    """Read a list of utterances or speakers. Return the units."""
    split = name_splitter(known_names)
    names = {compose_name(split(line)[0]) for line in read_lines(path) if line.strip()}
    unknown_names = sorted(names - {compose_name(name) for name in known_names})
    if unknown_names:
        raise UserError(
            f"{path}: unknown names {', '.join(unknown_names[:EXAMPLES])}; expected names of "
            "utterances or speakers"
        )
    members: list[str] = []
    for speaker, utterances in utterances_of.items():
        is_listed = compose_name(speaker) in names
        listed = [name for name in utterances if is_listed or compose_name(name) in names]
        if unit == "utterance":
            members += listed
        elif len(listed) == len(utterances):
            members.append(speaker)
        elif listed:
            missing = next(name for name in utterances if name not in listed)
            raise UserError(
                f"{path}: speaker {speaker}: only some utterances are listed, not {missing}; "
                "expected all or none, because no speaker may be in two splits unless you give "
                "--split-by utterance"
            )
    if not members:
        raise UserError(f"{path}: lists no usable utterance; expected at least one")
    return members
