"""Every message on the page of errors exists: it is provoked here, or found in the source.

`...` in a message matches anything. The rest is compared as it is, from the first to the last
character of the line after `gtcbmuf: `.
"""

import ast
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import h5py
import numpy as np
import pytest
from mpi4py import MPI
from support.clusters import COMPUTE, NETWORK
from support.corpora import write_corpus
from support.launch import ROOT, program, run
from support.runs import SUMMARY, write_run

from gtcbmuf.acoustic.mlp import Architecture
from gtcbmuf.acoustic.model_file import SavedModel, save_model
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.extras import require_extra
from gtcbmuf.base.provenance import processor
from gtcbmuf.cluster.profile import VERSION, ClusterProfile, write_profile
from gtcbmuf.config.loading import load_config
from gtcbmuf.config.schema import resolve_group_size
from gtcbmuf.data.corpus_format import format_user_block, hash_content
from gtcbmuf.data.importing.kaldi_features import read_features
from gtcbmuf.data.importing.kaldi_tables import read_scp, read_speakers
from gtcbmuf.data.importing.text_lines import read_lines
from gtcbmuf.mpi import launcher
from gtcbmuf.mpi.job import CollectiveError
from gtcbmuf.studies.synthesis import Synthesis, check_corpus
from gtcbmuf.training import checkpoint_files, directory_claim
from gtcbmuf.training.checkpoints import Checkpoints
from gtcbmuf.training.run_directory import RunDirectory

PAGE = ROOT / "docs/reference/errors.md"
#: Stands for an expression of an f-string; no message contains it.
EXPRESSION = "\ufffd"
FAULTY = "python {root}/tests/support/faulty.py"


class Row(NamedTuple):
    """A row of the page."""

    situation: str
    message: str
    status: str


def rows() -> list[Row]:
    """Read the tables that have a column of messages and one of what to do."""
    tables = PAGE.read_text().split("| situation | message | status | what to do |\n")[1:]
    lines = [line for table in tables for line in table.partition("\n\n")[0].splitlines()[1:]]
    found = []
    for line in lines:
        situation, message, status, _ = (cell.strip() for cell in line.strip("|").split(" | "))
        assert re.fullmatch("`[^`]+`", message), message
        found.append(Row(situation, message.strip("`"), status))
    return found


def pattern(message: str) -> re.Pattern[str]:
    """The lines that a message on the page stands for."""
    parts = message.split("...")
    assert sum(map(len, parts)) >= 10, f"{message!r} says too little"
    return re.compile(".*".join(map(re.escape, parts)), re.DOTALL)


# Messages in the source


@cache
def templates() -> list[str]:
    """The string literals of the program, except docstrings; EXPRESSION is in an f-string."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / "gtcbmuf").rglob("*.py"))
    return [text for tree in trees for text in literals(tree)]


def literals(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Expr(value=ast.Constant()):  # a docstring
            return
        case ast.JoinedStr(values=values):
            parts = [str(v.value) if isinstance(v, ast.Constant) else EXPRESSION for v in values]
            yield "".join(parts).removeprefix("gtcbmuf: ")
        case ast.Constant(value=str(text)):
            yield text
        case _:
            for child in ast.iter_child_nodes(node):
                yield from literals(child)


# Messages that commands print


#: The command that provokes a message, in the folder `place`, by situation.
COMMANDS = {
    "another destination of Kaldi's in `forward`": "gtcbmuf forward m.h5 c.h5 --ark ark,t:a.txt",
    "no such configuration": "gtcbmuf train nope",
    "configuration with a syntax error": "gtcbmuf train broken.toml",
    "unknown key": "gtcbmuf train gtc --set exchange.tua=1",
    "value out of bounds": "gtcbmuf train gtc --set exchange.tau=-1",
    "`--set` without a value": "gtcbmuf train gtc --set exchange.tau",
    "unknown option": "gtcbmuf submit gtc --nods 4",
    "checkpoints at no interval": "gtcbmuf train gtc --set train.checkpoint_every=often",
    "Nesterov without momentum": "gtcbmuf train gtc --set train.optimizer=nesterov",
    "AdamW with momentum": (
        "gtcbmuf train gtc --set train.optimizer=adamw --set train.momentum=0.9"
    ),
    "weight decay without AdamW": "gtcbmuf train gtc --set train.weight_decay=0.1",
    "integers with overlap": (
        "gtcbmuf train sync-sgd --set exchange.bits=16 --set exchange.overlap=true"
    ),
    "delay with classical block momentum": (
        "gtcbmuf train bmuf --set block_filter.delay=2 --set block_filter.nesterov=false"
    ),
    "delay of a block": "gtcbmuf train gtc-bmuf --set block_filter.delay=50",
    "workers that the ranks cannot divide": "mpirun -n 2 gtcbmuf train gtc --workers 3",
    "no worker": "gtcbmuf train gtc --workers 0",
    "more workers than fit into memory": (
        "gtcbmuf train gtc --workers 100000 --set corpus.path=corpus.h5"
        " --set model.hidden=[1000,1000]"
    ),
    "sgd on several workers": "mpirun -n 2 gtcbmuf train sgd --set corpus.path=corpus.h5",
    "command of one process, started on ranks": "mpirun -n 2 gtcbmuf reproduce tuning",
    "invalid number of threads": "env OMP_NUM_THREADS=0 gtcbmuf train gtc",
    "no MPI library": "env MPI4PY_LIBMPI=/nowhere gtcbmuf topology gtc",
    "no corpus file": "gtcbmuf corpus info none.h5",
    "options of a corpus without one": (
        "gtcbmuf corpus align . --lexicon espeak:en --to grids --split-by utterance"
    ),
    "foreign HDF5 file": "gtcbmuf corpus info model.h5",
    "truncated corpus": "gtcbmuf corpus info truncated.h5",
    "changed bytes in a corpus, found by `corpus verify`": "gtcbmuf corpus verify changed.h5",
    "corpus of another program with invalid features, found by `corpus verify`": (
        "gtcbmuf corpus verify nonfinite.h5"
    ),
    "model file of another kind or version": "gtcbmuf score corpus.h5 corpus.h5",
    "damaged model file": "gtcbmuf score damaged.h5 corpus.h5",
    "model for other features": "gtcbmuf score inputs.h5 corpus.h5",
    "model for other targets": "gtcbmuf score targets.h5 corpus.h5",
    "model for other phones": "gtcbmuf score phones.h5 corpus.h5",
    "`--resume-weights` for other phones": (
        "gtcbmuf train sgd --set corpus.path=corpus.h5 --resume-weights phones.h5"
    ),
    "model for another normalisation": "gtcbmuf score model.h5 plain.h5",
    "network of your own on the command line": "gtcbmuf score own.h5 corpus.h5",
    "corpus that cannot be copied to a host's disk": (
        "gtcbmuf train sgd --set corpus.path=corpus.h5 --out scratch --scratch file/scratch"
    ),
    "run directory that is something else": (
        "gtcbmuf train sgd --set corpus.path=corpus.h5 --out corpus.h5"
    ),
    "run directory that cannot be made": (
        "gtcbmuf train sgd --set corpus.path=corpus.h5 --out file/run"
    ),
    "`--resume` of a finished run with other settings": (
        "gtcbmuf train sgd --set corpus.path=corpus.h5 --out run --resume"
    ),
    "report of an unfinished run": "gtcbmuf report nowhere",
    "damaged file of a run directory": "gtcbmuf report damaged",
    "path that is too long, or a folder that cannot be read": (
        f"gtcbmuf train sgd --set corpus.path=corpus.h5 --resume --out {300 * 'x'}/run"
    ),
    "other output on stdout that cannot be written": (
        "sh -c '{gtcbmuf} corpus info corpus.h5 > /dev/full'"
    ),
    "loss, gradient or model not finite": (
        "gtcbmuf train sgd --set corpus.path=corpus.h5 --out diverged --set train.learning_rate=1e6"
    ),
    "different replicas (`train.verify = true`)": (
        f"mpirun -n 2 {FAULTY} 'flips a bit' 1 train gtc --out replicas"
        " --set corpus.path=corpus.h5 --set train.verify=true"
    ),
    "damaged message between hosts": (
        f"mpirun -n 2 {FAULTY} 'sends a message out of bounds' 1 train gtc --out message"
        " --set corpus.path=corpus.h5"
    ),
    "exception on one rank": (
        f"mpirun -n 2 {FAULTY} raises 1 train gtc --out raises --set corpus.path=corpus.h5"
    ),
    "preset that is no file": "gtcbmuf reproduce tuning --preset big",
    "no corpus of real speech": "gtcbmuf reproduce tuning --preset real --results mine",
    "unknown key in a preset": "gtcbmuf reproduce tuning --preset keys.toml",
    "invalid setting in a preset": "gtcbmuf reproduce tuning --preset settings.toml",
    "`gtcbmuf init` into a folder with files": "gtcbmuf init bin",
    "option of another study": "gtcbmuf reproduce tuning --seeds 1",
    "sgd without a chosen setting": "gtcbmuf reproduce error-table --preset untuned.toml",
    "preset without choices": "gtcbmuf reproduce choices --preset untuned.toml",
    "trade-off without an error table": (
        "gtcbmuf reproduce trade-off --results nowhere --cluster cluster.toml"
    ),
    "results folder that cannot be written": (
        "gtcbmuf reproduce tuning --preset untuned.toml --results file"
    ),
    "no Slurm": "env PATH=/nowhere {gtcbmuf} submit gtc --nodes 1 --set corpus.path=corpus.h5",
    "job that Slurm refuses": (
        "env PATH=bin:/usr/bin:/bin {gtcbmuf} submit gtc --nodes 1 --set corpus.path=corpus.h5"
    ),
    **{
        situation: f"gtcbmuf plan --workers 8 --parameters 1e6 {options}"
        for situation, options in {
            "no cluster file": "",
            "invalid value in a cluster file": "--cluster value.toml",
            "cluster file of another version": "--cluster version.toml",
            "cluster file of another processor": "--cluster elsewhere.toml",
            "cluster file without a processor": "--cluster nameless.toml",
            "cluster file without a network": "--cluster compute.toml",
            "group size of a plan that does not divide the workers": (
                "--cluster cluster.toml --group-size 3"
            ),
            "option of a plan out of bounds": "--cluster cluster.toml --density 0",
            "overlap of integers in a plan": "--cluster cluster.toml --bits 16 --overlap",
            "picture that cannot be drawn": "--cluster cluster.toml --plot file/x.png",
        }.items()
    },
}


# Messages that functions raise or print


def group_size(method: str, workers: int, *settings: str, hosts: tuple[int, ...] = ()) -> None:
    resolve_group_size(load_config(method, settings), workers, hosts)


def under_open_mpi(check: Callable[[], None]) -> None:
    """Call a check of the launcher as a rank of four under Open MPI's mpirun would."""
    with mock.patch.dict("os.environ", {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}):
        check()


def import_kaldi(place: Path, damage: str) -> None:
    """Import a small experiment of Kaldi's that has a fault."""
    pytest.importorskip("kaldi_native_io")
    from support.kaldi import make_directory

    folder = place / "kaldi"
    folder.mkdir()
    try:
        experiment = make_directory(folder)
        if damage == "alignments":
            experiment.targets = dict(list(experiment.targets.items())[:18])
        if damage == "chain":
            experiment.targets = {name: t[::3] for name, t in experiment.targets.items()}
        experiment.write().make(**({"pdfs": 2} if damage == "pdfs" else {}))
    finally:
        shutil.rmtree(folder)


def read_table(place: Path, name: str, text: str, encoding: str = "utf-8") -> None:
    """Read a table of Kaldi's, as the function for its name does."""
    path = place / name
    path.write_text(text, encoding=encoding)
    if name == "feats.scp":
        (place / "a.ark").touch()
        read_scp(path)
    elif name == "utt2spk":
        read_speakers(path, [])
    else:
        list(read_lines(path))


def read_empty_matrix(place: Path) -> None:
    """Read the features of an utterance without frames, as `forward` does."""
    kaldi_native_io = pytest.importorskip("kaldi_native_io")
    table = place / "feats.scp"
    with kaldi_native_io.FloatMatrixWriter(f"ark,scp:{place}/a.ark,{table}") as writer:
        writer.write("a", np.zeros((0, 0), np.float32))
    list(read_features(table, 40, "none"))


def import_audio(place: Path, damage: str, **options: object) -> None:
    """Import recordings that have a fault."""
    from support.audio import make_directory

    directory = make_directory(place / "audio")
    if damage == "channels":
        directory.recordings = {k: np.stack([x, x], 1) for k, x in directory.recordings.items()}
    if damage == "rate":
        directory.rate = 8000
    directory.write()
    if damage == "content":
        for key in directory.recordings:
            directory.file(key).write_text("text")
    try:
        directory.make(**options)
    finally:
        shutil.rmtree(directory.path)


def read_texts(place: Path, table: str) -> None:
    """Read the texts of the recording a: a table, or a folder without texts."""
    from gtcbmuf.data.importing.transcripts import read_transcripts

    source = place / "texts" if table else place / "bin"
    (place / "texts").write_text(table)
    read_transcripts(source, {"a": Path("a.wav")})


def read_words(place: Path, content: str) -> None:
    """Read a lexicon."""
    from gtcbmuf.data.importing.lexicon import read_lexicon

    (place / "lexicon").write_text(content)
    read_lexicon(place / "lexicon")


def open_voice(place: Path) -> None:
    """Open a lexicon of a voice that espeak-ng does not have."""
    pytest.importorskip("espeakng_loader")
    from gtcbmuf.data.importing.espeak_lexicon import EspeakLexicon

    EspeakLexicon("xx-nowhere")


def read_alignment_state(place: Path) -> None:
    """Read a state of an alignment that is damaged."""
    from gtcbmuf.alignment.align import State

    (place / "state.json").write_text("{")
    State.read(place / "state.json")


def reopen_finished(place: Path) -> None:
    """Reopen the directory of a run that has ended."""
    (place / "finished").mkdir(exist_ok=True)
    (place / "finished/summary.json").touch()
    RunDirectory.reopen(place / "finished", epochs=0, facts={}, saved={})


def find_words(place: Path, phones: tuple[str, ...]) -> None:
    """Look up the phones of a text, for a model with these phones."""
    from gtcbmuf.alignment import preparation
    from gtcbmuf.data.importing.exclusions import Exclusions
    from gtcbmuf.data.importing.lexicon import Lexicon
    from gtcbmuf.data.importing.transcripts import Transcripts

    lexicon, names = Lexicon([("a", ("x",))]), {"a": Path("a.wav")}
    preparation.find_words(Transcripts({"a": "a"}), lexicon, names, Exclusions(1, 1), phones)


def find_speakers(place: Path, rule: str, table: str = "") -> None:
    """Find the speakers of a recording."""
    from gtcbmuf.data.importing import speaker_rules

    (place / "utt2spk").write_text(table)
    speaker_rules.find_speakers(rule, Path("audio"), {"s-a": Path("audio/s/a.wav")})


def hold_twice(place: Path) -> None:
    """Open a run directory that another job has open."""
    with mock.patch.object(directory_claim, "_LINGER", 0):
        first = RunDirectory(place / "held")
        RunDirectory(first.path)


def save_checkpoint(folder: Path, step: int = 1) -> None:
    """Save a checkpoint of one worker."""
    state = {"model": np.zeros(3, np.float32)}
    Checkpoints(MPI.COMM_SELF, folder, 2).save(step, state, {}, {"epoch": 0})


def load_checkpoint(folder: Path) -> None:
    Checkpoints(MPI.COMM_SELF, folder, 2).load()


def load_damaged_checkpoint(place: Path) -> None:
    save_checkpoint(place / "two", 1)
    save_checkpoint(place / "two", 2)
    file = place / "two/step-00000002/rank-00000.h5"
    file.write_bytes(file.read_bytes()[:-1])
    load_checkpoint(place / "two")


def load_only_damaged_checkpoint(place: Path) -> None:
    save_checkpoint(place / "one")
    (place / "one/step-00000001/manifest.json").unlink()
    load_checkpoint(place / "one")


def load_unreadable_checkpoint(place: Path) -> None:
    (place / "unreadable/step-00000001/manifest.json").mkdir(parents=True)
    load_checkpoint(place / "unreadable")


def load_newer_checkpoint(place: Path) -> None:
    with mock.patch.object(checkpoint_files, "VERSION", 4):
        save_checkpoint(place / "newer")
    load_checkpoint(place / "newer")


def load_checkpoint_of_four(place: Path) -> None:
    part = checkpoint_files.begin_checkpoint(place / "of-four", 1)
    checkpoint_files.publish_checkpoint(part, {"epoch": 0}, ["hash"] * 4)
    load_checkpoint(place / "of-four")


#: The call that provokes a message, by situation.
CALLS: dict[str, Callable[[Path], object]] = {
    "group size that does not divide the workers": (
        lambda place: group_size("gtc-bmuf", 2, "topology.group_size=3")
    ),
    "`node` with unequal hosts": (
        lambda place: group_size("gtc-bmuf", 8, "topology.group_size=node", hosts=(3, 5))
    ),
    "groups without an exchange": (lambda place: group_size("bmuf", 4, "topology.group_size=2")),
    "groups without a block filter": (lambda place: group_size("gtc", 4, "topology.group_size=2")),
    "library that the launcher cannot start": (
        lambda place: under_open_mpi(lambda: launcher.check_library("MPICH Version: 5"))
    ),
    "launcher and library of different kinds": (
        lambda place: under_open_mpi(lambda: launcher.check_size(1))
    ),
    "scores of two corpora or splits, in `compare`": lambda place: compare(place, ("a", 10)),
    "other labels of an utterance, in `compare`": (
        lambda place: compare(place, ("a", 10), ("b", 21))
    ),
    "unusable utterances in an import": lambda place: import_kaldi(place, "alignments"),
    "alignments of a Kaldi chain model": lambda place: import_kaldi(place, "chain"),
    "range of an scp that is not of this form": (
        lambda place: read_table(place, "feats.scp", f"a {place}/a.ark:2[5]\n")
    ),
    "empty matrix in `forward`": read_empty_matrix,
    "two Unicode forms of a name in a table": (
        lambda place: read_table(place, "utt2spk", "\u00e9 1\ne\u0301 2\n")
    ),
    "text file in UTF-16": lambda place: read_table(place, "list", "a\n", "utf-16"),
    "text file in Latin-1": lambda place: read_table(place, "list", "caf\u00e9\n", "latin-1"),
    "fewer pdf-ids than occur": lambda place: import_kaldi(place, "pdfs"),
    "audio with two channels": lambda place: import_audio(place, "channels"),
    "audio with a low sample rate": lambda place: import_audio(place, "rate"),
    "damaged recordings": lambda place: import_audio(place, "content"),
    "no usable utterance, with `--most-bad 1`": (
        lambda place: import_audio(place, "content", most_bad=1.0)
    ),
    "too few speakers": lambda place: import_audio(place, "", valid="0.6", test="0.4"),
    "unknown rule for speakers": lambda place: find_speakers(place, "folders"),
    "number in a rule for speakers": lambda place: find_speakers(place, "folder:0"),
    "invalid pattern for speakers": lambda place: find_speakers(place, "pattern:("),
    "pattern without a group": lambda place: find_speakers(place, "pattern:a"),
    "two speakers of a recording": (
        lambda place: find_speakers(place, f"{place}/utt2spk", "a 1\ns-a 2\n")
    ),
    "no texts beside the recordings": lambda place: read_texts(place, ""),
    "table of texts for other recordings": lambda place: read_texts(place, "b text\n"),
    "two texts of an utterance": lambda place: read_texts(place, "a one\na two\n"),
    "probabilities in a part of a lexicon": lambda place: read_words(place, "a 0.5 x\nb 0.5\n"),
    "lexicon with a word alone": lambda place: read_words(place, "one W AH N\ntwo\n"),
    "unknown voice of espeak-ng": open_voice,
    "model for another lexicon": lambda place: find_words(place, ("sil", "y")),
    "model whose phones do not begin with silence": lambda place: find_words(place, ("x", "sil")),
    "run that another job has finished in the meantime": reopen_finished,
    "damaged state of an alignment": read_alignment_state,
    "missing extra": lambda place: require_extra("synth", ["no_such"], "a synthetic corpus needs"),
    "run directory in use": hold_twice,
    "output that cannot be written": (
        lambda place: save_model(place / "file/model.h5", model((8, 12), 0))
    ),
    "damaged checkpoint": load_damaged_checkpoint,
    "checkpoint of another number of workers": load_checkpoint_of_four,
    "no usable checkpoint": load_only_damaged_checkpoint,
    "checkpoint that cannot be read": load_unreadable_checkpoint,
    "checkpoint of another version": load_newer_checkpoint,
    "checkpoint after a signal that cannot be written": (
        lambda place: save_checkpoint(place / "file/checkpoints")
    ),
    "corpus with other parameters than the preset's": (
        lambda place: check_corpus(place / "corpus.h5", Synthesis("tiny", 0.2))
    ),
}

#: Too expensive to provoke here, so it is found in the source.
IN_SOURCE = (
    "no mpirun for a study",
    "overlap or delay without MPI threads",
    "ranks that cannot share memory",
    "ranks that carry several workers and cannot share memory",
    "workers that share ranks, on several hosts",
    "corpus of another format version",
    "transition-ids instead of pdf-ids",
    "loss of an epoch above that of guessing",
    "target density above what the gradients allow",
    "rank that stops answering",
    "SIGUSR1, SIGTERM, SIGINT or SIGHUP",
    "the same while the run starts",
    "checkpoint of another configuration",
    "checkpoint of another corpus",
    "checkpoint from a later epoch",
    "`--resume-weights` of another network",
    "checkpoint that cannot be written, such as on a full disk",
    "run directory on a file system without locks",
    "no folder for Numba's cache",
    "damaged entry in Numba's cache",
    "few recordings",
    "CTM for names with blanks",
    "TextGrids beside the recordings, which may be yours",
    "output in the file of a command's own lines",
    "output in the place of an input",
    "model of an older version",
    "`--resume` with other arguments",
    "copy that differs from the corpus",
    "metrics that cannot be written",
    "progress on stdout that cannot be written",
    "run on another corpus",
    "failed runs",
    "study stopped by a signal",
)


def model(widths: tuple[int, ...], context: int, network: str = "") -> SavedModel:
    """A model of zeros."""
    architecture = Architecture(widths, "relu")
    vector = np.zeros(architecture.parameters, np.float32)
    counts = np.ones(widths[-1], np.int64)
    return SavedModel(
        vector, None if network else architecture, context, counts, "speaker", network, widths[0]
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the commands need."""
    place = tmp_path_factory.mktemp("errors")
    (place / "file").touch()
    (place / "broken.toml").write_text("[train\n")
    write_models_and_corpora(place)
    write_presets(place)
    write_clusters(place)
    write_run(place / "damaged", **{"summary.json": SUMMARY | {"workers": "two"}})
    (place / "bin").mkdir()
    (place / "bin/sbatch").write_text(
        "#!/bin/sh\necho sbatch: error: no such partition >&2; exit 1\n"
    )
    (place / "bin/sbatch").chmod(0o755)
    words = "gtcbmuf train sgd --set corpus.path=corpus.h5 --set train.epochs=1 --out run"
    assert execute(words, place)[0] == 0
    return place


def write_models_and_corpora(place: Path) -> None:
    write_corpus(place / "corpus.h5")
    content = (place / "corpus.h5").read_bytes()
    (place / "truncated.h5").write_bytes(content[: len(content) // 2])
    for name in ("changed.h5", "plain.h5", "nonfinite.h5"):
        (place / name).write_bytes(content)
    with h5py.File(place / "changed.h5", "r+") as file:
        file["train/features"][0, 0] += 1
    with h5py.File(place / "plain.h5", "r+") as file:
        file.attrs["normalisation"] = np.bytes_("none")
    with h5py.File(place / "nonfinite.h5", "r+") as file:
        file["train/features"][0, 0] = np.nan
    with (place / "nonfinite.h5").open("r+b") as raw:
        raw.write(format_user_block(hash_content(place / "nonfinite.h5")))
    save_model(place / "model.h5", model((8, 12), 0))
    save_model(
        place / "phones.h5",
        replace(model((8, 12), 0), phones=("p0", "x"), target_phone=tuple(12 * [0])),
    )
    save_model(place / "inputs.h5", model((25, 12), 2))
    save_model(place / "targets.h5", model((8, 20), 0))
    save_model(place / "own.h5", model((8, 12), 0, "Softmax"))
    save_model(place / "damaged.h5", model((8, 12), 0))
    with h5py.File(place / "damaged.h5", "r+") as file:
        file["weights"][0] = 1


def write_presets(place: Path) -> None:
    head = 'corpus = "corpus.h5"\n'
    sgd = '[[cells]]\nmethod = "sgd"\nworkers = 1\ntried = [["train.epochs=1"]]\n'
    gtc = '[[cells]]\nmethod = "gtc"\nworkers = 8\ntried = [["exchange.tau=1"]]\n'
    (place / "untuned.toml").write_text(head + sgd)
    (place / "keys.toml").write_text(head + sgd + gtc.replace("workers", "wokers"))
    (place / "settings.toml").write_text(head + sgd + gtc.replace("tau", "tua"))


def write_clusters(place: Path) -> None:
    whole = ClusterProfile(VERSION, "given", processor(), COMPUTE, NETWORK)
    write_profile(place / "cluster.toml", whole)
    write_profile(
        place / "compute.toml", ClusterProfile(VERSION, "given", processor(), COMPUTE, None)
    )
    text = (place / "cluster.toml").read_text()
    for name, old, new in (
        ("value", "bandwidth_across = 1000000000.0", "bandwidth_across = inf"),
        ("version", "version = 2", "version = 1"),
        ("elsewhere", "processor = ", "processor = 'another'\n#"),
        ("nameless", "processor = ", "# "),
    ):
        assert old in text
        (place / f"{name}.toml").write_text(text.replace(old, new))


def compare(place: Path, *utterances: tuple[str, int]) -> None:
    """Compare a file of `score --out` that has these utterances and frames with one of a and b."""
    from gtcbmuf.studies.compare_scores import compare_scores

    files = {place / "baseline.json": (("a", 10), ("b", 20)), place / "new.json": utterances}
    for path, content in files.items():
        rows = ", ".join(
            f'{{"name": "{name}", "speaker": "s", "frames": {frames}, "frame_errors": 1}}'
            for name, frames in content
        )
        path.write_text(f'{{"corpus": "c.h5", "split": "test", "utterances": [{rows}]}}')
    compare_scores([place / "baseline.json"], [place / "new.json"])


def execute(command: str, place: Path) -> tuple[int, list[str]]:
    """Run a command line; return its status and its lines."""
    words = shlex.split(command.format(root=ROOT, gtcbmuf=program("gtcbmuf")))
    names = {"gtcbmuf", "mpirun", "python"}
    done = run(*(program(word) if word in names else word for word in words), cwd=place)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def call(function: Callable[[Path], object], place: Path) -> tuple[int | None, list[str]]:
    """Call a function; return the status that its error has, and the lines it prints or raises."""
    status: int | None = None
    printed = StringIO()
    with redirect_stderr(printed):
        try:
            function(place)
        except (UserError, CollectiveError) as error:
            status = error.status
            print(f"gtcbmuf: {error}", file=printed)
    return status, printed.getvalue().replace(f"{place}/", "").splitlines()


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.situation)
def test_a_message_exists(row: Row, place: Path) -> None:
    expected = pattern(row.message)
    if row.situation in IN_SOURCE:
        assert any(map(expected.fullmatch, templates())), row.message
        return
    command = COMMANDS.get(row.situation)
    status, lines = execute(command, place) if command else call(CALLS[row.situation], place)
    messages = [line.removeprefix("gtcbmuf: ") for line in lines if line.startswith("gtcbmuf: ")]
    assert any(map(expected.fullmatch, messages)), f"{row.message}\n{lines}"
    assert row.status == ("-" if status is None else str(status))


def test_the_launcher_reports_a_killed_rank(place: Path) -> None:
    words = "'is killed' 1 train gtc --out killed --set corpus.path=corpus.h5"
    status, lines = execute(f"mpirun -n 2 {FAULTY} {words}", place)
    assert status != 0
    quotes = ("BAD TERMINATION", "exited on signal 9")
    assert any(quote in line for quote in quotes for line in lines)
    assert all(f"`{quote}`" in PAGE.read_text() for quote in quotes)


def test_most_messages_are_provoked_and_none_is_left_over() -> None:
    situations = [row.situation for row in rows()]
    assert len(set(situations)) == len(situations)
    assert {*COMMANDS, *CALLS, *IN_SOURCE} == set(situations)
    assert len(COMMANDS) + len(CALLS) > len(situations) / 2


def test_a_message_that_no_longer_exists_is_noticed() -> None:
    for row in rows():
        if row.situation in IN_SOURCE:
            changed = row.message.replace("...", "").strip()
            word = max(re.findall(r"\w+", changed), key=len)
            other = pattern(row.message.replace(word, f"no{word}"))
            assert not any(map(other.fullmatch, templates())), row.message
