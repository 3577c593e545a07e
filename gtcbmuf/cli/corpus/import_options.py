"""Options that several commands share."""

import argparse
from pathlib import Path
from typing import Any


def add_import_options(parser: argparse.ArgumentParser) -> Any:
    """Add the shared options.

    Returns:
        The group of `--normalise`, for options that exclude it.
    """
    parser.add_argument(
        "--split-by",
        default="speaker",
        metavar="UNIT",
        help="speaker: no speaker is in two splits; utterance: for few speakers (default: speaker)",
    )
    for split in ("valid", "test"):
        parser.add_argument(
            f"--{split}",
            default="0.1",
            metavar="LIST_OR_SHARE",
            help=f"{split} split: a share of the time, or a file that lists utterances or "
            "speakers (default: 0.1)",
        )
    add_most_bad(parser)
    normalisation = parser.add_mutually_exclusive_group()
    normalisation.add_argument(
        "--normalise",
        default="speaker",
        metavar="OVER",
        help="scope of mean and variance: speaker, utterance or none (default: speaker)",
    )
    return normalisation


def add_most_bad(parser: argparse.ArgumentParser) -> None:
    """Add the option for the share of unusable utterances."""
    parser.add_argument(
        "--most-bad",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="largest share of the utterances that may be left out (default: 0.05)",
    )


def add_audio_options(parser: argparse.ArgumentParser) -> None:
    """Add the folder of recordings, their sample rate and their speakers."""
    parser.add_argument(
        "directory",
        type=Path,
        metavar="DIR",
        help="folder of audio files, such as .wav, .flac, .mp3, .ogg and .opus",
    )
    parser.add_argument(
        "--sample-rate",
        type=int,
        default=16000,
        metavar="HZ",
        help="sample rate of the features; higher rates are resampled (default: 16000)",
    )
    parser.add_argument(
        "--speakers",
        default="folder",
        metavar="RULE_OR_FILE",
        help="who speaks: folder (the first below DIR), folder:N, prefix:N (characters of the file "
        "name), pattern:REGEX (its group in the path), or a file such as utt2spk (default: folder)",
    )
