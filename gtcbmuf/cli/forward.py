"""`gtcbmuf forward`"""

from pathlib import Path
from typing import Any

from gtcbmuf.cli.common import Commands


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("forward", help="log-posteriors as a Kaldi archive")
    parser.add_argument("model", type=Path, metavar="MODEL.h5")
    parser.add_argument(
        "frames",
        type=Path,
        metavar="CORPUS.h5 | FEATS.scp",
        help="a corpus, or Kaldi's features, which need no alignment",
    )
    parser.add_argument("--utt2spk", type=Path, metavar="FILE", help="the speakers of FEATS.scp")
    parser.add_argument("--cmvn", type=Path, metavar="CMVN.scp", help="statistics for FEATS.scp")
    parser.add_argument("--ark", type=Path, required=True, metavar="FILE.ark")
    parser.add_argument("--split", choices=("train", "valid", "test"), help="of the corpus (test)")
    parser.add_argument(
        "--minus-log-priors", action="store_true", help="log-likelihoods, as decoders want them"
    )
    parser.set_defaults(run=run)


def run(arguments: Any) -> None:
    """Write the archive of log-posteriors."""
    from gtcbmuf.acoustic.kaldi_export import export_posteriors

    print(
        export_posteriors(
            arguments.model,
            arguments.frames,
            arguments.ark,
            split=arguments.split,
            utt2spk=arguments.utt2spk,
            cmvn=arguments.cmvn,
            minus_log_priors=arguments.minus_log_priors,
        )
    )
