"""Aligns recordings with their texts: a flat start, then rounds of training and realignment."""

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from gtcbmuf.acoustic.model_file import load_model
from gtcbmuf.alignment.preparation import Text, corpus_writer, find_words, write_flat_start
from gtcbmuf.alignment.realign import Aligned, realign
from gtcbmuf.alignment.segments import Tiers, find_segments, format_ctm, write_textgrids
from gtcbmuf.base.errors import UserError
from gtcbmuf.base.extras import require_extra
from gtcbmuf.base.files import check_output, replacing, write_json, write_text, writing
from gtcbmuf.base.output import format_duration, say
from gtcbmuf.config.loading import load_config
from gtcbmuf.data import features
from gtcbmuf.data.corpus import Corpus, open_corpus
from gtcbmuf.data.corpus_writer import Utterance
from gtcbmuf.data.importing.audio import check_sample_rate
from gtcbmuf.data.importing.espeak_lexicon import PREFIX, EspeakLexicon
from gtcbmuf.data.importing.exclusions import Exclusions
from gtcbmuf.data.importing.lexicon import Lexicon, read_lexicon
from gtcbmuf.data.importing.recordings import find_recordings
from gtcbmuf.data.importing.speaker_rules import DEFAULT_RULE, find_speakers
from gtcbmuf.data.importing.transcripts import read_transcripts
from gtcbmuf.mpi.job import agree, on_root
from gtcbmuf.mpi.topology import compile_in_turn
from gtcbmuf.training.run import train

#: An alignment is finished when fewer frames than this share change their phone in a round.
SETTLED = 0.01
_STATE = "state.json"
#: Of a finished alignment: its arguments.
_ARGUMENTS = "arguments.json"
#: Names in the folder of an alignment.
_OWN = re.compile(r"\.?(corpus-\d+\.h5|round-\d+|state\.json|arguments\.json|model\.h5).*")
#: Most rounds of training.
MOST_ROUNDS = 12
#: An utterance is poor if its score is this many deviations below the median, and at least this
#: much, in nats a frame.
POOR, POOR_NATS = 6.0, 1.0
_DEVIATION = 1.4826  # of a normal distribution, over its median absolute deviation


@dataclass
class State:
    """What an interrupted alignment continues from.

    Attributes:
        arguments: those of the alignment.
        texts: text of each utterance.
        phones: names of the phones.
        excluded: reason for each excluded utterance.
        total: number of all utterances.
        notes: lines for the user.
        rounds: share of the frames whose phone changed, and mean score, of each finished round.
    """

    arguments: dict[str, Any]
    texts: dict[str, Text] = field(default_factory=dict)
    phones: list[str] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)
    total: int = 0
    notes: list[str] = field(default_factory=list)
    rounds: list[tuple[float, float]] = field(default_factory=list)

    @property
    def is_settled(self) -> bool:
        """Whether no further round is needed."""
        return len(self.rounds) >= MOST_ROUNDS or (
            bool(self.rounds) and self.rounds[-1][0] < SETTLED
        )

    @classmethod
    def read(cls, path: Path) -> "State":
        """Read a state.

        Raises:
            UserError: the file is damaged.
        """
        try:
            content = json.loads(path.read_text())
            texts = {name: Text(**text) for name, text in content.pop("texts").items()}
            return cls(texts=texts, **content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise UserError(f"{path}: damaged; align without --resume") from None


def align(
    world: MPI.Comm,
    directory: Path,
    to: Path,
    *,
    lexicon: Path | str,
    texts: Path | None = None,
    sample_rate: int = 16000,
    speakers: str = DEFAULT_RULE,
    model: Path | None = None,
    settings: Sequence[str] = (),
    most_bad: float = 0.05,
    resume: bool = False,
) -> str:
    """Align recordings with their texts, and write TextGrids or a CTM. Collective.

    The first alignment gives the phones of a text equal lengths. Then a round trains a model on the
    last alignment for an epoch, on all workers, and aligns all utterances with it. A new alignment
    is the most probable path through the pronunciations of the words, with optional silence before,
    between and after them (Viterbi; log posteriors minus log priors). The rounds end when less than
    1 % of the frames change their phone, or after 12 rounds.

    The folder `to`.align holds what an interrupted alignment needs, and at the end the model.

    Args:
        world: communicator of the ranks.
        directory: directory of the recordings, as for an import of audio.
        to: folder for a TextGrid of each recording, or path of a CTM of phones, if the suffix is
            .ctm.
        lexicon: path of a lexicon, as in `read_lexicon`, or espeak:VOICE for the pronunciations of
            espeak-ng, such as espeak:en-us.
        texts: directory of .txt or .lab files with the layout of the recordings, or path of a table
            with an utterance and its text in each line. The default is `directory`.
        sample_rate: sample rate of the features in Hz.
        speakers: rule that finds the speakers.
        model: path of a model. It aligns once, and nothing is trained.
        settings: assignments `section.key=value` for the training.
        most_bad: largest share of the utterances that may be left out.
        resume: continue an interrupted alignment.

    Returns:
        Lines about the alignment, on rank 0.

    Raises:
        CollectiveError: a file or an argument is invalid, or too many utterances are unusable.
            Raised on all ranks alike.
    """
    work = Path(f"{to}.align" if model is None else f"{to}.part")
    arguments = {
        "directory": str(directory),
        "lexicon": str(lexicon),
        "texts": str(texts or directory),
        "sample_rate": sample_rate,
        "speakers": speakers,
        "model": str(model or ""),
        "settings": list(settings),
    }
    agree(world, lambda: load_config(_recipe(world), list(settings)))
    on_root(world, lambda: _check_places(work, to, arguments))
    if resume and on_root(world, lambda: _is_finished(work, to, arguments)):
        on_root(world, lambda: _tidy(work))
        return f"{to}: this alignment is already finished; align other recordings without --resume"
    try:
        state = on_root(world, lambda: _prepare(work, to, arguments, most_bad, resume))
        compile_in_turn(world)
        aligned: list[Aligned] | None = None
        while model is None and not state.is_settled:
            number, begin = len(state.rounds), time.monotonic()
            aligned = _align_with(world, work, _train(world, work, number, settings), state)
            state.rounds = on_root(world, partial(_end_round, work, state, aligned, begin))
        used = model or work / f"round-{len(state.rounds) - 1}" / "model.h5"
        if aligned is None:  # with a model, or interrupted after the last round
            aligned = _align_with(world, work, used, state)
        return on_root(world, partial(_finish, work, to, state, aligned, used, most_bad))
    finally:
        if model is not None and world.rank == 0:  # nothing that a resumed alignment could use
            shutil.rmtree(work, ignore_errors=True)


def _check_places(work: Path, to: Path, arguments: Mapping[str, Any]) -> None:
    """Check, before hours of training, where the results go.

    Raises:
        UserError: the results cannot be written there, or the folder of the alignment has files of
            something else.
    """
    inputs = [Path(arguments[name]) for name in ("lexicon", "texts", "speakers", "model")]
    if to.suffix == ".ctm":
        check_output(to, "--to", inputs)
    elif not to.name or (to.exists() and not to.is_dir()):
        raise UserError(f"--to {to}: expected a folder, or a file whose name ends with .ctm")
    elif to.resolve() == Path(arguments["directory"]).resolve():
        _check_own_grids(to)
    check_output(Path(f"{to}.log"), "--to", inputs)
    others = [path for path in work.glob("*") if not _OWN.fullmatch(path.name)]
    if others or (work.exists() and not work.is_dir()):
        raise UserError(
            f"--to {to}: an alignment would replace {others[0] if others else work}; expected "
            "another name"
        )


def _check_own_grids(directory: Path) -> None:
    """Check that the TextGrids beside the recordings, if any, are those of an alignment.

    Raises:
        UserError: they may be the user's.
    """
    if Path(f"{directory}.log").exists():  # of an alignment
        return
    if grid := next(iter(sorted(directory.rglob("*.TextGrid"))), None):
        raise UserError(
            f"--to {directory}: has TextGrids, such as {grid}, which would be replaced; expected "
            "another folder"
        )


def _is_finished(work: Path, to: Path, arguments: Mapping[str, Any]) -> bool:
    """Whether an alignment has its results.

    Raises:
        UserError: it was finished with other arguments.
    """
    file = work / _ARGUMENTS
    if not to.exists() or not file.exists() or (work / _STATE).exists():
        return False
    try:
        earlier = json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    _check_same(work, earlier, arguments)
    return True


def _check_same(work: Path, earlier: Any, arguments: Mapping[str, Any]) -> None:
    """Check that an alignment is continued with its arguments.

    Raises:
        UserError: one differs.
    """
    for name, value in arguments.items():
        if not isinstance(earlier, dict) or earlier.get(name) != value:
            raise UserError(
                f"--resume: {work} was begun with another {name.replace('_', '-')}; use the same, "
                "or align without --resume"
            )


def _tidy(work: Path) -> None:
    """Remove what a finished alignment does not need. A kill leaves it finished."""
    for path in [work / _STATE, *work.iterdir()]:
        if path.name not in ("model.h5", _ARGUMENTS):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _prepare(
    work: Path, to: Path, arguments: dict[str, Any], most_bad: float, resume: bool
) -> State:
    """Read the recordings and their texts, or the state of an interrupted alignment."""
    require_extra("audio", ("soundfile", "soxr", "kaldi_native_fbank"), "an alignment needs")
    file = work / _STATE
    if resume and file.exists():
        state = State.read(file)
        _check_same(work, state.arguments, arguments)
        say(f"resumed {work} after round {len(state.rounds)}")
        return state
    directory, sample_rate = Path(arguments["directory"]), arguments["sample_rate"]
    check_sample_rate(sample_rate)
    recordings = find_recordings(directory)
    if to.suffix == ".ctm" and (blank := [name for name in recordings if len(name.split()) > 1]):
        raise UserError(
            f"--to {to}: a CTM cannot hold the blanks in {blank[0]!r}; expected a folder"
        )
    pronunciations = _open_lexicon(arguments["lexicon"])
    transcripts = read_transcripts(Path(arguments["texts"]), recordings)
    found = find_speakers(arguments["speakers"], directory, recordings)
    all_names = recordings.keys() | transcripts.faults.keys()
    exclusions = Exclusions(len(all_names), most_bad)
    for name, fault in found.faults.items():
        exclusions.add(name, fault, found.hint)
    spoken = {name: path for name, path in recordings.items() if name not in found.faults}
    inventory = None
    if arguments["model"]:
        inventory = load_model(arguments["model"]).phones
        if not inventory:
            raise UserError(f"--model {arguments['model']}: its phones are unknown; train it again")
    texts, phones, unknown = find_words(transcripts, pronunciations, spoken, exclusions, inventory)
    if unknown:
        say(unknown)
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        (work / _ARGUMENTS).unlink(missing_ok=True)
        _tidy(work)  # the last model stays until there is a new one
    try:
        corpus = work / "corpus-0.h5"
        texts = write_flat_start(corpus, texts, recordings, found, phones, sample_rate, exclusions)
        if arguments["model"]:
            saved = load_model(arguments["model"])
            if difference := saved.find_difference(open_corpus(corpus)):
                raise UserError(f"--model: {arguments['model']} {difference}")
    except UserError:
        _tidy(work)
        if not any(work.iterdir()):
            work.rmdir()
        raise
    notes = [unknown] if unknown else []
    state = State(arguments, texts, phones, exclusions.reasons, exclusions.total, notes)
    write_json(file, asdict(state))
    return state


def _open_lexicon(name: str) -> Lexicon:
    """Open a lexicon: a file, or espeak:VOICE."""
    if name.startswith(PREFIX):
        return EspeakLexicon(name.removeprefix(PREFIX))
    return read_lexicon(Path(name))


def _recipe(world: MPI.Comm) -> str:
    """Return the recipe of the training."""
    return "sgd" if world.size == 1 else "gtc"


def _train(world: MPI.Comm, work: Path, number: int, settings: Sequence[str]) -> Path:
    """Train the model of a round, 0 for the first one, from that of the round before. Collective.

    Returns:
        The path of the model.
    """
    out, before = work / f"round-{number}", work / f"round-{number - 1}" / "model.h5"
    defaults = ["train.epochs=1", "train.minibatch=64", "train.learning_rate=2e-3"]
    # With more context, a model repeats the error of its labels: boundaries stay up to 20 ms late.
    defaults += ["model.context=1"]
    own = [f"train.seed={number}", f"corpus.path={work / f'corpus-{number}.h5'}"]
    train(
        _recipe(world),
        [*defaults, *settings, *own],
        out,
        world=world,
        resume=True,
        weights=before if number else None,
        test=False,
    )
    return out / "model.h5"


def _align_with(world: MPI.Comm, work: Path, model: Path, state: State) -> list[Aligned]:
    """Align all utterances with a model. Collective."""
    corpus = agree(world, lambda: open_corpus(work / f"corpus-{len(state.rounds)}.h5"))
    return realign(world, model, corpus, state.texts)


def _end_round(
    work: Path, state: State, aligned: Sequence[Aligned], begin: float
) -> list[tuple[float, float]]:
    """Write the corpus of the next round, and the state. Return all rounds.

    Args:
        work: folder of the alignment.
        state: before the round.
        aligned: all utterances, after the round.
        begin: when the round began, by `time.monotonic`.
    """
    number = len(state.rounds)
    corpus = open_corpus(work / f"corpus-{number}.h5")
    changed, frames = 0, 0
    by_name = {utterance.name: utterance for utterance in aligned}
    writer = corpus_writer(
        work / f"corpus-{number + 1}.h5", state.phones, state.arguments["sample_rate"]
    )
    with writing(work), writer:
        for name, utterance in _utterances(corpus):
            new = by_name[utterance.name].targets
            changed += int(np.count_nonzero(_phones(new) != _phones(utterance.targets)))
            frames += len(new)
            writer.add(name, Utterance(utterance.name, utterance.speaker, utterance.features, new))
    score = float(np.mean([utterance.score for utterance in aligned]))
    state.rounds.append((changed / frames, score))
    seconds, left = time.monotonic() - begin, 0 if state.is_settled else MOST_ROUNDS - number - 1
    say(
        f"round {number + 1}: {100 * changed / frames:.1f} % of the frames changed their phone, "
        f"score {score:.3f} a frame, {format_duration(seconds)}"
        + (f"; at most {format_duration(left * seconds)} more" if left else "")
    )
    with writing(work):
        write_json(work / _STATE, asdict(state))
    for old in (work / f"corpus-{number}.h5", work / f"round-{number - 1}"):
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    return state.rounds


def _phones(targets: Any) -> Any:
    return targets // features.STATES


def _utterances(corpus: Corpus) -> Any:
    """Yield the split and the content of each utterance."""
    for split_name in ("valid", "test", "train"):
        split = corpus.split(split_name)
        begin = 0
        for name, speaker, end in zip(split.names, split.speakers, split.ends, strict=True):
            part = slice(begin, int(end))
            matrix = split.features[part].astype(np.float32)
            yield split_name, Utterance(name, speaker, matrix, split.targets[part])
            begin = int(end)


def _finish(
    work: Path,
    to: Path,
    state: State,
    aligned: Sequence[Aligned],
    model: Path,
    most_bad: float,
) -> str:
    """Write the alignments and the log, and tidy up. Return lines for the user."""
    exclusions, tiers_of = _choose(state, aligned, most_bad)
    log = Path(f"{to}.log")
    with writing(to, "--to"):
        write_text(log, exclusions.format_log())
        if to.suffix == ".ctm":
            write_text(to, format_ctm(tiers_of))
        else:
            _write_grids(to, Path(state.arguments["directory"]), tiers_of)
        if not state.arguments["model"]:
            with replacing(work / "model.h5") as temporary:
                shutil.copy(model, temporary)
            write_json(work / _ARGUMENTS, state.arguments)
            _tidy(work)
    hours = sum(tiers.phones[-1].end for tiers in tiers_of.values()) / 3600
    lines = [
        f"{to}: {len(tiers_of)} utterances, {hours:.2f} h; {len(exclusions)} of "
        f"{exclusions.total} left out, see {log}",
        *state.notes,
    ]
    if not state.arguments["model"]:
        lines.append(f"model: {work / 'model.h5'}")
    return "\n".join(lines)


def _write_grids(to: Path, directory: Path, tiers_of: Mapping[str, Tiers]) -> None:
    """Write the TextGrids. Those of recordings that were left out are removed.

    Raises:
        UserError: a recording has gone.
    """
    paths = {
        name: file.relative_to(directory).with_suffix("")
        for name, file in find_recordings(directory).items()
    }
    if gone := sorted(tiers_of.keys() - paths.keys()):
        raise UserError(
            f"{directory}: no recording {gone[0]}, which was there at the begin; restore "
            "it and use --resume, or align without"
        )
    write_textgrids(to, {paths[name]: tiers for name, tiers in tiers_of.items()})
    if to.resolve() != directory.resolve():  # where the user's own TextGrids may be
        for name in paths.keys() - tiers_of.keys():
            Path(f"{to / paths[name]}.TextGrid").unlink(missing_ok=True)


def _choose(
    state: State, aligned: Sequence[Aligned], most_bad: float
) -> tuple[Exclusions, dict[str, Tiers]]:
    """Leave out the utterances with a poor score. Return all exclusions, and the other segments.

    Raises:
        UserError: too many utterances are unusable.
    """
    exclusions = Exclusions(state.total, most_bad)
    for name, reason in state.excluded.items():
        exclusions.add(name, reason)
    scores = np.array([utterance.score for utterance in aligned])
    median = float(np.median(scores))
    deviation = _DEVIATION * float(np.median(np.abs(scores - median)))
    tiers_of: dict[str, Tiers] = {}
    by_name = {utterance.name: utterance for utterance in aligned}
    for name, text in state.texts.items():
        utterance = by_name[name]
        if utterance.score < median - max(POOR * deviation, POOR_NATS):
            exclusions.add(
                utterance.name,
                f"poor score, {utterance.score:.2f} a frame; the median is {median:.2f}",
            )
            continue
        tiers_of[utterance.name] = find_segments(
            text.graph,
            utterance.path,
            text.words,
            state.phones,
            seconds=text.seconds,
            sample_rate=state.arguments["sample_rate"],
        )
    return exclusions, tiers_of
