"""Options that both import commands share."""

import argparse
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
    parser.add_argument(
        "--most-bad",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="largest share of the utterances that may be left out (default: 0.05)",
    )
    normalisation = parser.add_mutually_exclusive_group()
    normalisation.add_argument(
        "--normalise",
        default="speaker",
        metavar="OVER",
        help="scope of mean and variance: speaker, utterance or none (default: speaker)",
    )
    return normalisation
