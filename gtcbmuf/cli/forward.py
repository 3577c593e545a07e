"""`gtcbmuf forward`"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from gtcbmuf.base.errors import UserError
from gtcbmuf.cli.common import Commands, add_command, compile_kernels

_STDOUT = Path("/dev/stdout")


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "forward",
        "write log-posteriors of a model as a Kaldi archive",
        "gtcbmuf forward runs/hybrid/model.h5 corpus/quickstart.h5 --ark test.ark",
        "gtcbmuf forward runs/kaldi/model.h5 feats.scp --minus-log-priors --ark test.ark",
    )
    parser.add_argument("model", type=Path, metavar="MODEL.h5", help="model of a finished run")
    parser.add_argument(
        "frames",
        type=Path,
        metavar="CORPUS.h5 | FEATS.scp",
        help="corpus file, or Kaldi features without alignments",
    )
    parser.add_argument(
        "--utt2spk",
        type=Path,
        metavar="FILE",
        help="speakers of FEATS.scp (default: one per utterance)",
    )
    parser.add_argument(
        "--cmvn", type=Path, metavar="CMVN.scp", help="mean and variance statistics for FEATS.scp"
    )
    parser.add_argument(
        "--ark",
        type=_archive,
        required=True,
        metavar="FILE.ark",
        help="archive to write; - is standard output",
    )
    parser.add_argument(
        "--split", choices=("train", "valid", "test"), help="split of CORPUS.h5 (default: test)"
    )
    parser.add_argument(
        "--minus-log-priors",
        action="store_true",
        help="subtract the log-priors of the targets, as hybrid decoders expect",
    )
    parser.set_defaults(run=run)


def _archive(text: str) -> Path:
    """The path of an archive, which may be written as for Kaldi's programs."""
    name = text.removeprefix("ark:")
    if name.startswith("|") or re.match(r"(ark|scp)(,\w+)*:", name):
        raise UserError(
            f"--ark {text}: expected FILE.ark, ark:FILE.ark or -; the archive is binary"
        )
    return _STDOUT if name == "-" else Path(os.path.expanduser(name))


def run(arguments: Any) -> None:
    """Write the archive of log-posteriors."""
    from gtcbmuf.acoustic.kaldi_export import export_posteriors

    compile_kernels()
    line = export_posteriors(
        arguments.model,
        arguments.frames,
        arguments.ark,
        split=arguments.split,
        utt2spk=arguments.utt2spk,
        cmvn=arguments.cmvn,
        minus_log_priors=arguments.minus_log_priors,
    )
    print(line, file=sys.stderr if arguments.ark == _STDOUT else sys.stdout)
