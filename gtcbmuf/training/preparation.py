"""What a rank prepares before its workers begin: the corpus, the network and its weights."""

from dataclasses import dataclass
from pathlib import Path

from mpi4py import MPI

from gtcbmuf.acoustic.mlp import MLP, Architecture
from gtcbmuf.acoustic.model import BuildModel, Model
from gtcbmuf.acoustic.model_file import load_model, network_name
from gtcbmuf.acoustic.posteriors import BATCH
from gtcbmuf.base.arrays import Vector
from gtcbmuf.base.errors import UserError
from gtcbmuf.config.schema import Config
from gtcbmuf.data.corpus import Corpus, open_corpus
from gtcbmuf.mpi.job import agree, on_root
from gtcbmuf.mpi.staging import staged
from gtcbmuf.training.construction import RunPlan
from gtcbmuf.training.memory import require_memory
from gtcbmuf.training.streams import INITIAL, stream


@dataclass(frozen=True)
class Preparation:
    """What the workers of a rank share.

    Attributes:
        corpus: the corpus.
        model: the network.
        initial: (n,) float32, weights at the start.
    """

    corpus: Corpus
    model: Model
    initial: Vector


def prepare(
    plan: RunPlan, build: BuildModel | None, weights: Path | None, scratch: Path | None
) -> Preparation:
    """Open the corpus and build the network. Collective among the ranks.

    Args:
        plan: the plan of the run.
        build, weights, scratch: as for `gtcbmuf.train`.

    Raises:
        CollectiveError: the corpus or the weights are invalid, or the workers of a rank would not
            fit into memory. Raised on all ranks alike.
    """
    ranks = plan.ranks
    corpus = _open_corpus(ranks, plan.config, scratch)
    model = agree(ranks, lambda: _build_model(plan.config, corpus, build))
    initial = agree(ranks, lambda: _initial(plan.config, corpus, model, weights))
    if plan.workers > ranks.size:
        agree(ranks, lambda: require_memory(plan, initial.size, corpus))
    return Preparation(corpus, model, initial)


def _open_corpus(ranks: MPI.Comm, config: Config, scratch: Path | None) -> Corpus:
    path = Path(config.corpus.path)
    if scratch:
        path = on_root(ranks, lambda: open_corpus(path).path)  # check the corpus before the copy
        path = staged(ranks, path, scratch)
    return agree(ranks, lambda: open_corpus(path))


def _build_model(config: Config, corpus: Corpus, build: BuildModel | None) -> Model:
    capacity = max(config.train.minibatch, BATCH)
    if build is not None:
        return build(corpus.feature_dim, corpus.target_count, capacity)
    inputs = (2 * config.model.context + 1) * corpus.feature_dim
    widths = (inputs, *config.model.hidden, corpus.target_count)
    architecture = Architecture(widths, config.model.activation)
    if architecture.parameters >= 2**31:
        raise UserError(
            f"model.hidden = {list(config.model.hidden)}: {architecture.parameters:,} parameters; "
            "expected fewer than 2^31"
        )
    return MLP(architecture, capacity, config.model.context)


def _initial(config: Config, corpus: Corpus, model: Model, weights: Path | None) -> Vector:
    if weights is None:
        return model.initial(stream(config.train.seed, INITIAL, 0, 0))
    saved = load_model(weights)
    architecture = model.architecture if isinstance(model, MLP) else network_name(model)
    kinds = [(saved.architecture or saved.network, saved.context), (architecture, model.context)]
    if difference := saved.find_difference(corpus):
        raise UserError(f"--resume-weights: {weights} {difference}")
    if kinds[0] != kinds[1] or saved.vector.size != model.parameters:
        raise UserError(
            f"--resume-weights {weights}: {kinds[0][0]} with context {kinds[0][1]}; "
            f"this run trains {kinds[1][0]} with context {kinds[1][1]}"
        )
    return saved.vector
