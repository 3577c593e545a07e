"""A small corpus for tests. A model can learn its targets."""

from pathlib import Path

import numpy as np

from gtcbmuf.data.corpus_writer import CorpusWriter, Utterance

#: Frames in each of the splits valid and test.
HELD_OUT_FRAMES = 600


def write_corpus(
    path: Path, *, train_frames: int = 3000, targets: int = 12, dim: int = 8, seed: int = 0
) -> None:
    """Write a corpus of Gaussian features with a mean per target.

    Each target lasts for several frames, so context helps. A phone has two targets. The same
    arguments write the same bytes.
    """
    stream = np.random.default_rng(seed)
    means = stream.normal(0, 1, (targets, dim))
    writer = CorpusWriter(
        path,
        phones=[f"p{phone}" for phone in range((targets + 1) // 2)],
        target_phone=[target // 2 for target in range(targets)],
        attributes={"made_by": "tests/support/corpora.py", "seed": seed},
    )
    sizes = {"train": train_frames, "valid": HELD_OUT_FRAMES, "test": HELD_OUT_FRAMES}
    with writer as corpus:
        for split, frames in sizes.items():
            for utterance in _draw_utterances(split, frames, means, stream):
                corpus.add(split, utterance)


def _draw_utterances(
    split: str, frames: int, means: np.ndarray, stream: np.random.Generator
) -> list[Utterance]:
    """Draw `frames` frames in utterances of 1 to 120 frames."""
    utterances: list[Utterance] = []
    while frames:
        length = min(int(stream.integers(1, 121)), frames)
        frames -= length
        durations = stream.integers(2, 8, length)
        targets = np.repeat(stream.integers(0, len(means), length), durations)[:length]
        features = means[targets] + stream.normal(0, 1, (length, means.shape[1]))
        number = len(utterances)
        utterances.append(
            Utterance(
                f"{split}-{number:04}",
                f"{split}-speaker-{number % 3}",
                features.astype(np.float32),
                targets.astype(np.uint16),
            )
        )
    return utterances
