"""The memory of workers that share ranks."""

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.memory import available_memory
from gtcbmuf.data.corpus import Corpus
from gtcbmuf.data.minibatches import WINDOW

#: Vectors (n,) of a worker: residual, model, and in parts of a vector its rows and what is late.
_VECTORS = 4
#: Bytes of a rank with all libraries, and of a worker's objects.
_RANK, _WORKER = 200e6, 100e3


def bytes_of_workers(workers: int, ranks: int, parameters: int, corpus: Corpus) -> float:
    """Estimate the memory of workers that share ranks.

    Args:
        workers, ranks: their numbers.
        parameters: n.
        corpus: the corpus. A worker copies windows of its share.

    Returns:
        Bytes of all ranks together.
    """
    window = min(len(corpus.train) / workers, WINDOW)
    of_frame = 2 * corpus.feature_dim + 16  # half floats; targets and positions
    return ranks * _RANK + workers * (_WORKER + 4 * _VECTORS * parameters + window * of_frame)


def require_memory(workers: int, ranks: int, parameters: int, corpus: Corpus) -> None:
    """Check that this machine has the memory for workers that share ranks.

    Raises:
        UserError: it has not.
    """
    needed = bytes_of_workers(workers, ranks, parameters, corpus)
    available = available_memory()
    if available is not None and needed > available:
        raise UserError(
            f"--workers {workers}: they would take about {needed / 1e9:,.1f} GB of memory, but "
            f"{available / 1e9:,.1f} GB are available; expected fewer, or a smaller model"
        )
