"""Every kind of HDF5 file, written and read: python tests/support/lockless.py FOLDER ERRNO...

Locks below the folder fail with each ERRNO in turn, if tests/support/flock.c is preloaded. Prints
JSON: for each ERRNO, and for 0 without failures, the hashes of the files and the lines on stderr.
"""

import hashlib
import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from mpi4py import MPI
from support.corpora import write_corpus

from gtcbmuf.acoustic.kaldi_export import export_posteriors
from gtcbmuf.acoustic.score import score
from gtcbmuf.cluster.doctor import diagnose
from gtcbmuf.data.corpus import find_damage
from gtcbmuf.training.checkpoints import Checkpoints
from gtcbmuf.training.run import train


def write_and_read(place: Path) -> None:
    """Write a corpus, a checkpoint and a run, and read them again."""
    corpus, run = place / "corpus.h5", place / "run"
    write_corpus(corpus, train_frames=600)
    assert find_damage(corpus) == []
    checkpoints = Checkpoints(MPI.COMM_SELF, place / "checkpoints", 1)
    state = {"model": np.arange(3, dtype=np.float32)}
    checkpoints.save(1, state, {}, {"epoch": 0})
    loaded = checkpoints.load()
    assert loaded is not None
    assert np.array_equal(loaded.state["model"], state["model"])
    train("sgd", [f"corpus.path={corpus}", "model.hidden=[8]", "train.epochs=1"], run)
    score(MPI.COMM_SELF, run / "model.h5", corpus)
    export_posteriors(run / "model.h5", corpus, place / "test.ark")
    [finding] = [one for one in diagnose(MPI.COMM_SELF, corpus) if one.subject == "corpus"]
    assert not finding.hint, finding


def hashes(place: Path) -> list[str]:
    """The hashes of the files whose bytes do not depend on the clock."""
    files = ("corpus.h5", "checkpoints/*/rank-*.h5", "run/model.h5", "test.ark")
    paths = [path for file in files for path in place.glob(file)]
    assert len(paths) == len(files), paths
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def main() -> None:
    """Print the results for each error number."""
    folder, found = Path(sys.argv[1]), {}
    for number in ("0", *sys.argv[2:]):
        place = folder / number
        place.mkdir()
        os.environ["FLOCK_BELOW"] = str(place)
        os.environ["FLOCK_ERRNO"] = number
        if number == "0":
            del os.environ["FLOCK_ERRNO"]
        with redirect_stderr(io.StringIO()) as lines, redirect_stdout(io.StringIO()):
            write_and_read(place)
        found[number] = {"hashes": hashes(place), "lines": lines.getvalue().splitlines()}
    print(json.dumps(found))


main()
