"""Copies of a file on the disks of all hosts, which relieve a shared file system."""

import shutil
from pathlib import Path

from mpi4py import MPI

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import hash_file, reason, replacing
from gtcbmuf.mpi.job import agree, on_root
from gtcbmuf.mpi.topology import is_first_of_host


def staged(world: MPI.Comm, source: Path, folder: Path) -> Path:
    """Copy a file into a folder of each host; collective.

    The name of the copy contains the hash of the content. So jobs on one host may copy different
    files of one name.

    Args:
        world: all ranks.
        source: file to copy.
        folder: folder on a disk of each host.

    Returns:
        The path of the copy.

    Raises:
        CollectiveError: on all ranks, if a host cannot make the copy, or the copy differs.
    """
    refusal = f"--scratch {folder}: {source} cannot be copied there on {MPI.Get_processor_name()}"

    def hash_source() -> str:
        try:
            return hash_file(source)
        except OSError as error:
            raise UserError(f"{refusal}: {reason(error)}") from None

    digest = on_root(world, hash_source)
    copy = folder / f"{source.stem}-{digest[:16]}{source.suffix}"
    is_first = is_first_of_host(world)

    def copy_file() -> None:
        if not is_first:
            return
        try:
            with replacing(copy) as temporary:
                shutil.copyfile(source, temporary)
                if hash_file(temporary) != digest:
                    raise UserError(f"{refusal}: the copy differs from the file that rank 0 read")
        except OSError as error:
            raise UserError(f"{refusal}: {reason(error)}") from None

    agree(world, copy_file)
    return copy
