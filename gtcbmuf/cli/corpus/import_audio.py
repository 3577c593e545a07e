"""`gtcbmuf corpus import-audio`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_command
from gtcbmuf.cli.corpus.import_options import add_audio_options, add_import_options


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "import-audio",
        "import recordings with phone alignments",
        "gtcbmuf corpus import-audio recordings --out corpus/mine.h5",
        "gtcbmuf corpus import-audio recordings --alignments phones.ctm --out corpus/mine.h5",
        "gtcbmuf corpus import-audio recordings --speakers 'pattern:/(.+)_' --out corpus/mine.h5",
    )
    add_audio_options(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.h5", help="corpus file to write"
    )
    parser.add_argument(
        "--alignments",
        type=Path,
        metavar="DIR_OR_CTM",
        help="folder of TextGrids, or a CTM file, such as the Montreal Forced Aligner's "
        "(default: DIR)",
    )
    parser.add_argument(
        "--phones",
        type=Path,
        metavar="FILE",
        help="phones of the corpus, one per line (default: those that occur)",
    )
    add_import_options(parser)
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Import recordings."""
    from gtcbmuf.data.importing.audio import import_audio

    print(
        import_audio(
            arguments.directory,
            arguments.out,
            alignments=arguments.alignments,
            sample_rate=arguments.sample_rate,
            speakers=arguments.speakers,
            split_by=arguments.split_by,
            valid=arguments.valid,
            test=arguments.test,
            phones=arguments.phones,
            normalise=arguments.normalise,
            most_bad=arguments.most_bad,
        )
    )
