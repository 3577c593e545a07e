"""What every import into a corpus does: split by speaker, normalise, name what was left out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf import corpus, features
from gtcbmuf.errors import UserError
from gtcbmuf.storage import write_text

NORMALISATIONS = ("speaker", "utterance", "none")

_SPLIT_SEED = 0  # of the speakers that a share draws
_NAMED = 3  # utterances that a message names

#: Features (frames, dim) and targets (frames,) of an utterance.
Frames = tuple[NDArray[np.float32], NDArray[np.uint16]]


class LeftOut:
    """The utterances that cannot be used, and why.

    Args:
        total: number of all utterances.
        most: the largest share of them that may be left out.

    Raises:
        UserError: that is no share.
    """

    def __init__(self, total: int, most: float) -> None:
        if not 0 <= most <= 1:
            raise UserError(f"--most-bad {most:g}: expected a share, from 0 to 1")
        self.total = total
        self._most = most
        self._reasons: dict[str, str] = {}
        self._hints: list[str] = []

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, name: str, reason: str, hint: str = "") -> None:
        """Leave out an utterance.

        Args:
            name: of the utterance.
            reason: why.
            hint: what to do if it is the same with most of those that are left out.

        Raises:
            UserError: these are too many.
        """
        self._reasons[name] = reason
        self._hints.append(hint)
        if len(self) <= self._most * self.total:
            return
        common = f"; {hint}" if hint and 2 * self._hints.count(hint) > len(self) else ""
        raise UserError(
            f"more than {100 * self._most:g} % (--most-bad) of {self.total} utterances "
            f"cannot be used{self.some()}{common}"
        )

    def some(self) -> str:
        """Return the first ones with their reasons, to end a message with."""
        shown = [f"{name}: {reason}" for name, reason in self._reasons.items()][:_NAMED]
        return f" ({'; '.join(shown)})" if shown else ""

    def text(self) -> str:
        """Return all of them, a line each, after a line that counts them."""
        lines = [f"{len(self)} of {self.total} utterances were left out"]
        lines += [f"{name}: {reason}" for name, reason in self._reasons.items()]
        return "\n".join(lines) + "\n"


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file.

    Raises:
        UserError: there is none, or it is no text.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as lines of text: {error}") from None


def split_speakers(
    speakers: Mapping[str, Sequence[str]], known: set[str], choices: Mapping[str, str]
) -> dict[str, str]:
    """Return the split of each speaker.

    Args:
        speakers: their utterances.
        known: names of all utterances and speakers, also of those that cannot be used.
        choices: for "valid" and "test", a share of the speakers or the path of a list.

    Raises:
        UserError: a choice makes no sense, a list names what is not there or part of a speaker,
            or none is left for train.
    """
    split_of: dict[str, str] = {}
    counts: dict[str, int] = {}
    for split, choice in choices.items():
        try:
            share = float(choice)
        except ValueError:
            for speaker in _listed(Path(choice), speakers, known):
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
    stream = np.random.default_rng(_SPLIT_SEED)
    order = iter([free[i] for i in stream.permutation(len(free))])
    for split, count in counts.items():
        split_of |= {next(order): split for _ in range(count)}
    return split_of | dict.fromkeys(order, "train")


def _listed(path: Path, speakers: Mapping[str, Sequence[str]], known: set[str]) -> list[str]:
    """Return the speakers that a list of utterances or speakers names."""
    listed = {words[0] for line in read_lines(path) if (words := line.split())}
    if unknown := sorted(listed - known):
        raise UserError(
            f"{path}: {', '.join(unknown[:_NAMED])}: expected names of utterances or speakers"
        )
    chosen = []
    for speaker, names in speakers.items():
        missing = [name for name in names if name not in listed]
        if speaker in listed or not missing:
            chosen.append(speaker)
        elif len(missing) < len(names):
            raise UserError(
                f"{path}: speaker {speaker}: lists some of its utterances, but not {missing[0]}; "
                "expected all or none: no speaker is in two splits"
            )
    if not chosen:
        raise UserError(f"{path}: names no utterance that has features and an alignment")
    return chosen


def write_corpus(
    writer: corpus.Writer,
    speakers: Mapping[str, Sequence[str]],
    split_of: Mapping[str, str],
    read: Callable[[str], Frames | None],
    left_out: LeftOut,
    *,
    normalise: str,
) -> str:
    """Write a corpus and, beside it, the log of what was left out; return a line about them.

    Memory holds the frames of one speaker at a time.

    Args:
        writer: of the corpus, not yet entered.
        speakers: their utterances.
        split_of: the split of each speaker.
        read: name of an utterance -> its frames, or nothing if it was left out.
        left_out: takes what cannot be used.
        normalise: one of NORMALISATIONS: where mean and variance are taken.

    Raises:
        UserError: a split would be empty, too many utterances cannot be used, or whatever `read`
            raises.
    """
    from tqdm import tqdm

    used = dict.fromkeys(corpus.SPLITS, 0)
    with writer:
        for speaker, names in tqdm(speakers.items(), "import", unit="speaker", disable=None):
            split = split_of[speaker]
            utterances = {
                name: frames
                for name in names
                if (frames := read(name)) is not None
                and _is_usable(name, frames[0], normalise, left_out)
            }
            matrices = [matrix for matrix, _ in utterances.values()]
            for name, matrix in zip(utterances, normalised(matrices, normalise), strict=True):
                targets = utterances[name][1]
                writer.add(split, corpus.Utterance(name, speaker, matrix, targets))
            used[split] += len(utterances)
        for split, count in used.items():
            if not count:
                raise UserError(f"{split} has no utterance that can be used{left_out.some()}")
    log = Path(f"{writer.path}.log")
    write_text(log, left_out.text())
    counts = ", ".join(f"{count} utterances for {split}" for split, count in used.items())
    return f"{writer.path}: {counts}; {len(left_out)} of {left_out.total} left out, see {log}"


def _is_usable(name: str, matrix: NDArray[np.float32], normalise: str, left_out: LeftOut) -> bool:
    # What is not normalised must fit into float16 as it is.
    largest = float(np.finfo(np.float16).max) if normalise == "none" else np.inf
    if not np.isfinite(matrix).all():
        left_out.add(name, "NaN or infinite features")
        return False
    if np.abs(matrix).max() > largest:
        left_out.add(name, f"features beyond {largest:g}, which float16 cannot hold")
        return False
    return True


def normalised(matrices: list[NDArray[np.float32]], over: str) -> list[NDArray[np.float32]]:
    """Return all matrices of a speaker normalised, over one of NORMALISATIONS."""
    if over == "speaker" and matrices:
        return features.normalise(matrices)
    if over == "utterance":
        return [features.normalise([matrix])[0] for matrix in matrices]
    return matrices
