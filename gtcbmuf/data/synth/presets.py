"""The parameters of synthetic corpora, and presets of several sizes."""

from dataclasses import asdict, dataclass

from gtcbmuf.data.corpus import SPLITS


@dataclass(frozen=True)
class SynthPreset:
    """The parameters of a synthetic corpus.

    A triple has a value for each split: train, valid and test. A pair is the range of a random
    value.

    Attributes:
        hours: hours of speech in the whole corpus.
        speakers: number of speakers in each split.
        shares: share of the hours in each split.
        rate_wpm: words per minute of a speaker.
        snr_db: signal-to-noise ratio of an utterance in dB.
        gain_db: gain of an utterance in dB.
        tilt: largest spectral tilt of an utterance, as in `gtcbmuf.data.synth.noise.degrade`.
    """

    hours: float
    speakers: tuple[int, int, int]
    shares: tuple[float, float, float] = (0.75, 0.125, 0.125)
    rate_wpm: tuple[float, float] = (140.0, 210.0)
    snr_db: tuple[float, float] = (5.0, 20.0)
    gain_db: tuple[float, float] = (-10.0, 10.0)
    tilt: float = 0.4


PRESETS = {
    "tiny": SynthPreset(hours=0.2, speakers=(12, 2, 2)),
    "small": SynthPreset(hours=2.0, speakers=(36, 6, 6)),
    "medium": SynthPreset(hours=20.0, speakers=(240, 40, 40)),
    "large": SynthPreset(hours=100.0, speakers=(960, 120, 120)),
}


def preset_attributes(preset: SynthPreset, seed: int) -> dict[str, int | float]:
    """Return the corpus attributes that identify a preset and a seed.

    >>> attributes = preset_attributes(PRESETS["tiny"], seed=3)
    >>> attributes["seed"], attributes["speakers_train"], attributes["snr_db_low"]
    (3, 12, 5.0)
    """
    attributes: dict[str, int | float] = {"seed": seed}
    for name, value in asdict(preset).items():
        match value:
            case (low, high):
                attributes |= {f"{name}_low": low, f"{name}_high": high}
            case (_, _, _):
                attributes |= {f"{name}_{split}": v for split, v in zip(SPLITS, value, strict=True)}
            case _:
                attributes[name] = value
    return attributes
