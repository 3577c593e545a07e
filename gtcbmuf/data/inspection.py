"""Descriptions of a corpus as text, and pictures of its utterances."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.plotting import picture
from gtcbmuf.data.corpus import POOL, SPLITS, Corpus, Split

_EXAMPLES = 3  # utterances in a message
_SPEAKERS = 8  # that are named in each split


def describe_corpus(corpus: Corpus) -> str:
    """Describe a corpus as text: attributes, splits, and shares of the phones in train."""
    shift = float(corpus.attributes.get("frame_shift_ms", 10.0))
    lines = [f"{name} = {value}" for name, value in corpus.attributes.items()]
    lines += ["", f"{'split':<6} {'hours':>8} {'frames':>12} {'utterances':>11} {'speakers':>9}"]
    for name in SPLITS:
        split = corpus.split(name)
        hours = len(split) * shift / 3.6e6
        lines.append(
            f"{name:<6} {hours:>8.2f} {len(split):>12,} {len(split.ends):>11,} "
            f"{len(set(split.speakers)):>9,}"
        )
    lines.append("")
    for name in SPLITS:
        lines.append(f"{name:<6} {_describe_speakers(corpus.split(name), shift)}")
    if shared := _shared_speakers(corpus):
        lines.append(f"{shared} speakers are in several splits")
    target_frames = corpus.train.counts(corpus.target_count)
    unseen = np.flatnonzero(target_frames == 0)
    if not corpus.has_phones:
        lines += ["", f"{corpus.target_count} pdf-ids, {len(unseen)} of them without a train frame"]
        return "\n".join(lines)
    phone_frames = np.bincount(corpus.target_phone, target_frames, len(corpus.phones))
    shares = 100 * phone_frames / phone_frames.sum()
    lines += ["", f"{len(corpus.phones)} phones, {corpus.target_count} targets; phones in train:"]
    ranking = np.argsort(-shares, kind="stable")
    cells = [f"{corpus.phones[phone]} {shares[phone]:.2f} %" for phone in ranking]
    width = max(map(len, cells)) + 2
    columns = max(96 // width, 1)
    for first in range(0, len(cells), columns):
        lines.append("".join(cell.ljust(width) for cell in cells[first : first + columns]).rstrip())
    if len(unseen):
        lines.append(f"targets without a train frame: {', '.join(map(str, unseen))}")
    return "\n".join(lines)


def _describe_speakers(split: Split, shift: float) -> str:
    """Name the speakers of a split with most speech, with their hours."""
    frames: Counter[str] = Counter()
    for speaker, count in zip(split.speakers, np.diff(split.ends, prepend=0), strict=True):
        frames[speaker] += int(count)
    cells = [
        f"{speaker} {count * shift / 3.6e6:.2f} h"
        for speaker, count in frames.most_common(_SPEAKERS)
    ]
    more = len(frames) - len(cells)
    return ", ".join(cells) + (f" and {more} more" if more else "")


def _shared_speakers(corpus: Corpus) -> int:
    """Count the speakers that are in several splits."""
    counts = Counter(speaker for name in SPLITS for speaker in set(corpus.split(name).speakers))
    return sum(count > 1 for count in counts.values())


def find_nonfinite_features(corpus: Corpus) -> list[str]:
    """Find the frames with features that are NaN or infinite.

    Returns:
        A description per split with such frames, which names the utterances.
    """
    descriptions = []
    for name in SPLITS:
        split = corpus.split(name)
        counts = _count_nonfinite_frames(split)
        if not counts:
            continue
        examples = ", ".join(
            f"{split.names[number]} ({count} frames)"
            for number, count in list(counts.items())[:_EXAMPLES]
        )
        rest = ", ..." if len(counts) > _EXAMPLES else ""
        descriptions.append(
            f"{name}: {sum(counts.values())} frames of {len(counts)} utterances: {examples}{rest}"
        )
    return descriptions


def _count_nonfinite_frames(split: Split) -> dict[int, int]:
    """Count the frames with NaN or infinite features, by the number of the utterance."""
    counts: Counter[int] = Counter()
    for first in range(0, len(split), POOL):
        is_finite = np.isfinite(split.features[first : first + POOL]).all(axis=1)
        positions = first + np.flatnonzero(~is_finite)
        counts.update(np.searchsorted(split.ends, positions, side="right").tolist())
        split.release()
    return dict(counts)


def draw_utterance(corpus: Corpus, utterance: str, path: Path) -> None:
    """Draw the features of an utterance, with its phones above them.

    Args:
        corpus: corpus of the utterance.
        utterance: name of the utterance.
        path: path of the picture. Its suffix, such as .png, selects the format.

    Raises:
        UserError: the corpus has no utterance of this name, or the picture cannot be written.
    """
    for name in SPLITS:
        split = corpus.split(name)
        if utterance in split.names:
            break
    else:
        raise UserError(
            f"{corpus.path}: no utterance {utterance!r}; expected a name such as "
            f"{corpus.train.names[0]!r}"
        )
    number = split.names.index(utterance)
    first, end = (split.ends[number - 1] if number else 0), split.ends[number]

    phones = corpus.target_phone[split.targets[first:end]]
    bounds = [0, *(np.flatnonzero(np.diff(phones)) + 1), len(phones)]
    with picture(path, max(6, (end - first) / 25), 4, "--picture") as axes:
        features = split.features[first:end].astype(np.float32)
        axes.imshow(features.T, origin="lower", aspect="auto", cmap="magma")
        for begin, stop in pairwise(bounds):
            axes.axvline(begin - 0.5, color="white", linewidth=0.7)
            middle, top = (begin + stop - 1) / 2, axes.get_ylim()[1] + 0.5
            axes.text(middle, top, corpus.phones[phones[begin]], ha="center", fontsize=8)
        axes.set(xlabel="frame", ylabel="feature")
        axes.set_title(f"{utterance} ({name}, {split.speakers[number]})", pad=18)
