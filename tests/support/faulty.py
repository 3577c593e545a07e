"""`gtcbmuf` with a fault in one rank: python tests/support/faulty.py FAULT RANK ARGUMENTS

The fault comes with that rank's 20th step, or with its last test.
"""

import os
import signal
import sys
from typing import Any

import numpy as np

from gtcbmuf.base.arrays import Vector, Words
from gtcbmuf.cli.main import main
from gtcbmuf.core import algorithm, wire
from gtcbmuf.mpi import launcher
from gtcbmuf.training import run

fault, rank = sys.argv[1], int(sys.argv[2])
sys.argv = ["gtcbmuf", *sys.argv[3:]]
calls = 0


def now() -> bool:
    global calls
    calls += 1
    return launcher.rank() == rank and calls == 20


def descend(self: algorithm.Descent, model: Vector, *arguments: Any) -> None:
    undisturbed(self, model, *arguments)
    if now():
        match fault:
            case "exits":
                os._exit(0)
            case "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raises":
                raise ArithmeticError("a fault")
            case "flips a bit":
                model.view(np.uint32)[17] ^= 1


def encode(self: wire.Encoder, *arguments: Any) -> Words:
    words = plain(self, *arguments)
    if fault == "sends a message out of bounds" and now():
        words[2] = 2**31
    return words


def score(*arguments: Any) -> Any:
    if fault == "is told to stop in the last test" and launcher.rank() == rank:
        os.kill(os.getpid(), signal.SIGUSR1)
    return tested(*arguments)


undisturbed, algorithm.Descent.__call__ = algorithm.Descent.__call__, descend
if fault.startswith("sends"):
    algorithm.Descent.__call__ = undisturbed
plain, wire.Encoder.encode = wire.Encoder.encode, encode
tested, run.evaluate = run.evaluate, score
main()
