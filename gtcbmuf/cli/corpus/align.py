"""`gtcbmuf corpus align`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_command, job
from gtcbmuf.cli.corpus.import_options import add_audio_options, add_most_bad


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "align",
        "align recordings with their texts, from a flat start",
        "gtcbmuf corpus align recordings --lexicon cmudict.dict --to alignments",
        "mpirun -n 4 gtcbmuf corpus align recordings --texts text --lexicon lexicon.txt "
        "--to phones.ctm",
        "gtcbmuf corpus align more --lexicon cmudict.dict --model alignments.align/model.h5 "
        "--to more-alignments",
    )
    add_audio_options(parser)
    parser.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="DIR_OR_CTM",
        help="folder for TextGrids, or a file that ends with .ctm",
    )
    parser.add_argument(
        "--lexicon",
        required=True,
        metavar="FILE_OR_VOICE",
        help="words with their phones, as CMUdict or Kaldi's lexicon.txt, or espeak:VOICE such as "
        "espeak:en-us",
    )
    parser.add_argument(
        "--texts",
        type=Path,
        metavar="DIR_OR_FILE",
        help="folder of .txt or .lab files, or a table such as Kaldi's text (default: DIR)",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="MODEL.h5",
        help="align once with this model, and train none",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a key of the training's configuration (repeatable)",
    )
    add_most_bad(parser)
    parser.add_argument("--resume", action="store_true", help="continue an interrupted alignment")
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Align recordings."""
    with job(alone=True) as world:
        from gtcbmuf.alignment.align import align

        text = align(
            world,
            arguments.directory,
            arguments.to,
            lexicon=arguments.lexicon,
            texts=arguments.texts,
            sample_rate=arguments.sample_rate,
            speakers=arguments.speakers,
            model=arguments.model,
            settings=arguments.settings,
            most_bad=arguments.most_bad,
            resume=arguments.resume,
        )
        if world.rank == 0:
            print(text)
