"""Two-tiered distributed training: GTC in groups of MPI ranks, BMUF across the groups.

Every name here is loaded when it is first used. So a program can set the number of BLAS threads
before NumPy is loaded, and MPI starts prepared for more ranks than cores.

Examples:
    >>> import gtcbmuf
    >>> gtcbmuf.load_config("gtc-bmuf").exchange.tau
    4.0
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# With colorama installed, Numba would write an escape sequence to a terminal when it has compiled,
# and Open MPI gives every rank a terminal, even if the output goes to a file.
os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")

if TYPE_CHECKING:
    from gtcbmuf.acoustic.mlp import MLP as MLP
    from gtcbmuf.acoustic.mlp import Architecture as Architecture
    from gtcbmuf.acoustic.model import Model as Model
    from gtcbmuf.acoustic.model_file import load_model as load_model
    from gtcbmuf.acoustic.score import score as score
    from gtcbmuf.base.errors import UserError as UserError
    from gtcbmuf.config.loading import load_config as load_config
    from gtcbmuf.core.algorithm import BMUF as BMUF
    from gtcbmuf.core.algorithm import BlockFilter as BlockFilter
    from gtcbmuf.core.algorithm import DenseExchange as DenseExchange
    from gtcbmuf.core.algorithm import DenseUpdate as DenseUpdate
    from gtcbmuf.core.algorithm import Descent as Descent
    from gtcbmuf.core.algorithm import Exchange as Exchange
    from gtcbmuf.core.algorithm import GTCExchange as GTCExchange
    from gtcbmuf.core.algorithm import NoExchange as NoExchange
    from gtcbmuf.core.algorithm import NoFilter as NoFilter
    from gtcbmuf.core.algorithm import Update as Update
    from gtcbmuf.core.algorithm import Worker as Worker
    from gtcbmuf.core.checks import NotFiniteError as NotFiniteError
    from gtcbmuf.core.meter import Meter as Meter
    from gtcbmuf.core.optimisers import AdamW as AdamW
    from gtcbmuf.core.optimisers import Nesterov as Nesterov
    from gtcbmuf.core.outer_steps import DiLoCo as DiLoCo
    from gtcbmuf.core.outer_steps import SlowMo as SlowMo
    from gtcbmuf.core.signs import EFSignExchange as EFSignExchange
    from gtcbmuf.core.signs import MajorityExchange as MajorityExchange
    from gtcbmuf.core.signs import OneBitExchange as OneBitExchange
    from gtcbmuf.core.sparse_outer import SparseLoCo as SparseLoCo
    from gtcbmuf.data.corpus import open_corpus as open_corpus
    from gtcbmuf.data.corpus_writer import CorpusWriter as CorpusWriter
    from gtcbmuf.data.corpus_writer import Utterance as Utterance
    from gtcbmuf.methods.powersgd import PowerSGDExchange as PowerSGDExchange
    from gtcbmuf.methods.qsgd import QSGDExchange as QSGDExchange
    from gtcbmuf.methods.top_k import DGCExchange as DGCExchange
    from gtcbmuf.methods.top_k import TopKExchange as TopKExchange
    from gtcbmuf.mpi.job import job as job
    from gtcbmuf.mpi.topology import Topology as Topology
    from gtcbmuf.training.run import train as train
    from gtcbmuf.training.run_files import read_run as read_run

#: Where each name is. Topology comes with the algorithm, whose kernels it compiles.
_HOMES = {
    "gtcbmuf.acoustic.mlp": ("Architecture", "MLP"),
    "gtcbmuf.acoustic.model": ("Model",),
    "gtcbmuf.acoustic.model_file": ("load_model",),
    "gtcbmuf.acoustic.score": ("score",),
    "gtcbmuf.base.errors": ("UserError",),
    "gtcbmuf.config.loading": ("load_config",),
    "gtcbmuf.core.algorithm": (
        *("BMUF", "BlockFilter", "DenseExchange", "DenseUpdate", "Descent", "Exchange"),
        *("GTCExchange", "NoExchange", "NoFilter", "Topology", "Update", "Worker"),
    ),
    "gtcbmuf.core.checks": ("NotFiniteError",),
    "gtcbmuf.core.meter": ("Meter",),
    "gtcbmuf.core.optimisers": ("AdamW", "Nesterov"),
    "gtcbmuf.core.outer_steps": ("DiLoCo", "SlowMo"),
    "gtcbmuf.core.signs": ("EFSignExchange", "MajorityExchange", "OneBitExchange"),
    "gtcbmuf.core.sparse_outer": ("SparseLoCo",),
    "gtcbmuf.data.corpus": ("open_corpus",),
    "gtcbmuf.data.corpus_writer": ("CorpusWriter", "Utterance"),
    "gtcbmuf.methods.powersgd": ("PowerSGDExchange",),
    "gtcbmuf.methods.qsgd": ("QSGDExchange",),
    "gtcbmuf.methods.top_k": ("DGCExchange", "TopKExchange"),
    "gtcbmuf.mpi.job": ("job",),
    "gtcbmuf.training.run": ("train",),
    "gtcbmuf.training.run_files": ("read_run",),
}
#: Kernels of exchanges that may be loaded later, when ranks can no longer take turns.
_KERNELS = ("bucket_kernels", "low_rank", "selection", "sign_kernels")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    """Load a name (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'gtcbmuf' has no attribute {name!r}")
    from gtcbmuf.mpi import launcher

    launcher.prepare()
    if name == "Topology":
        for kernels in _KERNELS:
            importlib.import_module(f"gtcbmuf.core.{kernels}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All names, loaded or not."""
    return sorted({*globals(), *__all__})
