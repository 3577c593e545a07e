"""The utterances of an alignment: their words, and a corpus with a flat start."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gtcbmuf.alignment.flat_start import flat_start
from gtcbmuf.alignment.graph import Graph, build_graph
from gtcbmuf.base.errors import UserError
from gtcbmuf.data import features
from gtcbmuf.data.corpus import SILENCE, SPLITS
from gtcbmuf.data.corpus_writer import CorpusWriter, Utterance
from gtcbmuf.data.importing.exclusions import EXAMPLES, Exclusions
from gtcbmuf.data.importing.lexicon import Lexicon
from gtcbmuf.data.importing.recordings import read_samples
from gtcbmuf.data.importing.speaker_rules import Speakers
from gtcbmuf.data.importing.transcripts import Transcripts

#: Number of unknown words that a message names.
_UNKNOWN = 10


@dataclass(frozen=True)
class Text:
    """The text of an utterance.

    Attributes:
        words: its words, as in the lexicon.
        pronunciations: indices of the phones of each pronunciation of each word.
        seconds: length of the recording; 0 until it has been read.
    """

    words: list[str]
    pronunciations: list[list[list[int]]]
    seconds: float = 0.0

    @property
    def graph(self) -> Graph:
        """The states that the utterance may pass through."""
        return build_graph(self.pronunciations)


def find_words(
    transcripts: Transcripts,
    lexicon: Lexicon,
    names: Mapping[str, Path],
    exclusions: Exclusions,
    inventory: tuple[str, ...] | None,
) -> tuple[dict[str, Text], list[str], str]:
    """Divide the texts into words, and look up their phones.

    Args:
        transcripts: texts of the recordings.
        lexicon: pronunciations of words.
        names: file of each utterance.
        exclusions: collects the utterances without a text, or with unknown words.
        inventory: phones of a model; by default, those that the words need.

    Returns:
        The text of each usable utterance, the names of the phones, and a line about unknown words,
        which is empty if there are none.

    Raises:
        UserError: too many utterances are unusable, a phone is not in the inventory, or the
            inventory does not begin with silence.
    """
    words_of: dict[str, list[str]] = {}
    unknown: Counter[str] = Counter()
    for name, fault in transcripts.faults.items():
        exclusions.add(name, fault)
    for name in names:
        if name in transcripts.faults:
            continue
        words = lexicon.words(transcripts.text_of.get(name, ""))
        missing = [word for word in words if word not in lexicon]
        unknown.update(missing)
        if missing:
            exclusions.add(name, f"unknown words: {', '.join(dict.fromkeys(missing))}")
        elif not words:
            exclusions.add(name, "no text")
        else:
            words_of[name] = words
    needed = {
        phone
        for words in words_of.values()
        for word in words
        for pronunciation in lexicon[word]
        for phone in pronunciation
    }
    phones = [SILENCE, *sorted(needed - {SILENCE})] if inventory is None else list(inventory)
    if phones[0] != SILENCE:
        raise UserError(
            f"the first phone of the model is {phones[0]}; expected {SILENCE}, as in corpora that "
            "gtcbmuf corpus has made"
        )
    if absent := sorted(needed - set(phones)):
        raise UserError(
            f"the model has no phone {', '.join(absent[:EXAMPLES])}; expected a lexicon with the "
            "phones of the model"
        )
    index = {phone: number for number, phone in enumerate(phones)}
    texts = {
        name: Text(words, [[[index[p] for p in phones] for phones in lexicon[w]] for w in words])
        for name, words in words_of.items()
    }
    listed = ", ".join(f"{word} ({count})" for word, count in unknown.most_common(_UNKNOWN))
    more = f" and {len(unknown) - _UNKNOWN} more" if len(unknown) > _UNKNOWN else ""
    return texts, phones, f"{len(unknown)} unknown words: {listed}{more}" if unknown else ""


def write_flat_start(
    path: Path,
    texts: Mapping[str, Text],
    recordings: Mapping[str, Path],
    speakers: Speakers,
    phones: list[str],
    sample_rate: int,
    exclusions: Exclusions,
) -> dict[str, Text]:
    """Write a corpus of all usable utterances, aligned at equal lengths.

    The first two utterances are the splits valid and test, so that nearly all train the model.

    Returns:
        The texts of the utterances in the corpus, with the lengths of their recordings.

    Raises:
        UserError: too many utterances are unusable, or fewer than three are left.
    """
    from tqdm import tqdm

    writer = corpus_writer(path, phones, sample_rate)
    done: dict[str, Text] = {}
    splits = iter(SPLITS[1:])
    with writer:
        for speaker, names in tqdm(
            speakers.group(texts).items(), "features", unit="speaker", disable=None
        ):
            matrices: dict[str, NDArray[np.float32]] = {}
            for name in names:
                try:
                    samples = read_samples(recordings[name], sample_rate)
                except UserError as error:
                    exclusions.add(name, str(error))
                    continue
                matrix, shortest = (
                    features.log_mel(samples, sample_rate),
                    texts[name].graph.shortest,
                )
                if len(matrix) < shortest:
                    exclusions.add(
                        name, f"{len(matrix)} frames for a text of {shortest} states or more"
                    )
                    continue
                matrices[name] = matrix
                text = texts[name]
                done[name] = Text(text.words, text.pronunciations, len(samples) / sample_rate)
            if not matrices:
                continue
            normalised = features.normalise(list(matrices.values()))
            for name, matrix in zip(matrices, normalised, strict=True):
                targets = flat_start(matrix, done[name].pronunciations)
                writer.add(next(splits, "train"), Utterance(name, speaker, matrix, targets))
        if len(done) < 3:
            raise UserError(f"{len(done)} usable utterances; expected 3 or more")
    return done


def corpus_writer(path: Path, phones: list[str], sample_rate: int) -> CorpusWriter:
    """Return the writer of a corpus for a round of an alignment."""
    return CorpusWriter(
        path,
        phones=phones,
        target_phone=features.target_phone(len(phones)),
        attributes={
            "source": "alignment",
            "sample_rate": sample_rate,
            "frame_shift_ms": features.frame_shift_ms(sample_rate),
            "split_by": "utterance",
            "normalisation": "speaker",
        },
    )
