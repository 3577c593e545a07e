"""The phones of an alignment's labels."""

import re
from collections.abc import Iterable

from gtcbmuf.data.corpus import SILENCE

_SILENCES = frozenset({"", "sil", "SIL", "sp", "<eps>"})
_POSITION = re.compile(r"(.+)_[BIES]")
_STRESS = re.compile(r"([A-Z]+)[012]")


def map_labels(labels: Iterable[str]) -> dict[str, str]:
    """Map each label to its phone, without stress and position in the word.

    Labels of silence become "sil". A position is a suffix such as "_B". Positions are removed only
    if all labels but those of silence have one.

    >>> map_labels(["SIL", "AH0_B", "T_E"])["AH0_B"]
    'AH'
    """
    # Kaldi gives either all labels a position or none. Elsewhere, t_S is a phone.
    spoken_labels = [label for label in labels if label not in _SILENCES]
    have_positions = all(_POSITION.fullmatch(label) for label in spoken_labels)
    phone_of = dict.fromkeys(_SILENCES, SILENCE)
    for label in spoken_labels:
        phone = _POSITION.sub(r"\1", label) if have_positions else label
        stress = _STRESS.fullmatch(phone)
        phone_of[label] = SILENCE if phone in _SILENCES else stress[1] if stress else phone
    return phone_of
