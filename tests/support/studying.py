"""Runs a study of four runs: python tests/support/studying.py CORPUS FOLDER EPOCHS [slurm]"""

import sys
from pathlib import Path

from gtcbmuf.base.errors import UserError
from gtcbmuf.studies.presets import RunSpec
from gtcbmuf.studies.study import Study
from gtcbmuf.studies.synthesis import Synthesis

corpus, folder, epochs = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
common = (f"train.epochs={epochs}", "model.hidden=[24]", "train.checkpoint_every=10 steps")
runs = [
    RunSpec("sgd", 1, 0, common, test=True),
    RunSpec("sync-sgd", 2, 0, (*common, "train.learning_rate=1e6")),
    RunSpec("gtc-bmuf", 2, 0, (*common, "topology.group_size=3")),
    RunSpec("gtc", 2, 1, (*common, "exchange.tau=1")),
]
synthesis = Synthesis("tiny", 0.1) if sys.argv[4:] == ["slurm"] else None
study = Study(runs, corpus, folder / "runs", folder / "results.csv", synthesis=synthesis)
try:
    if synthesis:
        study.submit("a-study")
    else:
        study.run()
except UserError as error:
    print(f"gtcbmuf: {error}", file=sys.stderr)
    raise SystemExit(error.status) from None
finally:
    print([result.method for result in study.results()])
