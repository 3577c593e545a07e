"""The command line: subcommands, no logic."""

import argparse
import dataclasses
import gc
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from gtcbmuf import __version__, launcher, slurm
from gtcbmuf.errors import UserError

_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

#: Seconds that rank 0 has to tell of a fault before another rank ends.
_LATER = 5.0

#: Studies of `reproduce` that consist of runs.
_RUNS = ("tuning", "choices", "error-table")
#: Options that not all studies of `reproduce` have.
_OF_STUDIES = {
    "seeds": ("error-table",),
    **dict.fromkeys(("slurm", "dry-run"), _RUNS),
    **dict.fromkeys(("cluster", "network", "elsewhere"), ("speedup-table", "trade-off")),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, from one rank; an unknown option gets the known ones."""

    def parse_known_args(self, *arguments: Any) -> Any:  # type: ignore[override]
        parsed, unknown = super().parse_known_args(*arguments)
        if unknown:
            known = ", ".join(
                option for option in self._option_string_actions if option.startswith("--")
            )
            self.error(f"unrecognized arguments: {' '.join(unknown)}; the options are {known}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        _refuse(f"{message}; see {self.prog} --help", UserError.status)


def _refuse(message: str, status: int) -> NoReturn:
    """End every rank with that status, before there is an MPI; rank 0 says why."""
    if launcher.rank() == 0:
        print(f"gtcbmuf: {message}", file=sys.stderr, flush=True)
    elif launcher.name() == "Open MPI's mpirun":
        # It ends all ranks with the first that fails. Others wait for all, or, as srun may, give
        # the job the status of what they kill.
        time.sleep(_LATER)
    raise SystemExit(status) from None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gtcbmuf", description="Two-tiered distributed training: GTC and BMUF.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a model, alone or under mpirun or srun")
    _add_run(train, "METHOD-WORKERS-seedSEED")
    train.add_argument(
        "--resume",
        action="store_true",
        help="go on from the run's last checkpoint, if there is one",
    )
    train.add_argument(
        "--resume-weights", type=Path, metavar="MODEL.h5", help="start with these weights, no more"
    )
    train.add_argument(
        "--scratch", type=Path, metavar="DIR", help="on a disk of each host: copy the corpus there"
    )
    train.add_argument(
        "--no-test",
        action="store_false",
        dest="test",
        help="leave the test set alone: for runs that are there to choose between",
    )
    train.set_defaults(do=_train)

    submit = commands.add_parser("submit", help="a training run as a Slurm job: jobs/train.sbatch")
    _add_run(submit, "METHOD-WORKERS-seedSEED-CORPUS-FINGERPRINT")
    submit.add_argument(
        "--dry-run", action="store_true", help="show the job's text, submit nothing"
    )
    of_sbatch = submit.add_argument_group(
        "options of sbatch, in place of those in jobs/train.sbatch"
    )
    for name in slurm.OPTIONS:
        of_sbatch.add_argument(f"--{name}", metavar="VALUE")
    submit.set_defaults(do=_submit)

    topology = commands.add_parser(
        "topology", help="which workers form which group on which hosts; under mpirun or srun"
    )
    _add_config(topology)
    topology.set_defaults(do=_topology)

    doctor = commands.add_parser(
        "doctor", help="what would slow a job down or stop it here; under mpirun or srun"
    )
    doctor.add_argument("--corpus", type=Path, metavar="FILE.h5", help="to be read from every host")
    doctor.set_defaults(do=_doctor)

    score = commands.add_parser("score", help="frame and phone error rates of a model")
    score.add_argument("model", type=Path, metavar="MODEL.h5")
    score.add_argument("corpus", type=Path, metavar="CORPUS.h5")
    score.add_argument("--split", choices=("train", "valid", "test"), default="test")
    score.add_argument("--out", type=Path, metavar="FILE.json", help="all of it, by utterance too")
    score.add_argument("--picture", type=Path, metavar="FILE.png", help="of the confusions")
    score.set_defaults(do=_score)

    forward = commands.add_parser("forward", help="log-posteriors as a Kaldi archive")
    forward.add_argument("model", type=Path, metavar="MODEL.h5")
    forward.add_argument(
        "frames",
        type=Path,
        metavar="CORPUS.h5 | FEATS.scp",
        help="a corpus, or Kaldi's features, which need no alignment",
    )
    forward.add_argument("--utt2spk", type=Path, metavar="FILE", help="the speakers of FEATS.scp")
    forward.add_argument("--cmvn", type=Path, metavar="CMVN.scp", help="statistics for FEATS.scp")
    forward.add_argument("--ark", type=Path, required=True, metavar="FILE.ark")
    forward.add_argument("--split", choices=("train", "valid", "test"), help="of the corpus (test)")
    forward.add_argument(
        "--minus-log-priors", action="store_true", help="log-likelihoods, as decoders want them"
    )
    forward.set_defaults(do=_forward)

    report = commands.add_parser("report", help="make a table and a plot of finished runs")
    report.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="run directories")
    report.add_argument("--plot", type=Path, metavar="FILE.png", help="FER over epochs")
    report.set_defaults(do=_report)

    reproduce = commands.add_parser("reproduce", help="a study of many runs: the paper's tables")
    reproduce.add_argument("study", choices=(*_RUNS, "speedup-table", "trade-off"))
    reproduce.add_argument(
        "--preset",
        default="quick",
        help="quick (default), full, or a TOML file of your own (docs/studies.md)",
    )
    reproduce.add_argument("--seeds", type=int, nargs="+", metavar="SEED", help="of error-table")
    reproduce.add_argument("--results", type=Path, default=Path("results"), metavar="DIR")
    reproduce.add_argument(
        "--slurm", action="store_true", help="submit the runs as arrays of jobs/train.sbatch"
    )
    reproduce.add_argument(
        "--dry-run", action="store_true", help="with --slurm: show the jobs, submit nothing"
    )
    _add_cluster(reproduce.add_argument_group("of speedup-table and trade-off"))
    reproduce.set_defaults(do=_reproduce)

    plan = commands.add_parser(
        "plan", help="what each method would cost and buy on a cluster, by a model"
    )
    plan.add_argument("--workers", type=int, required=True, metavar="N")
    _add_cluster(plan)
    plan.add_argument(
        "--workers-per-host", type=int, metavar="N", help="that will run (those that calibrated)"
    )
    plan.add_argument("--parameters", type=float, required=True, metavar="n", help="of the model")
    plan.add_argument("--minibatch", type=int, default=256, help="frames of a worker (256)")
    plan.add_argument("--density", type=float, default=1e-3, help="of messages (0.001)")
    plan.add_argument("--period", type=int, default=50, help="steps of a block (50)")
    plan.add_argument("--group-size", type=int, metavar="M", help="of the hybrid (the fastest)")
    plan.add_argument("--sharded", action="store_true", help="with block_filter.sharded")
    plan.add_argument("--overlap", action="store_true", help="with exchange.overlap")
    plan.add_argument("--hours", type=float, default=1000.0, help="of speech (1000)")
    plan.add_argument("--epochs", type=int, default=10, help="(10)")
    plan.add_argument("--most", type=int, default=10_000, help="workers to look at (10000)")
    plan.add_argument("--plot", type=Path, metavar="FILE.png", help="speed-ups over workers")
    plan.set_defaults(do=_plan)

    bench = commands.add_parser("bench", help="how near each part of a step is to its limit")
    bench.add_argument(
        "part", choices=("kernels", "wire", "step", "collectives", "methods", "scale")
    )
    bench.add_argument("--rounds", type=int, default=15, help="of measuring, in turns (15)")
    bench.add_argument("--json", type=Path, metavar="FILE.json", help="the figures, and where")
    bench.add_argument("--page", type=Path, metavar="FILE.md", help="to put the table into")
    bench.set_defaults(do=_bench)

    calibrate = commands.add_parser(
        "calibrate", help="measure what plan wants to know of a cluster; under mpirun or srun"
    )
    calibrate.add_argument("--out", type=Path, required=True, metavar="FILE.toml")
    calibrate.add_argument("--rounds", type=int, default=15, help="of each measurement (15)")
    calibrate.set_defaults(do=_calibrate)

    corpus = commands.add_parser("corpus", help="make a corpus, look at it, check it")
    corpus_commands = corpus.add_subparsers(dest="corpus_command", required=True, metavar="COMMAND")
    synth = corpus_commands.add_parser("synth", help="synthesise speech with exact frame labels")
    synth.add_argument(
        "--preset", default="small", help="tiny, small (default), medium, large: 0.2 to 100 hours"
    )
    synth.add_argument("--hours", type=float, help="of speech in all, instead of the preset's")
    synth.add_argument("--seed", type=int, default=0)
    synth.add_argument("--out", type=Path, required=True, metavar="FILE.h5")
    synth.set_defaults(do=_synth)

    kaldi = corpus_commands.add_parser(
        "import-kaldi", help="import features and alignments that Kaldi made"
    )
    kaldi.add_argument("--feats", type=Path, required=True, metavar="FEATS.scp")
    kaldi.add_argument(
        "--ali", required=True, metavar="'ALI.*.gz'", help="archives with a pdf-id per frame"
    )
    kaldi.add_argument("--out", type=Path, required=True, metavar="FILE.h5")
    kaldi.add_argument(
        "--utt2spk", type=Path, metavar="FILE", help="speakers (default: one per utterance)"
    )
    kaldi.add_argument(
        "--pdfs",
        type=int,
        metavar="N",
        help="number of pdf-ids, as am-info tells (default: the largest that occurs, plus one)",
    )
    _add_import_options(kaldi).add_argument(
        "--cmvn",
        type=Path,
        metavar="CMVN.scp",
        help="take them from these statistics, of each speaker or utterance",
    )
    kaldi.set_defaults(do=_import_kaldi)

    audio = corpus_commands.add_parser(
        "import-audio", help="import recordings with the times of their phones"
    )
    audio.add_argument("directory", type=Path, metavar="DIR", help="of .wav and .flac files")
    audio.add_argument("--out", type=Path, required=True, metavar="FILE.h5")
    audio.add_argument(
        "--alignments",
        type=Path,
        metavar="DIR_OR_CTM",
        help="TextGrids, as the Montreal Forced Aligner writes them, or a CTM (default: DIR)",
    )
    audio.add_argument(
        "--sample-rate", type=int, default=16000, metavar="HZ", help="of the features (16000)"
    )
    _add_import_options(audio)
    audio.set_defaults(do=_import_audio)

    info = corpus_commands.add_parser("info", help="say what is in a corpus")
    info.add_argument("corpus", type=Path, metavar="FILE.h5")
    info.add_argument("--utterance", metavar="NAME", help="to draw (default: the first)")
    info.add_argument("--picture", type=Path, metavar="FILE.png", help="of it, with its phones")
    info.set_defaults(do=_info)

    verify = corpus_commands.add_parser("verify", help="find out whether a byte was changed")
    verify.add_argument("corpus", type=Path, metavar="FILE.h5")
    verify.set_defaults(do=_verify)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    """Add what says how a run is configured."""
    parser.add_argument("config", metavar="CONFIG", help="a TOML file, or the name of a recipe")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override a key of the configuration; may be repeated",
    )


def _add_cluster(parser: argparse._ActionsContainer) -> None:
    """Add what says which cluster a plan is for."""
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE.toml", help="what `gtcbmuf calibrate` measured"
    )
    parser.add_argument(
        "--network", type=Path, metavar="FILE.toml", help="another network than the cluster's"
    )
    parser.add_argument(
        "--elsewhere", action="store_true", help="the cluster has other processors than this host"
    )


def _add_run(parser: argparse.ArgumentParser, name: str) -> None:
    """Add what says which run it is; its directory is called so unless the user says otherwise."""
    _add_config(parser)
    parser.add_argument("--out", type=Path, help=f"run directory (default: runs/{name})")


def _add_import_options(parser: argparse.ArgumentParser) -> Any:
    """Add what all imports have; return a group for what `--normalise` excludes."""
    for split in ("valid", "test"):
        parser.add_argument(
            f"--{split}",
            default="0.1",
            metavar="LIST_OR_SHARE",
            help="a file of utterances or speakers, or a share of the speakers (default 0.1)",
        )
    parser.add_argument(
        "--most-bad",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of the utterances, that may be left out (default 0.05)",
    )
    mean_of = parser.add_mutually_exclusive_group()
    mean_of.add_argument(
        "--normalise",
        default="speaker",
        metavar="OVER",
        help="speaker (default), utterance or none: where mean and variance are taken",
    )
    return mean_of


@contextmanager
def _job() -> Iterator[Any]:
    """The world, for a body that ends on all ranks, whatever happens on one."""
    world = launcher.start()

    from gtcbmuf.topology import job

    with job(world):
        yield world


def _train(arguments: Any) -> None:
    with _job() as world:
        from gtcbmuf.train import train

        train(
            world,
            arguments.config,
            arguments.set,
            arguments.out,
            resume=arguments.resume,
            weights=arguments.resume_weights,
            scratch=arguments.scratch,
            test=arguments.test,
        )


def _submit(arguments: Any) -> None:
    given = ((name, getattr(arguments, name.replace("-", "_"))) for name in slurm.OPTIONS)
    options = {name: value for name, value in given if value is not None}
    job = slurm.job(arguments.config, arguments.set, arguments.out, options)
    if arguments.dry_run:
        print(job.text, flush=True)
        print(f"# {slurm.check(job)}")
    else:
        print(slurm.submit(job))


def _topology(arguments: Any) -> None:
    with _job() as world:
        from gtcbmuf.tiers import formed
        from gtcbmuf.topology import describe, host_of_rank

        world, _, _, group_size = formed(world, arguments.config, arguments.set)
        hosts = host_of_rank(world)
        if world.rank == 0:
            print(describe(hosts, group_size))


def _doctor(arguments: Any) -> None:
    with _job() as world:
        from gtcbmuf import doctor

        found = doctor.findings(world, arguments.corpus)
        if world.rank == 0:
            print(doctor.report(found))


def _score(arguments: Any) -> None:
    with _job() as world:
        from gtcbmuf.scoring import score

        score(
            world,
            arguments.model,
            arguments.corpus,
            arguments.split,
            arguments.out,
            arguments.picture,
        )


def _forward(arguments: Any) -> None:
    from gtcbmuf.forward import forward

    print(
        forward(
            arguments.model,
            arguments.frames,
            arguments.ark,
            split=arguments.split,
            utt2spk=arguments.utt2spk,
            cmvn=arguments.cmvn,
            minus_log_priors=arguments.minus_log_priors,
        )
    )


def _report(arguments: Any) -> None:
    from gtcbmuf import report, runlog

    runs = [runlog.read(path) for path in arguments.runs]
    print(report.table(runs))
    if arguments.plot:
        report.plot(runs, arguments.plot)


def _reproduce(arguments: Any) -> None:
    for option, studies in _OF_STUDIES.items():
        if arguments.study not in studies and getattr(arguments, option.replace("-", "_")):
            raise UserError(f"--{option}: only with {', '.join(studies)}, not {arguments.study}")
    if arguments.study not in _RUNS:
        from gtcbmuf import plan, preset, speedup_table, trade_off

        chosen = preset.read(arguments.preset)
        given = (arguments.cluster, arguments.network)
        compute, network = plan.read(*given, elsewhere=arguments.elsewhere)
        cluster = " with the network of ".join(str(file) for file in given if file)
        folder = arguments.results / chosen.name
        if arguments.study == "speedup-table":
            speedup_table.reproduce(compute, network, cluster, folder)
        else:
            trade_off.reproduce(chosen, compute, network, cluster, folder)
        return
    from gtcbmuf import reproduce

    if arguments.dry_run and not arguments.slurm:
        raise UserError("--dry-run: only with --slurm")
    reproduce.reproduce(
        arguments.study,
        arguments.preset,
        arguments.seeds,
        arguments.results,
        by="nobody" if arguments.dry_run else "slurm" if arguments.slurm else "mpirun",
    )


def _plan(arguments: Any) -> None:
    from gtcbmuf import plan

    compute, network = plan.read(
        arguments.cluster,
        arguments.network,
        elsewhere=arguments.elsewhere,
        workers_per_host=arguments.workers_per_host,
    )
    made = plan.Plan(
        compute,
        network,
        parameters=plan.whole(arguments.parameters),
        minibatch=arguments.minibatch,
        density=arguments.density,
        period=arguments.period,
        group_size=arguments.group_size,
        sharded=arguments.sharded,
        overlap=arguments.overlap,
    )
    wanted = {name: getattr(arguments, name) for name in ("most", "hours", "epochs")}
    plan.check(made, arguments.workers, **wanted)
    numbers = made.counts(arguments.workers, arguments.most)
    if arguments.plot:
        plan.plot(made, numbers, arguments.plot)
    print(plan.at(made, arguments.workers, arguments.hours * arguments.epochs))
    print(f"\n{plan.over(made, numbers)}\n\n{plan.sure(made, arguments.workers)}")


def _bench(arguments: Any) -> None:
    import importlib

    _check_rounds(arguments)
    module = f"gtcbmuf.bench.{arguments.part}"
    if arguments.part in ("kernels", "wire", "step"):
        _tell(importlib.import_module(module).figures(arguments.rounds), arguments)
        return
    with _job() as world:
        part = importlib.import_module(module)
        figures = part.figures(world, arguments.rounds)
        if world.rank == 0:
            _tell(figures, arguments)


def _check_rounds(arguments: Any) -> None:
    if arguments.rounds < 1:
        raise UserError(f"--rounds {arguments.rounds}: expected 1 or more")


def _calibrate(arguments: Any) -> None:
    _check_rounds(arguments)
    with _job() as world:
        from gtcbmuf import cluster
        from gtcbmuf.calibrate import calibrate

        found = calibrate(world, arguments.rounds)
        if world.rank == 0:
            cluster.write(arguments.out, found)


def _tell(figures: Any, arguments: Any) -> None:
    from gtcbmuf import bench

    print(bench.table(figures))
    if arguments.json:
        bench.write(arguments.json, figures)
    if arguments.page:
        bench.insert(arguments.page, arguments.part, figures)


def _synth(arguments: Any) -> None:
    from gtcbmuf import synth

    if arguments.preset not in synth.PRESETS:
        raise UserError(f"--preset {arguments.preset}: expected {', '.join(synth.PRESETS)}")
    preset = synth.PRESETS[arguments.preset]
    if arguments.hours is not None:
        preset = dataclasses.replace(preset, hours=arguments.hours)
    synth.synthesise(preset, arguments.out, seed=arguments.seed)


def _info(arguments: Any) -> None:
    from gtcbmuf import corpus, describe

    opened = corpus.read(arguments.corpus)
    print(describe.describe(opened))
    if arguments.picture:
        describe.picture(opened, arguments.utterance or opened.train.names[0], arguments.picture)


def _verify(arguments: Any) -> None:
    from gtcbmuf import corpus

    faults = corpus.verify(arguments.corpus)
    if faults:
        raise UserError(f"{arguments.corpus}: damaged: {'; '.join(faults)}")
    print(f"{arguments.corpus}: every byte is as it was written")


def _import_kaldi(arguments: Any) -> None:
    from gtcbmuf import kaldi

    print(
        kaldi.import_kaldi(
            arguments.feats,
            arguments.ali,
            arguments.out,
            utt2spk=arguments.utt2spk,
            pdfs=arguments.pdfs,
            valid=arguments.valid,
            test=arguments.test,
            normalise=arguments.normalise,
            cmvn=arguments.cmvn,
            most_bad=arguments.most_bad,
        )
    )


def _import_audio(arguments: Any) -> None:
    from gtcbmuf import audio

    print(
        audio.import_audio(
            arguments.directory,
            arguments.out,
            alignments=arguments.alignments,
            sample_rate=arguments.sample_rate,
            valid=arguments.valid,
            test=arguments.test,
            normalise=arguments.normalise,
            most_bad=arguments.most_bad,
        )
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exit status 2 if the user can mend what stopped it."""
    # One BLAS thread a rank unless told otherwise: more are several times slower where ranks
    # share cores. Read when NumPy is loaded, so set before that.
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")
    for variable in _THREADS:
        os.environ.setdefault(variable, threads)
    # Looking for garbage among all that imports make takes a tenth of the start.
    gc.set_threshold(100_000)
    parsed = _parser().parse_args(arguments)
    try:
        parsed.do(parsed)
        sys.stdout.flush()
    except UserError as error:
        _refuse(str(error), error.status)
    except KeyboardInterrupt:  # not under MPI, whose commands have `_job`
        _refuse("interrupted", 128 + signal.SIGINT)
    except BrokenPipeError:  # what reads this, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
