"""The memory of workers that share ranks."""

import math

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.memory import available_memory
from gtcbmuf.data.corpus import Corpus
from gtcbmuf.data.minibatches import WINDOW
from gtcbmuf.training.construction import RunPlan

#: Vectors (n,) of a worker: residual, model, and in parts of a vector its rows and what is late.
_VECTORS = 4
#: Most vectors (n,) of a local optimiser, which the workers of a group on a rank share.
_OF_OPTIMISER = {"sgd": 1, "nesterov": 1, "adamw": 3}
#: Bytes of a rank with all libraries, and of a worker's objects.
_RANK, _WORKER = 200e6, 100e3


def bytes_of_workers(plan: RunPlan, parameters: int, corpus: Corpus) -> float:
    """Estimate the memory of workers that share ranks.

    Args:
        plan: the plan of the run.
        parameters: n.
        corpus: the corpus. A worker copies windows of its share.

    Returns:
        Bytes of all ranks together.
    """
    workers, ranks, groups = plan.workers, plan.ranks.size, plan.workers // plan.group_size
    optimisers = ranks + groups - math.gcd(ranks, groups)  # parts of groups on a rank
    vectors = _VECTORS * workers + _OF_OPTIMISER[plan.config.train.optimizer] * optimisers
    window = min(len(corpus.train) / workers, WINDOW)
    of_frame = 2 * corpus.feature_dim + 16  # half floats; targets and positions
    return ranks * _RANK + workers * (_WORKER + window * of_frame) + 4 * parameters * vectors


def require_memory(plan: RunPlan, parameters: int, corpus: Corpus) -> None:
    """Check that this machine has the memory for workers that share ranks.

    Raises:
        UserError: it has not.
    """
    needed = bytes_of_workers(plan, parameters, corpus)
    available = available_memory()
    if available is not None and needed > available:
        raise UserError(
            f"--workers {plan.workers}: they would take about {needed / 1e9:,.1f} GB of memory, "
            f"but {available / 1e9:,.1f} GB are available; expected fewer, or a smaller model"
        )
