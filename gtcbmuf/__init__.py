"""Two-tiered distributed training: GTC in groups of MPI ranks, BMUF across the groups.

The algorithm, for your own models too, is in `gtcbmuf.algorithm`; `gtcbmuf.topology` makes the
communicators that it needs. This module imports nothing, so that the command line can set the
number of BLAS threads before NumPy is loaded.
"""

__version__ = "0.1.0"
