"""`gtcbmuf` with a fault in one rank: python tests/support/faulty.py FAULT RANK ARGUMENTS

The fault occurs in the rank's 20th step or message, or in its final test. Ranks that send damaged
messages are on a host each.
"""

import os
import signal
import sys
from typing import Any

import numpy as np

from gtcbmuf.base.arrays import Vector, Words
from gtcbmuf.cli.main import main
from gtcbmuf.core import algorithm, wire
from gtcbmuf.mpi import launcher, shared_memory
from gtcbmuf.training import worker_run

fault, rank = sys.argv[1], int(sys.argv[2])
sys.argv = ["gtcbmuf", *sys.argv[3:]]
calls = 0


def is_due() -> bool:
    """Count a call; return whether the fault occurs in this call."""
    global calls
    calls += 1
    return launcher.rank() == rank and calls == 20


def descend(self: algorithm.Descent, model: Vector, *arguments: Any) -> None:
    original_descend(self, model, *arguments)
    if is_due():
        match fault:
            case "exits":
                os._exit(0)
            case "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raises":
                raise ArithmeticError("a fault")
            case "flips a bit":
                model.view(np.uint32)[17] ^= 1


def encode(self: wire.Coder, *arguments: Any) -> Words:
    words = original_encode(self, *arguments)
    if fault == "sends a message out of bounds" and is_due():
        words[2] = 2**31
    return words


def evaluate(*arguments: Any) -> Any:
    if fault == "is told to stop in the last test" and launcher.rank() == rank:
        os.kill(os.getpid(), signal.SIGUSR1)
    return original_evaluate(*arguments)


original_descend, algorithm.Descent.__call__ = algorithm.Descent.__call__, descend
if fault.startswith("sends"):
    algorithm.Descent.__call__ = original_descend
    shared_memory.host_of_rank = lambda comm: [f"host{r}" for r in range(comm.size)]
original_encode, wire.Coder.encode = wire.Coder.encode, encode
original_evaluate, worker_run.evaluate = worker_run.evaluate, evaluate
main()
