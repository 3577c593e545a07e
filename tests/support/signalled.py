"""`gtcbmuf` with a SIGUSR1 to one rank: python tests/support/signalled.py WHEN RANK ARGUMENTS

The signal comes when the rank imports the module WHEN, or while MPI starts.
"""

import os
import signal
import subprocess
import sys
from importlib import import_module

when, rank = sys.argv[1], sys.argv[2]
sys.argv = ["gtcbmuf", *sys.argv[3:]]
own_rank = os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0"))


def send(event: str, arguments: tuple[object, ...]) -> None:
    if event != "import" or own_rank != rank:
        return
    if arguments[0] == when:
        os.kill(os.getpid(), signal.SIGUSR1)
    elif arguments[0] == "mpi4py.MPI" and when == "MPI_Init":
        subprocess.Popen(["sh", "-c", f"sleep 0.05; kill -USR1 {os.getpid()}"])


sys.addaudithook(send)
import_module("gtcbmuf.cli.main").main()
