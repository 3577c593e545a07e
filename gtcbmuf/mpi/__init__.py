"""MPI: the launcher, the groups of workers, jobs that end on all ranks, collectives."""
