"""A copy of a file on a disk of each host, so that reading it does not burden a shared one."""

import shutil
from pathlib import Path

from mpi4py import MPI

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import replacing
from gtcbmuf.mpi.job import agree
from gtcbmuf.mpi.topology import is_first_of_host


def staged(world: MPI.Comm, source: Path, folder: Path) -> Path:
    """Copy a file into a folder of each host; return the path of the copy; collective.

    Raises:
        CollectiveError: on all ranks alike: it cannot be copied on some host.
    """
    first = is_first_of_host(world)
    copy = folder / source.name

    def make() -> None:
        if not first:
            return
        try:
            with replacing(copy) as beside:
                shutil.copyfile(source, beside)
        except OSError as error:
            raise UserError(
                f"--scratch {folder}: {source} cannot be copied there on "
                f"{MPI.Get_processor_name()}: {error.strerror}"
            ) from None

    agree(world, make)
    return copy
