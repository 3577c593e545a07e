"""The phones of an alignment's labels."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from gtcbmuf.data.corpus import SILENCE
from gtcbmuf.data.importing.exclusions import EXAMPLES

#: Labels of silence in any case: of Kaldi, the Montreal Forced Aligner, TIMIT, Festival, WebMAUS.
_SILENCES = frozenset({"", "sil", "sp", "<eps>", "<sil>", "silence", "h#", "pau", "<p:>"})
_POSITION = re.compile(r"(.+)_[BIES]")
_STRESSED_VOWEL = re.compile(r"(AA|AE|AH|AO|AW|AY|EH|ER|EY|IH|IY|OW|OY|UH|UW)[012]")


class PhoneNames(NamedTuple):
    """The phones of an alignment's labels.

    Attributes:
        phone_of: phone of each label.
        notes: what was done with labels of silence other than "sil", and with stress, in words.
    """

    phone_of: dict[str, str]
    notes: list[str]

    @property
    def phones(self) -> list[str]:
        """The phones in order; silence is the first one, even if no label is."""
        return [SILENCE, *sorted(set(self.phone_of.values()) - {SILENCE})]


def map_labels(labels: Iterable[str]) -> PhoneNames:
    """Map each label to its phone, without stress and position in the word.

    Labels of silence become "sil". A position is a suffix such as "_B". Positions are removed only
    if all labels but those of silence have one. Stress is 0, 1 or 2 after one of ARPAbet's 15
    vowels. It is removed only if no label has any other digit, which would be a tone or a number.

    >>> map_labels(["SIL", "AH0_B", "T_E"]).phone_of["AH0_B"]
    'AH'
    >>> map_labels(["AA1", "AA4", "NG1"]).phone_of["AA1"]
    'AA1'
    """
    labels = list(labels)
    # Kaldi gives either all labels a position or none. Elsewhere, t_S is a phone.
    spoken_labels = [label for label in labels if not _is_silence(label)]
    have_positions = all(_POSITION.fullmatch(label) for label in spoken_labels)
    phone_of = {}
    for label in labels:
        phone = _POSITION.sub(r"\1", label) if have_positions else label
        phone_of[label] = SILENCE if _is_silence(phone) else phone
    silences = {label for label, phone in phone_of.items() if phone == SILENCE} - {"", SILENCE}
    notes = [f"silence: {', '.join(sorted(silences))}"] if silences else []
    with_digit = sorted({x for x in phone_of.values() if any(c.isdigit() for c in x)})
    if not with_digit:
        return PhoneNames(phone_of, notes)
    for phone in with_digit:
        if not _STRESSED_VOWEL.fullmatch(phone):
            kept = f"digits kept: {phone} is not one of ARPAbet's vowels with stress 0 to 2"
            return PhoneNames(phone_of, [*notes, kept])
    phone_of = {label: _STRESSED_VOWEL.sub(r"\1", phone) for label, phone in phone_of.items()}
    examples = ", ".join(with_digit[:EXAMPLES])
    removed = f"stress removed from {len(with_digit)} labels, such as {examples}"
    return PhoneNames(phone_of, [*notes, removed])


def _is_silence(label: str) -> bool:
    return label.lower() in _SILENCES
