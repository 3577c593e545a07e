"""The synthetic corpus of a study: its parameters, its synthesis, and the check of its file."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gtcbmuf.base.errors import UserError
from gtcbmuf.data.corpus import open_corpus
from gtcbmuf.data.synth.presets import PRESETS, SynthPreset, preset_attributes
from gtcbmuf.data.synth.synthesis import synthesise


class Synthesis(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a corpus by `gtcbmuf corpus synth`.

    Attributes:
        preset: name of a preset of `gtcbmuf corpus synth`.
        hours: hours of speech.
        seed: seed of all random numbers.
    """

    preset: Literal["tiny", "small", "medium", "large"]
    hours: Annotated[float, Meta(gt=0, le=1e5)]
    seed: Annotated[int, Meta(ge=0, lt=2**62)] = 0

    def arguments(self, out: Path) -> list[str]:
        """Return the arguments of `gtcbmuf corpus` that write this corpus to `out`.

        >>> Synthesis("tiny", 0.5).arguments(Path("a.h5"))[:5]
        ['synth', '--preset', 'tiny', '--hours', '0.5']
        """
        hours = repr(self.hours).removesuffix(".0")
        options = ("--preset", self.preset, "--hours", hours, "--seed", str(self.seed))
        return ["synth", *options, "--out", str(out)]

    def parameters(self) -> SynthPreset:
        """Return the parameters of the corpus."""
        return dataclasses.replace(PRESETS[self.preset], hours=self.hours)


def synthesise_corpus(path: Path, synthesis: Synthesis) -> None:
    """Synthesise the corpus of a study, unless the file exists.

    Raises:
        UserError: the extra `synth` is not installed, or the file cannot be written.
    """
    if path.exists():
        return
    print(f"synthesising {synthesis.hours:g} hours of speech: {path}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    synthesise(synthesis.parameters(), path, seed=synthesis.seed)


def check_corpus(path: Path, synthesis: Synthesis) -> None:
    """Check that a corpus has the parameters and the seed of its synthesis.

    Raises:
        UserError: a parameter differs, or the file is not a corpus.
    """
    attributes = open_corpus(path).attributes
    for key, value in preset_attributes(synthesis.parameters(), synthesis.seed).items():
        if attributes.get(key) != value:
            raise UserError(
                f"{path}: was synthesised with {key} = {attributes.get(key)}, but the preset has "
                f"{value}; remove the file to synthesise it again"
            )
