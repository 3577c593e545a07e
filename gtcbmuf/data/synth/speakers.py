"""Random speakers: variants of espeak-ng's English voices."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

ACCENTS = (
    "en-us",
    "en",
    "en-gb-x-rp",
    "en-gb-scotland",
    "en-029",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-us-nyc",
)
_VARIANT = "speaker"
_FORMANTS = 9
_STRESSES = 8  # espeak-ng has a length for each of eight degrees of stress
_DATA = ("en_dict", "intonations", "phondata", "phonindex", "phontab")


@dataclass(frozen=True)
class Speaker:
    """A voice and its rate.

    Attributes:
        accent: name of an espeak-ng voice.
        variant: content of the espeak-ng variant file.
        rate: words per minute.
    """

    accent: str
    variant: str
    rate: int

    @property
    def voice(self) -> str:
        """Name of the voice in a data directory from `link_data`."""
        return f"{self.accent}+{_VARIANT}"


def draw_speaker(index: int, rates: tuple[float, float], rng: np.random.Generator) -> Speaker:
    """Draw a speaker.

    The voice has no echo. An echo would fill the silences, which mark the boundaries of phones.

    Args:
        index: number of the speaker. Successive speakers take the accents in turn.
        rates: range of the words per minute.
        rng: random stream.

    Returns:
        The speaker.
    """
    high = rng.random() < 0.5  # a high voice has a short vocal tract, and so higher formants
    pitch = rng.uniform(150, 230) if high else rng.uniform(75, 135)
    tract = rng.normal(112, 5) if high else rng.normal(98, 5)
    lines = [
        "language variant",
        f"name {_VARIANT}",
        f"pitch {pitch:.0f} {pitch * rng.uniform(1.2, 1.6):.0f}",
    ]
    for formant in range(_FORMANTS):
        frequency = tract * rng.normal(1, 0.04)
        height, width = rng.uniform(70, 130), rng.uniform(80, 150)
        lines.append(f"formant {formant} {frequency:.0f} {height:.0f} {width:.0f}")
    lines.append(f"flutter {rng.integers(0, 9)}")
    lines.append(f"roughness {rng.integers(0, 4)}")
    lines.append(f"voicing {rng.integers(75, 116)}")
    if rng.random() < 0.4:
        lines.append("breath " + _format_numbers(rng.integers(0, 7, _FORMANTS - 1)))
    if rng.random() < 0.15:
        lines.append(f"klatt {rng.integers(1, 5)}")
    lines.append("stressAdd " + _format_numbers(rng.integers(-20, 21, _STRESSES)))
    return Speaker(
        ACCENTS[index % len(ACCENTS)], "\n".join(lines) + "\n", round(rng.uniform(*rates))
    )


def link_data(speaker: Speaker, directory: Path) -> None:
    """Fill an espeak-ng data directory with the data of English and the voice of a speaker.

    The directory gets links to the data of the package espeakng_loader, and the speaker's variant
    file.

    Args:
        speaker: speaker of the voice.
        directory: empty directory.
    """
    from espeakng_loader import get_data_path

    data = Path(get_data_path())
    for name in _DATA:
        (directory / name).symlink_to(data / name)
    (directory / "lang").mkdir()
    (directory / "lang" / "gmw").symlink_to(data / "lang" / "gmw")
    variants = directory / "voices" / "!v"
    variants.mkdir(parents=True)
    (variants / _VARIANT).write_text(speaker.variant)


def _format_numbers(values: np.ndarray) -> str:
    return " ".join(map(str, values))
