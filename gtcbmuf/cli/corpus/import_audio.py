"""`gtcbmuf corpus import-audio`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_command
from gtcbmuf.cli.corpus.import_options import add_import_options


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
    parser.add_argument(
        "directory",
        type=Path,
        metavar="DIR",
        help="folder of audio files, such as .wav, .flac, .mp3, .ogg and .opus",
    )
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
