"""`gtcbmuf corpus align`"""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError
from gtcbmuf.cli.common import Commands, add_command, job
from gtcbmuf.cli.corpus.import_options import add_audio_options, add_import_options

#: Options that only a corpus needs.
_OF_CORPUS = ("split_by", "valid", "test", "normalise")


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "align",
        "align recordings with their texts, from a flat start",
        "gtcbmuf corpus align recordings --lexicon cmudict.dict --to alignments",
        "gtcbmuf corpus align recordings --lexicon cmudict.dict --to alignments "
        "--out corpus/mine.h5",
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
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.h5",
        help="corpus file to write as well, as `gtcbmuf corpus import-audio` does",
    )
    add_import_options(parser)
    parser.add_argument("--resume", action="store_true", help="continue an interrupted alignment")
    parser.set_defaults(run=partial(run, {name: parser.get_default(name) for name in _OF_CORPUS}))


def run(defaults: Mapping[str, str], arguments: Any) -> None:
    """Align recordings, and import them if a corpus is asked for."""
    of_corpus = {name: getattr(arguments, name) for name in _OF_CORPUS}
    given = [name for name in _OF_CORPUS if of_corpus[name] != defaults[name]]
    if given and not arguments.out:
        raise UserError(f"--{given[0].replace('_', '-')}: only with --out")
    with job(alone=True) as world:
        from gtcbmuf.alignment.align import align
        from gtcbmuf.mpi.job import on_root

        if arguments.out:  # hours before it is written
            on_root(world, lambda: _check_import(arguments, of_corpus))
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
            print(text, flush=True)
        if arguments.out:
            on_root(world, lambda: print(_import(arguments, of_corpus)))


def _check_import(arguments: Any, of_corpus: Mapping[str, str]) -> None:
    """Check that the corpus can be written, and that nothing else goes there."""
    from gtcbmuf.data.importing.audio import check_import

    out, to = arguments.out, arguments.to
    for own in (to, Path(f"{to}.log"), Path(f"{to}.align/model.h5")):
        if os.path.realpath(out) == os.path.realpath(own):
            raise UserError(f"--out {out}: the alignment is written there")
    inputs = [Path(arguments.lexicon), arguments.texts, arguments.model]
    check_import(arguments.directory, out, inputs, speakers=arguments.speakers, **of_corpus)


def _import(arguments: Any, of_corpus: Mapping[str, str]) -> str:
    """Write the corpus of the alignments."""
    from gtcbmuf.acoustic.model_file import load_model
    from gtcbmuf.data.importing.audio import import_audio

    return import_audio(
        arguments.directory,
        arguments.out,
        alignments=arguments.to,
        sample_rate=arguments.sample_rate,
        speakers=arguments.speakers,
        phones=load_model(arguments.model).phones if arguments.model else None,
        most_bad=arguments.most_bad,
        **of_corpus,
    )
