"""Copies of a file on the disks of all hosts, which relieve a shared file system."""

import shutil
from pathlib import Path

from mpi4py import MPI

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import replacing
from gtcbmuf.mpi.job import agree
from gtcbmuf.mpi.topology import is_first_of_host


def staged(world: MPI.Comm, source: Path, folder: Path) -> Path:
    """Copy a file into a folder of each host; collective.

    Args:
        world: all ranks.
        source: file to copy.
        folder: folder on a disk of each host.

    Returns:
        The path of the copy.

    Raises:
        CollectiveError: on all ranks, if a host cannot make the copy.
    """
    is_first = is_first_of_host(world)
    copy = folder / source.name

    def copy_file() -> None:
        if not is_first:
            return
        try:
            with replacing(copy) as temporary:
                shutil.copyfile(source, temporary)
        except OSError as error:
            raise UserError(
                f"--scratch {folder}: {source} cannot be copied there on "
                f"{MPI.Get_processor_name()}: {error.strerror}"
            ) from None

    agree(world, copy_file)
    return copy
