"""A study of four jobs on a tiny corpus: python tests/studying.py CORPUS FOLDER EPOCHS [slurm]"""

import sys
from pathlib import Path

from gtcbmuf.errors import UserError
from gtcbmuf.preset import Job, Source
from gtcbmuf.reproduce import Study

corpus, folder, epochs = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
common = (f"train.epochs={epochs}", "model.hidden=[24]", "train.checkpoint_every=10 steps")
jobs = [
    Job("sgd", 1, 0, common, tests=True),
    Job("sync-sgd", 2, 0, (*common, "train.learning_rate=1e6")),
    Job("gtc-bmuf", 2, 0, (*common, "topology.group_size=3")),
    Job("gtc", 2, 1, (*common, "exchange.tau=1")),
]
source = Source("tiny", 0.1) if sys.argv[4:] == ["slurm"] else None
study = Study(jobs, corpus, folder / "runs", folder / "results.csv", source=source)
try:
    if source:
        study.submit("a-study")
    else:
        study.run()
except UserError as error:
    print(f"gtcbmuf: {error}", file=sys.stderr)
    raise SystemExit(error.status) from None
finally:
    print([result.method for result in study.results()])
