"""`gtcbmuf corpus import-kaldi`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands, add_command
from gtcbmuf.cli.corpus.import_options import add_import_options


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "import-kaldi",
        "import features and alignments from Kaldi",
        "gtcbmuf corpus import-kaldi --feats data/train/feats.scp --ali 'pdf.*.gz' \\",
        "    --utt2spk data/train/utt2spk --pdfs 2016 --out corpus/train.h5",
    )
    parser.add_argument(
        "--feats",
        type=Path,
        required=True,
        metavar="FEATS.scp",
        help="script file of the features",
    )
    parser.add_argument(
        "--ali",
        nargs="+",
        required=True,
        metavar="ALI.gz",
        help="archives of alignments, or patterns, with one pdf-id per frame",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.h5", help="corpus file to write"
    )
    parser.add_argument(
        "--utt2spk",
        type=Path,
        metavar="FILE",
        help="speakers of the utterances (default: one per utterance)",
    )
    parser.add_argument(
        "--pdfs",
        type=int,
        metavar="N",
        help="number of pdf-ids, as am-info prints it (default: the largest pdf-id plus one)",
    )
    add_import_options(parser).add_argument(
        "--cmvn",
        type=Path,
        metavar="CMVN.scp",
        help="mean and variance statistics of each speaker or utterance",
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Import features and alignments."""
    from gtcbmuf.data.importing.kaldi import import_kaldi

    print(
        import_kaldi(
            arguments.feats,
            arguments.ali,
            arguments.out,
            utt2spk=arguments.utt2spk,
            pdfs=arguments.pdfs,
            split_by=arguments.split_by,
            valid=arguments.valid,
            test=arguments.test,
            normalise=arguments.normalise,
            cmvn=arguments.cmvn,
            most_bad=arguments.most_bad,
        )
    )
